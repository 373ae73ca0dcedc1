"""Collects readouts that do not lie on a grid."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from pydantic import Field, model_validator

from scanside.context import Context
from scanside.errors import ScanError, ShapeError
from scanside.items import Readouts, Samples
from scanside.losses import LAST, ScanCounters
from scanside.mrd.flags import NOT_IMAGING
from scanside.mrd.header import Encoding
from scanside.outline import Outline
from scanside.scan import Scan, ScanEnd
from scanside.stage import Stage, StageConfig
from scanside.stages._trajectory import (
    Unit,
    check_dimensions,
    in_cycles_per_voxel,
    trajectory_of,
    unit_of,
)
from scanside.stages._trajectory_files import MeasuredTrajectory

__all__ = ["GatherSamples"]

_SEPARATING = ("slice", "contrast", "phase", "repetition", "set")

_Key = tuple[int, ...]


@dataclass
class _Held:
    """Readouts of an image, or of all images of a series that share them."""

    blocks: list[Readouts] = field(default_factory=list)
    n: int = 0
    n_new: int = 0
    n_given: int = 0

    def add(self, block: Readouts) -> None:
        """Take a block, copied: the receiver uses its memory again."""
        self.blocks.append(block.copy())
        self.n += len(block)
        self.n_new += len(block)

    def latest(self, n: int) -> list[Readouts]:
        """The last readouts, in their order; what lies before them is forgotten."""
        while self.n - len(self.blocks[0]) >= n:
            self.n -= len(self.blocks.pop(0))
        surplus = self.n - n
        return [self.blocks[0].select(slice(surplus, None)), *self.blocks[1:]]


class GatherSamples(Stage[Readouts, Samples]):
    """Collects spokes, spiral arms or whatever readouts carry their trajectory, and gives the `Samples` of an image.

    An image ends with a readout flagged LAST_IN_SLICE, LAST_IN_REPETITION or LAST_IN_MEASUREMENT, by a later
    repetition of its slice, or with the scan. With `readouts`, images come by number instead: of the latest so many
    readouts of a slice, after every `step` of them (a sliding window, as for golden angles); repetitions and phases
    are then one series.

    What the readouts carry is brought to cycles per voxel of the recon space, whose matrix and field of view the
    image has. Of slices two dimensions count; a third one that is not zero is left out with a warning, as some
    converters put the density compensation there. Of volumes (encoded matrix z above 1) three do, or two with the
    partition counter: a stack of stars. A third one without both signs is not kz: where it is zero the partition
    counter serves, else it is refused.

    Lines that were lost, as scan counters or the number of readouts tell, are told to the operator, and the image
    says so.
    """

    class Config(StageConfig):
        """Settings.

        Attributes:
            readouts: of each image, for a sliding window; None for images by flags and counters.
            step: readouts from one image to the next; by default `readouts`.
            unit: of the trajectory, see `scanside.stages._trajectory.unit_of`: by default told by how far it reaches.
            trajectory: HDF5 file of a trajectory that was measured, which takes the place of what readouts carry:
                ``trajectory`` (readout, sample, 2 or 3) in the unit that its attribute ``unit`` names, and counters
                (readout) such as ``kspace_encode_step_1``, by which readouts are found.
            incomplete: an image of a scan that ended early is ``withhold`` (and the operator told), or made and
                marked.
        """

        readouts: int | None = Field(None, ge=2)
        step: int | None = Field(None, ge=1)
        unit: Literal["auto"] | Unit = "auto"
        trajectory: Path | None = None
        incomplete: Literal["withhold", "mark"] = "withhold"

        @model_validator(mode="after")
        def _fits(self) -> GatherSamples.Config:
            if self.step is not None and self.readouts is None:
                raise ValueError(
                    "step counts readouts between images of a sliding window: set readouts as well"
                )
            return self

    config: Config

    def prepare(self, context: Context) -> None:
        """Choose the device on which samples are handed on; read the trajectory's file."""
        self._device = context.torch_device
        measured = self.config.trajectory
        self._measured = None if measured is None else MeasuredTrajectory.load(measured)

    def foresee(self, outline: Outline) -> Outline:
        """Readouts with a trajectory in a unit that can be told, and enough of them for a window."""
        encoding, wanted = outline.encoding, self.config.readouts
        if self.config.trajectory is None:
            try:
                check_dimensions(outline.n_dimensions, encoding, "readouts carry")
                unit_of(outline.reach or 0.0, encoding, self.config.unit)
            except ScanError as error:
                return outline.refused(str(error))
        if wanted is not None and outline.n_readouts < wanted:
            return outline.refused(
                f"a film has {outline.n_readouts} readouts, and gather.readouts wants {wanted} for an image"
            )
        return outline

    def open(self, scan: Scan) -> None:
        """A new scan: nothing is held."""
        self._scan = scan
        self._held: OrderedDict[_Key, _Held] = OrderedDict()
        self._counters = ScanCounters()
        self._most: dict[int, int] = {}
        self._unit: dict[int, Unit] = {}
        sliding = self.config.readouts is not None
        self._names = ("slice", "contrast", "set") if sliding else _SEPARATING

    def process(self, item: Readouts) -> Iterator[Samples]:
        """Take a block; give the images that it finishes."""
        self._counters.follow(item.headers["scan_counter"])
        imaging = (item.headers["flags"] & np.uint64(int(NOT_IMAGING))) == 0
        if not imaging.all():
            item = item.select(imaging)
        keys = [self._key(header) for header in item.headers]
        is_last = (item.headers["flags"] & np.uint64(LAST)) != 0
        start = 0
        for end in range(1, len(item) + 1):
            key = keys[start]
            step = self._left(key) if self.config.readouts is not None else end - start
            if end < len(item) and keys[end] == key and not is_last[end - 1] and end - start < step:
                continue
            yield from self._moved_on(key)
            held = self._held.setdefault(key, _Held())
            if held.blocks and held.blocks[-1].samples.shape[1:] != item.samples.shape[1:]:
                now, before = item.samples.shape[1:], held.blocks[-1].samples.shape[1:]
                raise ShapeError(
                    f"a readout of {now[0]} coils × {now[1]} samples came (scan counter "
                    f"{int(item.headers['scan_counter'][start])}) after others of {before[0]} × {before[1]}: those "
                    "of an image must be alike"
                )
            held.add(item.select(slice(start, end)))
            if self.config.readouts is not None:
                if not self._left(key):
                    yield self._window(key, held)
            elif is_last[end - 1]:
                yield self._whole(key)
            start = end

    def finish(self, end: ScanEnd) -> Iterator[Samples]:
        """Give what no flag has finished; of a sliding window nothing is left that an image could be made of."""
        for key, held in list(self._held.items()):
            if self.config.readouts is not None:
                if not held.n_given:
                    self._scan.warn(
                        f"{held.n} readouts of {self._describe(key)} came, and gather.readouts wants "
                        f"{self.config.readouts} for an image: none was made"
                    )
                continue
            if not end.complete:
                came = f"{held.n} readouts of {self._describe(key)} had come"
                why = f"{end.reason or 'the scan ended early'}; {came}"
                if self.config.incomplete == "withhold":
                    self._scan.warn(f"an incomplete image is withheld: {why}")
                    continue
                yield self._whole(key, why)
            else:
                yield self._whole(key)

    def close(self) -> None:
        """Forget the scan's readouts."""
        self._held = OrderedDict()

    def _key(self, header: np.void) -> _Key:
        return (int(header["encoding_space_ref"]), *(int(header["idx"][name]) for name in self._names))

    def _describe(self, key: _Key) -> str:
        return ", ".join(f"{name} {value}" for name, value in zip(self._names, key[1:], strict=True))

    def _left(self, key: _Key) -> int:
        """Readouts until the next image of a sliding window."""
        assert self.config.readouts is not None
        held = self._held.get(key, _Held())
        if not held.n_given:
            return self.config.readouts - held.n
        return (self.config.step or self.config.readouts) - held.n_new

    def _moved_on(self, key: _Key) -> Iterator[Samples]:
        """Finish the earlier repetitions of a slice when a later one begins."""
        if self.config.readouts is not None or key in self._held:
            return
        at = 1 + self._names.index("repetition")
        for other in list(self._held):
            if other[at] < key[at] and other[:2] == key[:2]:
                yield self._whole(other)

    def _window(self, key: _Key, held: _Held) -> Samples:
        assert self.config.readouts is not None
        blocks = held.latest(self.config.readouts)
        held.n_new, held.n_given = 0, held.n_given + 1
        counters = dict(zip(self._names, key[1:], strict=True)) | {"repetition": held.n_given - 1}
        return self._samples(key, blocks, counters, None)

    def _whole(self, key: _Key, incomplete: str | None = None) -> Samples:
        held = self._held.pop(key)
        counters = dict(zip(self._names, key[1:], strict=True))
        most = self._most.get(key[0], 0)
        self._most[key[0]] = max(most, held.n)
        if incomplete is None and held.n < most:
            incomplete = f"{held.n} readouts came of {self._describe(key)}, and {most} of an image before"
            self._scan.warn(incomplete)
        return self._samples(key, held.blocks, counters, incomplete)

    def _samples(
        self, key: _Key, blocks: list[Readouts], counters: dict[str, int], incomplete: str | None
    ) -> Samples:
        encoding = self._scan.encoding(key[0])
        headers = np.concatenate([block.headers for block in blocks])
        first, last = int(headers["scan_counter"][0]), int(headers["scan_counter"][-1])
        if incomplete is None and (gaps := self._counters.gaps(first, last, last_came=True)):
            n = sum(after - before - 1 for before, after in gaps)
            incomplete = f"{n} readouts of {self._describe(key)} were lost after scan counter {gaps[0][0]}"
            self._scan.warn(incomplete)
        points = self._points(blocks, encoding)
        samples = np.concatenate([block.samples for block in blocks])
        used = _used(headers[0], samples.shape[-1])
        data = torch.from_numpy(np.ascontiguousarray(samples[..., used].swapaxes(0, 1)))
        return Samples(
            data=data.to(self._device),
            points=torch.from_numpy(np.ascontiguousarray(points[:, used])).to(self._device),
            headers=headers[None],
            encoding=encoding,
            matrix=encoding.recon.matrix,
            field_of_view_mm=encoding.recon.field_of_view_mm,
            counters=counters,
            incomplete=incomplete,
        )

    def _points(
        self, blocks: list[Readouts], encoding: Encoding
    ) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
        """The trajectory of an image in cycles per voxel, ``(n, sample, 2 or 3)``."""
        measured = self._measured
        carried = [trajectory_of(one, encoding) if measured is None else measured.of(one) for one in blocks]
        if len(dimensions := {one.shape[-1] for one in carried}) > 1:
            raise ShapeError(
                f"readouts of an image carry trajectories of {' and '.join(map(str, sorted(dimensions)))} "
                "dimensions: those of an image must be alike"
            )
        trajectory = np.concatenate(carried)
        k2 = np.concatenate([block.headers["idx"]["kspace_encode_step_2"] for block in blocks])
        if encoding.index not in self._unit:
            in_plane = float(np.abs(trajectory[..., :2]).max())
            asked = self.config.unit if measured is None else measured.unit
            self._unit[encoding.index] = unit_of(in_plane, encoding, asked)
        volume = encoding.encoded.matrix[2] > 1
        n = 3 if trajectory.shape[-1] > 2 and self._has_kz(trajectory, k2, volume=volume) else 2
        points = in_cycles_per_voxel(trajectory, self._unit[encoding.index], encoding, n)
        if volume and n == 2:
            partition = k2.astype(np.float32) - encoding.limit("kspace_encode_step_2").center
            kz = partition / encoding.encoded.field_of_view_mm[2] * encoding.recon.voxel_mm[2]
            along = np.broadcast_to(kz[:, None, None], (*points.shape[:2], 1))
            points = np.concatenate([points, along.astype(np.float32)], axis=-1)
        if (reach := float(np.abs(points).max())) > _EDGE:
            raise ScanError(
                f"the trajectory reaches {reach:.3g} cycles per voxel of the recon space, which shows none beyond "
                "0.5: the recon space of the header has larger voxels than were measured; mend it"
            )
        return np.clip(points, -0.5, 0.5)

    def _has_kz(
        self,
        trajectory: np.ndarray[tuple[int, ...], np.dtype[np.float32]],
        k2: np.ndarray[tuple[int, ...], np.dtype[np.uint16]],
        *,
        volume: bool,
    ) -> bool:
        """Whether the third dimension of a trajectory is kz: converters also put the density compensation there."""
        third = trajectory[..., 2]
        lowest, highest = float(third.min()), float(third.max())
        if not volume:
            if lowest or highest:
                self._scan.warn(
                    "the trajectory of slices has a third dimension that is not zero, as where converters put the "
                    "density compensation: it is left out, and density compensation is computed"
                )
            return False
        if lowest < 0:
            return True
        n_partitions = len(np.unique(k2))
        if highest > 0 or n_partitions == 1:
            raise ScanError(
                f"the third dimension of the trajectory of a volume goes from {lowest:.3g} to {highest:.3g}, and kz "
                "has both signs: where it is the density compensation, leave it out of what the converter writes, "
                "and count the partitions (kspace_encode_step_2)"
            )
        self._scan.warn(
            f"the third dimension of the trajectory is zero, and readouts are counted in {n_partitions} partitions: "
            "these tell kz"
        )
        return False


_EDGE = 0.505


def _used(header: np.void, n: int) -> slice:
    """Samples that are not announced for discarding."""
    return slice(int(header["discard_pre"]), n - int(header["discard_post"]))
