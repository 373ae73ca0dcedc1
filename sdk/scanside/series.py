"""Numbers of image series, and of the images in them.

Images of different matrix, voxel size or encoding space never share a series.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from scanside.items import Image

__all__ = ["MAPS_BEHIND", "ImageNumbers", "SeriesNumbers", "grid_of"]

MAPS_BEHIND = 40
"""From series numbers of images to those of their maps; in DICOM a measurement has no more than 49 series."""

_COUNTERS = ("slice", "contrast", "phase", "set", "repetition", "average")
"""Counters that an image's number is made of, the fastest first."""
_N_NUMBERS = 1 << 16  # MRD headers hold 16 bits
_MICROMETRES = 3  # decimals of a length in mm: headers round


def grid_of(image: Image) -> tuple[Hashable, ...]:
    """Matrix and field of view of an image, as a key that rounding does not change."""
    field_of_view = (round(float(length), _MICROMETRES) for length in image.header["field_of_view"])
    return (*image.data.shape[1:], *field_of_view)


class SeriesNumbers:
    """Gives every kind of image a series number of its own, in the order in which they come."""

    def __init__(self) -> None:
        self._numbers: dict[Hashable, int] = {}

    def of(self, image: Image, first: int, step: int = 1, branch: int = 0) -> int:
        """The number of the series that an image belongs to.

        Args:
            image: or a map that belongs to one.
            first: wanted for images of encoding space 0.
            step: from one encoding space to the next.
            branch: images of different branches never share a series.
        """
        space = 0 if image.encoding is None else image.encoding.index
        wanted = first + step * space + (MAPS_BEHIND if image.what != "image" else 0)
        return self.number((branch, space, grid_of(image), image.what), wanted)

    def number(self, kind: Hashable, wanted: int) -> int:
        """The number of a kind: always the same, and that of no other.

        Args:
            kind: what tells images of one series from those of others.
            wanted: its number; where another kind has it, the next free one is taken.
        """
        if kind not in self._numbers:
            taken = set(self._numbers.values())
            self._numbers[kind] = next(
                number for step in range(_N_NUMBERS) if (number := (wanted + step) % _N_NUMBERS) not in taken
            )
        return self._numbers[kind]


class ImageNumbers:
    """Gives every image of a series its number, from 1: the one that Gadgetron's generic chains would give it.

    It follows from the image's counters and the header's limits, the slice running fastest, in steps of the image's
    channels and partitions; in whatever order slices come, a host sorts them. An image whose counters the header does
    not announce, or whose number another has, gets the next one behind all that are announced; where the header
    announces more images than numbers, they are numbered as they come.
    """

    def __init__(self) -> None:
        self._given: dict[int, set[int]] = {}
        self._behind = 0

    def number(self, image: Image) -> int:
        """The number of an image in the series that its header names."""
        given = self._given.setdefault(int(image.header["image_series_index"]), set())
        number, announced = self._announced(image)
        if number is None or number in given:
            self._behind = max(self._behind, announced) + 1
            while self._behind in given:
                self._behind += 1
            number = self._behind
        number %= _N_NUMBERS
        given.add(number)
        return number

    @staticmethod
    def _announced(image: Image) -> tuple[int | None, int]:
        """Number from the counters, None where they do not give one, and the largest that any image may have."""
        if image.encoding is None:
            return int(image.header["image_index"]) or None, 0
        step, number, beyond = image.data.shape[0] * image.data.shape[1], 1, False
        for name in _COUNTERS:
            value, size = int(image.header[name]), max(1, image.encoding.limit(name).maximum + 1)
            beyond |= value >= size
            number += step * value
            step *= size
        if step >= _N_NUMBERS:
            return None, 0
        return None if beyond else number, step
