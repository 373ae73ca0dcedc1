"""Instance numbers in the order in which a viewer is to scroll: by position, then by the other counters.

Slices come in any order, and where each lies is known when it has come. So the images of a series wait until every
slice that the header announces has come once, or to the scan's end where it announces none; from then on each has its
number as it comes. What the header does not announce is numbered behind all that it does.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import prod

import numpy as np

from scanside.dicom._pydicom import Dataset
from scanside.mrd.geometry import Geometry
from scanside.mrd.header import Encoding

__all__ = ["InstanceOrder", "Placed"]

_COUNTERS = ("average", "repetition", "set", "phase", "contrast")
"""Those that change where a viewer stays in place, the slowest first."""
_LARGEST = 2**31 - 1


@dataclass(frozen=True, slots=True, eq=False)
class Placed:
    """The instances of one image, and what decides about their numbers.

    Attributes:
        instances: channel by channel, and of each slice by slice, without numbers.
        shape: how many channels and slices.
        counters: of the image.
        geometry: of the image.
    """

    instances: list[Dataset]
    shape: tuple[int, int]
    counters: Mapping[str, int]
    geometry: Geometry


class InstanceOrder:
    """Numbers the instances of one series.

    Args:
        encoding: encoding space of its images.
    """

    def __init__(self, encoding: Encoding) -> None:
        slices = encoding.limits.get("slice")
        self._n_slices = None if slices is None else slices.n
        self._announced = {name: max(1, encoding.limit(name).maximum + 1) for name in _COUNTERS}
        self._waiting: list[Placed] = []
        self._places: dict[int, int] | None = None
        self._shape = (1, 1)
        self._given: set[int] = set()
        self._total = 0

    def add(self, image: Placed) -> Iterator[Dataset]:
        """Take an image; gives the instances whose numbers are known with it."""
        if self._places is not None:
            yield from self._numbered(image)
            return
        self._waiting.append(image)
        if self._n_slices is None or len({one.counters["slice"] for one in self._waiting}) < self._n_slices:
            return
        self._places = _places(self._waiting)
        self._shape = image.shape
        self._total = len(self._places) * prod(self._announced.values()) * prod(self._shape)
        if self._total > _LARGEST:
            self._total, self._places = 0, {}  # numbers in the order in which images come
        waiting, self._waiting = self._waiting, []
        for one in waiting:
            yield from self._numbered(one)

    def finish(self) -> Iterator[Dataset]:
        """The instances that wait, in the order in which they came: no more will come, and no number is left out."""
        waiting, self._waiting = self._waiting, []
        places = _places(waiting)
        keys = [
            (places[image.counters["slice"]], z, *(image.counters[name] for name in _COUNTERS), channel, i)
            for i, image in enumerate(waiting)
            for channel, z in np.ndindex(image.shape)
        ]
        ranks = {key: rank for rank, key in enumerate(sorted(keys), 1)}
        instances = (instance for image in waiting for instance in image.instances)
        for instance, key in zip(instances, keys, strict=True):
            instance.InstanceNumber = ranks[key]
            yield instance

    def _numbered(self, image: Placed) -> Iterator[Dataset]:
        for instance, (channel, z) in zip(image.instances, np.ndindex(image.shape), strict=True):
            number = self._number(image, channel, z)
            if number is None or number in self._given:
                number = self._total = self._total + 1
            self._given.add(number)
            instance.InstanceNumber = number
            yield instance

    def _number(self, image: Placed, channel: int, z: int) -> int | None:
        """Number by position and counters; None for what was not announced."""
        assert self._places is not None
        place = self._places.get(image.counters["slice"])
        beyond = any(image.counters[name] >= size for name, size in self._announced.items())
        if place is None or beyond or image.shape != self._shape:
            return None
        n_channels, n_z = self._shape
        number = place * n_z + z
        for name, size in self._announced.items():
            number = number * size + image.counters[name]
        return number * n_channels + channel + 1


def _places(images: list[Placed]) -> dict[int, int]:
    """Place of each slice along the slice normal, from 0; stacks of other directions come one behind the other."""
    first: dict[int, Geometry] = {}
    for image in images:
        first.setdefault(image.counters["slice"], image.geometry)
    stacks: dict[tuple[float, ...], int] = {}
    keys = {}
    for number, geometry in sorted(first.items(), key=lambda one: one[0]):
        direction = tuple(np.round(geometry.slice_dir, 3).tolist())
        along = round(geometry.slice_offset_mm, 3)
        keys[number] = (stacks.setdefault(direction, len(stacks)), along, number)
    return {number: place for place, number in enumerate(sorted(keys, key=keys.__getitem__))}
