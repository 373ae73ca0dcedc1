"""Collects readouts into k-space."""

from __future__ import annotations

import logging
import math
from collections import Counter, OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch

from scanside.context import Context
from scanside.errors import CounterError, NonFiniteError, ScanError, ShapeError
from scanside.items import AxisRange, KSpace, Readouts
from scanside.mrd.dtypes import ACQUISITION_HEADER, Headers
from scanside.mrd.flags import NOT_IMAGING, AcquisitionFlag, flagged, names
from scanside.mrd.header import Encoding
from scanside.scan import Scan, ScanEnd
from scanside.stage import Stage, StageConfig
from scanside.stages._lines import different_layout, readout_grid, straighten
from scanside.stages._losses import ScanCounters, missing_lines

__all__ = ["Accumulate"]

logger = logging.getLogger(__name__)

CounterName = Literal["slice", "contrast", "phase", "repetition", "set", "average"]
_SEPARATING: tuple[CounterName, ...] = ("slice", "contrast", "phase", "repetition", "set")
_CALIBRATION = AcquisitionFlag.PARALLEL_CALIBRATION
_CALIBRATION_TOO = AcquisitionFlag.PARALLEL_CALIBRATION_AND_IMAGING
_LAST = (
    AcquisitionFlag.LAST_IN_SLICE,
    AcquisitionFlag.LAST_IN_REPETITION,
    AcquisitionFlag.LAST_IN_MEASUREMENT,
)
_FIRST = (AcquisitionFlag.FIRST_IN_SLICE, AcquisitionFlag.FIRST_IN_REPETITION)
_HEADER_BYTES = np.dtype((np.void, ACQUISITION_HEADER.itemsize))
_LISTED = 12  # so many lost lines are told by their counters
_TOLD = 8  # so many damaged k-spaces are told one by one
_REMEMBERED = 4096  # finished k-spaces that are known as such, to catch late lines in an endless series

# What a run of readouts is for.
_IMAGING, _CALIBRATING, _KEPT_OUT = 0, 1, 2


class Accumulate(Stage[Readouts, KSpace]):
    """Puts every line where its counters say and gives a `KSpace` when its last line has come.

    The line with phase-encoding counter i goes to row i − center + N // 2 of the encoded matrix, with the
    center from the encoding limits; partitions and samples likewise. Readouts that come again for the same
    place (averages, or repeated lines) are averaged. Segments fill the same k-space.

    A k-space is finished by a readout with the flag LAST_IN_SLICE, LAST_IN_REPETITION or LAST_IN_MEASUREMENT
    (of the last average and segment that the header announces), by a later repetition of the same slice, or
    by the end of the scan. A line that comes later for the same counters begins a new one if it is flagged
    FIRST_IN_SLICE or FIRST_IN_REPETITION, and is an error otherwise.

    Calibration lines: where the header calls the calibration embedded, they are lines of the image as well;
    otherwise lines flagged as calibration only are kept apart, and serve all repetitions and phases of their
    slice; where several sets or contrasts share one calibration, that of the most similar counters is taken.
    `KSpace.reference` is the smallest box that holds the calibration lines.

    Lines that were lost on the way (`scanside.stages._losses` says how that is found out) are told to the
    operator by their counters, and their k-space goes on with `KSpace.incomplete` set, so that its images say so.
    """

    class Config(StageConfig):
        """Settings.

        Attributes:
            together: counters that become leading axes of the k-space instead of k-spaces of their own.
            averages: ``mean`` averages them as they come, ``separate`` keeps a k-space for each.
            trigger: ``slice`` as described above, ``measurement`` gives everything at the end.
            keep_out: flags of readouts that are no lines of an image.
            incomplete: k-space of a scan that ended early is ``withhold`` (and the operator told), or goes
                on as ``mark``, so that its images say so.
            readout_grid: length of the readout axis: that of the ``encoded`` matrix, that with the readout
                oversampling ``removed``, or ``auto``: the shorter of them that holds the readouts.
        """

        together: tuple[CounterName, ...] = ()
        averages: Literal["mean", "separate"] = "mean"
        trigger: Literal["slice", "measurement"] = "slice"
        keep_out: tuple[str, ...] = tuple(names(int(NOT_IMAGING)))
        incomplete: Literal["withhold", "mark"] = "withhold"
        readout_grid: Literal["auto", "encoded", "removed"] = "auto"

    config: Config

    def __init__(self, config: StageConfig | None = None, **settings: Any) -> None:
        super().__init__(config, **settings)
        separating = (*_SEPARATING, "average") if self.config.averages == "separate" else _SEPARATING
        self._key_names = tuple(name for name in separating if name not in self.config.together)
        self._keep_out = _combined(self.config.keep_out)
        self._device = torch.device("cpu")

    def prepare(self, context: Context) -> None:
        """Choose the device on which k-space is handed on."""
        self._device = context.torch_device

    def open(self, scan: Scan) -> None:
        """A new scan: nothing is held."""
        self._scan = scan
        self._open: OrderedDict[_Key, _Grid] = OrderedDict()
        self._calibrating: dict[_Key, _Grid] = {}
        self._finished: OrderedDict[_Key, None] = OrderedDict()
        self._dropped: Counter[str] = Counter()
        self._counters = ScanCounters()
        self._n_flagged = 0
        self._n_damaged = 0

    def process(self, item: Readouts) -> Iterator[KSpace]:
        """Place a block's lines; give each k-space that they finish."""
        headers = item.headers
        if not len(headers):
            return
        self._counters.follow(headers["scan_counter"])
        kinds = self._kinds(headers)
        keys = self._keys(headers, kinds)
        last = flagged(headers["flags"], *_LAST)
        # A run ends where the key or the place of the samples changes, and after a line that may be the last of
        # its k-space.
        changes = (keys[1:] != keys[:-1]).any(axis=1) | different_layout(headers) | last[:-1]
        ends = np.flatnonzero(np.append(changes, True)) + 1
        start = 0
        for end in ends.tolist():
            run = item.select(slice(start, end))
            kind, key = int(kinds[start]), tuple(keys[start].tolist())
            start = end
            if kind == _KEPT_OUT:
                self._dropped.update(names(int(run.headers["flags"][0]) & self._keep_out))
                continue
            encoding = self._scan.encoding(key[0])
            if kind == _CALIBRATING and encoding.calibration_mode != "embedded":
                self._calibration_grid(key, encoding, run).place(run)
                continue
            yield from self._moved_on(key)
            grid = self._grid(key, encoding, run)
            grid.place(run)
            if encoding.calibration_mode != "embedded":
                also = flagged(run.headers["flags"], _CALIBRATION_TOO)
                if also.any():
                    self._calibration_grid(key, encoding, run).place(run.select(also))
            if last[end - 1] and self._is_last(run.headers[-1], encoding, grid):
                self._n_flagged += 1
                yield self._finish(key, last_came=True)

    def finish(self, end: ScanEnd) -> Iterator[KSpace]:
        """Give what no flag has finished: complete if the scan is, else by the policy for incomplete data."""
        if self._dropped:
            counts = ", ".join(f"{n} runs of {name}" for name, n in self._dropped.items())
            logger.info("kept out of the images: %s", counts)
        for key in list(self._open):
            grid = self._open[key]
            if end.complete:
                yield self._finish(key)
                continue
            n_lines = int((grid.counts > 0).sum())
            which = _describe(key, self._key_names)
            why = f"{end.reason or 'the scan ended early'}; {n_lines} lines of {which} had come"
            if self.config.incomplete == "withhold":
                self._scan.warn(f"an incomplete image is withheld: {why}")
                del self._open[key]
            else:
                yield self._finish(key, incomplete=why)

    def close(self) -> None:
        """Forget the scan's lines."""
        self._open = OrderedDict()
        self._calibrating = {}

    def _kinds(self, headers: Headers) -> npt.NDArray[np.int64]:
        flags = headers["flags"]
        kinds = np.where(
            flagged(flags, _CALIBRATION) & ~flagged(flags, _CALIBRATION_TOO), _CALIBRATING, _IMAGING
        )
        return np.where(flags & np.uint64(self._keep_out) != 0, _KEPT_OUT, kinds)

    def _keys(self, headers: Headers, kinds: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """One row per readout: encoding space, the separating counters, and what the readout is for."""
        columns = [headers["encoding_space_ref"], *(headers["idx"][name] for name in self._key_names), kinds]
        return np.stack([column.astype(np.int64) for column in columns], axis=1)

    def _moved_on(self, key: _Key) -> Iterator[KSpace]:
        """Finish the earlier repetitions of a slice when a later one begins."""
        if self.config.trigger != "slice" or "repetition" not in self._key_names or key in self._open:
            return
        at = 1 + self._key_names.index("repetition")
        slice_at = [1 + i for i, name in enumerate(self._key_names) if name == "slice"]
        for other in list(self._open):
            if other[at] < key[at] and all(other[i] == key[i] for i in (0, *slice_at)):
                yield self._finish(other)

    def _is_last(self, header: np.void, encoding: Encoding, grid: _Grid) -> bool:
        """Whether a readout with a LAST flag is the last of its k-space."""
        if self.config.trigger != "slice":
            return False
        idx = header["idx"]
        awaited = ("segment", "average") if self.config.averages == "mean" else ("segment",)
        if any(int(idx[name]) < encoding.limit(name).maximum for name in awaited):
            return False
        # Frames that are kept together may end in any order, such as interleaved slices do.
        grid.ended.add(tuple(int(idx[name]) for name in self.config.together))
        return len(grid.ended) >= grid.n_frames

    def _grid(self, key: _Key, encoding: Encoding, run: Readouts) -> _Grid:
        # Calibration lines of an embedded scan belong to the image: what they are for is not part of its key.
        key = (*key[:-1], _IMAGING)
        if key in self._finished and not flagged(run.headers["flags"][:1], *_FIRST).any():
            raise ScanError(
                f"a line came for {_describe(key, self._key_names)} after its last line had come (scan "
                f"counter {int(run.headers['scan_counter'][0])}): the LAST flags of this scan are not reliable; "
                "set accumulate.trigger to 'measurement'"
            )
        if key not in self._open:
            self._open[key] = self._new_grid(encoding, run)
        return self._open[key]

    def _calibration_grid(self, key: _Key, encoding: Encoding, run: Readouts) -> _Grid:
        serves = _calibration_key(key, self._key_names)
        grid = self._calibrating.get(serves)
        if grid is None or grid.handed_out:
            grid = self._calibrating[serves] = self._new_grid(encoding, run)
        return grid

    def _calibration_for(self, key: _Key) -> _Grid | None:
        """Calibration lines that serve a k-space: those of the same slice with the most similar counters."""
        wanted = _calibration_key(key, self._key_names)
        same_slice = [other for other in self._calibrating if other[:2] == wanted[:2]]
        best = max(
            same_slice, key=lambda other: [a == b for a, b in zip(wanted, other, strict=True)], default=None
        )
        return None if best is None else self._calibrating[best]

    def _new_grid(self, encoding: Encoding, run: Readouts) -> _Grid:
        if encoding.trajectory not in ("cartesian", "epi"):
            raise ScanError(
                f"encoding space {encoding.index} has a {encoding.trajectory} trajectory; this stage grids "
                "Cartesian lines only"
            )
        if encoding.trajectory == "epi":
            self._scan.warn(
                "EPI lines are placed as they are: ghosts and ramp sampling are not corrected, put a stage that does "
                "so before 'accumulate'"
            )
        return _Grid(self._scan, encoding, self.config, run, pinned=self._device.type == "cuda")

    def _finish(self, key: _Key, *, last_came: bool = False, incomplete: str | None = None) -> KSpace:
        key = (*key[:-1], _IMAGING)
        grid = self._open.pop(key)
        self._finished[key] = None
        while len(self._finished) > _REMEMBERED:
            self._finished.popitem(last=False)
        kspace = grid.to_kspace(self._device)
        kspace.counters = dict(zip(self._key_names, key[1:-1], strict=True))
        kspace.incomplete = incomplete or self._losses(key, grid, last_came)
        calibrating = self._calibration_for(key)
        if calibrating is not None:
            calibrating.handed_out = True
            kspace.reference = calibrating.reference(self._device, everything=True)
        else:
            kspace.reference = grid.reference(self._device, everything=False)
        return kspace

    def _losses(self, key: _Key, grid: _Grid, last_came: bool) -> str | None:
        """What is missing of a k-space, told to the operator too."""
        # Some producers never flag a last line: then its absence says nothing.
        unflagged = self._n_flagged > 0 and self.config.trigger == "slice" and not last_came
        found = grid.losses(self._counters, last_came=last_came, expect_last=unflagged)
        if not found:
            return None
        what = f"{_describe(key, self._key_names)}: {'; '.join(found)}"
        self._n_damaged += 1
        if self._n_damaged <= _TOLD:
            self._scan.warn(f"lines were lost: {what}")
        elif self._n_damaged == _TOLD + 1:
            self._scan.warn("lines were lost in more images than are told here; each of them says so")
        return f"lines were lost: {what}"


_Key = tuple[int, ...]


def _combined(flag_names: tuple[str, ...]) -> int:
    known = AcquisitionFlag.__members__
    for name in flag_names:
        if name not in known:
            raise ScanError(f"accumulate.keep_out: there is no flag {name!r}; known are {', '.join(known)}")
    return sum(int(known[name]) for name in set(flag_names))


def _calibration_key(key: _Key, key_names: tuple[str, ...]) -> _Key:
    """What calibration lines are kept by: they serve every repetition and average."""
    values = dict(zip(key_names, key[1:-1], strict=True))
    return (key[0], *(values.get(name, 0) for name in ("slice", "contrast", "set", "phase")))


def _describe(key: _Key, key_names: tuple[str, ...]) -> str:
    return ", ".join(f"{name} {value}" for name, value in zip(key_names, key[1:], strict=False))


@dataclass(slots=True)
class _Axis:
    """Where a counter's lines lie on the grid."""

    counter: str
    minimum: int
    maximum: int
    offset: int  # grid index = counter + offset
    length: int


class _Grid:
    """The grid of one k-space while its lines come in."""

    def __init__(
        self,
        scan: Scan,
        encoding: Encoding,
        config: Accumulate.Config,
        first: Readouts,
        *,
        pinned: bool,
    ) -> None:
        self._scan = scan
        self._encoding = encoding
        self._together = config.together
        self._k1 = _phase_axis(scan, encoding, "kspace_encode_step_1", 1, first)
        self._k2 = _phase_axis(scan, encoding, "kspace_encode_step_2", 2, first)
        self._n0, self._extent_x = readout_grid(encoding, straighten(first), config.readout_grid)
        others = tuple(encoding.limit(name).n for name in self._together)
        n_coils = first.samples.shape[1]
        # Not filled with zeros: most lines will be overwritten, and those that do not come are cleared at the end.
        shape = (*others, n_coils, self._k2.length, self._k1.length, self._n0)
        # From NumPy on the CPU: torch asks for aligned memory, and the C library does not find the exactly fitting
        # block of the frame before again for such a request, so that an endless series would take twice the memory.
        self._tensor = (
            torch.empty(shape, dtype=torch.complex64, pin_memory=True)
            if pinned
            else torch.from_numpy(np.empty(shape, np.complex64))
        )
        self._data = self._tensor.numpy()
        lines = (*others, self._k2.length, self._k1.length)
        self.counts = np.zeros(lines, np.int32)
        self._headers = np.zeros(lines, first.headers.dtype)
        self._first, self._last = self._n0, -1
        self.handed_out = False
        self.ended: set[tuple[int, ...]] = set()
        self._completed = False
        self._reference: KSpace | None = None

    @property
    def n_frames(self) -> int:
        """How many frames are kept together."""
        return math.prod(self.counts.shape[:-2])

    def place(self, run: Readouts) -> None:
        """Put lines on the grid; those that came before for the same place are summed, to be averaged."""
        run = straighten(run)
        at = (*self._other_indices(run.headers), *self._line_indices(run.headers))
        a = self._sample_offset(run)
        b = a + run.samples.shape[2]
        self._first, self._last = min(self._first, a), max(self._last, b - 1)
        for lines, which in _lines(at):
            came = self.counts[lines] > 0
            if came.any():
                if not came.all():
                    # Some of them come for the first time, and their memory has not been cleared.
                    self._data[_all_coils(lines)][:, ~came] = 0
                self._data[_all_coils(lines)][..., a:b] += run.samples[which].transpose(1, 0, 2)
                self.counts[lines] += 1
            else:
                self._assign(lines, a, b, run.samples[which])
                self.counts[lines] = 1
            # Structures are copied field by field, opaque bytes at once.
            self._headers.view(_HEADER_BYTES)[lines] = run.headers[which].view(_HEADER_BYTES)

    def _assign(self, lines: _Lines, a: int, b: int, samples: npt.NDArray[np.complex64]) -> None:
        # Whole rows are moved as opaque bytes: the samples lie unaligned in a receive buffer, where copying
        # complex numbers one by one takes several times as long.
        row = np.dtype((np.void, samples.shape[2] * samples.itemsize))
        source = samples if samples.strides[2] == samples.itemsize else np.ascontiguousarray(samples)
        here = _all_coils(lines)
        self._data[..., a:b].view(row)[..., 0][here] = source.view(row)[..., 0].T
        if b - a < self._n0:
            self._data[here][..., :a] = 0
            self._data[here][..., b:] = 0

    def to_kspace(self, device: torch.device) -> KSpace:
        """The grid as an item: averaged, checked, on the device."""
        self._complete()
        mask = torch.from_numpy(self.counts > 0)
        return KSpace(
            data=self._tensor.to(device, non_blocking=True),
            mask=mask.to(device, non_blocking=True),
            headers=self._headers,
            encoding=self._encoding,
            other=tuple(self._together),
            ranges=self._ranges(self.counts > 0),
            field_of_view_mm=(self._extent_x, *self._encoding.encoded.field_of_view_mm[1:]),
        )

    def _complete(self) -> None:
        """Once all lines have come: average, clear what did not come, check."""
        if self._completed:
            return
        self._completed = True
        missing = torch.from_numpy(self.counts == 0)
        if bool(missing.any()):
            self._tensor.movedim(-4, -2)[missing] = 0
        again = self.counts > 1
        if again.any():
            n = np.maximum(self.counts, 1).astype(np.float32)
            self._data /= np.expand_dims(n, (-4, -1))
            if self._encoding.limit("average").n == 1:
                self._scan.warn(
                    f"{int(again.sum())} of {int((self.counts > 0).sum())} lines came more than once and were "
                    "averaged, although the header announces one average"
                )
        self._check_finite()

    def losses(self, counters: ScanCounters, *, last_came: bool, expect_last: bool) -> list[str]:
        """What is missing, in words; empty where everything came or nobody can tell.

        Args:
            counters: the scan counters of the whole stream.
            last_came: the readout flagged as last has come.
            expect_last: it did not, although other k-spaces of this scan had one.
        """
        found, irregular = [], False
        for frame in np.ndindex(*self.counts.shape[:-2]):
            of_frame = "".join(
                f"{name} {value + self._encoding.limit(name).minimum}, "
                for name, value in zip(self._together, frame, strict=True)
            )
            sampled = self.counts[frame] > 0
            if not sampled.any():
                found.append(f"{of_frame}no line came")
                continue
            announced = self._announced(self._k1), self._announced(self._k2)
            missing = missing_lines(sampled, self._encoding.acceleration, announced, last_came=last_came)
            if missing is None:
                irregular = True
            elif missing.any():
                found.append(f"{of_frame}{self._told(missing)} did not come")
        came = self.counts[self.counts > 0]
        if irregular or came.min() < came.max():
            stamps = self._headers["scan_counter"][self.counts > 0]
            gaps = counters.gaps(int(stamps.min()), int(stamps.max()), last_came=last_came)
            found += [f"the scan counter jumps from {before} to {after}" for before, after in gaps[:4]]
        if not found and expect_last and (irregular or self._announced(self._k1) is None):
            found.append("the line that is flagged as the last did not come")
        return found

    def _announced(self, axis: _Axis) -> tuple[int, int] | None:
        """Where on the grid the header's limits let the lines of an axis begin and end."""
        if axis.counter not in self._encoding.limits:
            return None
        return max(axis.minimum + axis.offset, 0), min(axis.maximum + axis.offset, axis.length - 1)

    def _told(self, missing: npt.NDArray[np.bool_]) -> str:
        """Lines by their counters."""
        k2, k1 = np.nonzero(missing)
        values = [str(value) for value in (k1 - self._k1.offset)[:_LISTED]]
        if self._k2.length > 1:
            values = [f"{a}/{b}" for a, b in zip(values, (k2 - self._k2.offset)[:_LISTED], strict=True)]
        more = f" and {len(k1) - _LISTED} more" if len(k1) > _LISTED else ""
        steps = "kspace_encode_step_1" + ("/2" if self._k2.length > 1 else "")
        return f"{steps} {', '.join(values)}{more}"

    def reference(self, device: torch.device, *, everything: bool) -> KSpace | None:
        """The smallest box that holds the calibration lines, or None where there are none; the same every time.

        Args:
            device: where it is wanted.
            everything: all lines are calibration lines, not only those that are flagged.
        """
        if self._reference is None:
            self._complete()
            lines = self.counts > 0
            calibrating = lines
            if not everything:
                calibrating = lines & flagged(self._headers["flags"], _CALIBRATION, _CALIBRATION_TOO)
            else:
                self._tell_lost_calibration()
            if calibrating.any():
                self._reference = self._box(lines, calibrating, device)
        return self._reference

    def _tell_lost_calibration(self) -> None:
        for frame in np.ndindex(*self.counts.shape[:-2]):
            sampled = self.counts[frame] > 0
            missing = missing_lines(sampled, (1, 1)) if sampled.any() else None
            if missing is not None and missing.any():
                self._scan.warn(f"calibration lines were lost: {self._told(missing)} did not come")

    def _box(
        self, lines: npt.NDArray[np.bool_], calibrating: npt.NDArray[np.bool_], device: torch.device
    ) -> KSpace:
        k2, k1 = (_bounds(calibrating, axis) for axis in (-2, -1))
        frames = np.flatnonzero(calibrating.any(axis=(-2, -1)).ravel())
        # Calibration lines of a single frame serve all that are kept together with it.
        where = np.unravel_index(frames[0], calibrating.shape[:-2]) if len(frames) == 1 else None
        keep = (...,) if where is None else tuple(slice(int(i), int(i) + 1) for i in where)
        box = (slice(k2[0], k2[1] + 1), slice(k1[0], k1[1] + 1))
        k0_range, k1_range, k2_range = self._ranges(calibrating)
        return KSpace(
            data=self._tensor[(*keep, slice(None), *box, slice(None))].to(device, non_blocking=True),
            mask=torch.from_numpy(lines[(*keep, *box)]).to(device, non_blocking=True),
            headers=self._headers[(*keep, *box)],
            encoding=self._encoding,
            other=tuple(self._together),
            ranges=(
                k0_range,
                AxisRange(0, k1[1] - k1[0], k1_range.center - k1[0]),
                AxisRange(0, k2[1] - k2[0], k2_range.center - k2[0]),
            ),
            field_of_view_mm=(self._extent_x, *self._encoding.encoded.field_of_view_mm[1:]),
        )

    def _ranges(self, lines: npt.NDArray[np.bool_]) -> tuple[AxisRange, AxisRange, AxisRange]:
        k1, k2 = _bounds(lines, -1), _bounds(lines, -2)
        return (
            AxisRange(self._first, self._last, self._n0 // 2),
            AxisRange(k1[0], k1[1], self._k1.length // 2),
            AxisRange(k2[0], k2[1], self._k2.length // 2),
        )

    def _other_indices(self, headers: Headers) -> Iterator[npt.NDArray[np.intp]]:
        for name in self._together:
            limit = self._encoding.limit(name)
            axis = _Axis(name, limit.minimum, limit.maximum, -limit.minimum, limit.n)
            yield _indices(axis, headers)

    def _line_indices(self, headers: Headers) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
        return _indices(self._k2, headers), _indices(self._k1, headers)

    def _sample_offset(self, run: Readouts) -> int:
        """Grid index of the first sample: the sample at the echo goes to the middle."""
        n_coils, n_samples = run.samples.shape[1:]
        if n_coils != self._data.shape[-4]:
            raise ShapeError(
                f"readout with scan counter {int(run.headers['scan_counter'][0])} has {n_coils} channels, "
                f"those before it in the same image {self._data.shape[-4]}: channels must not change within "
                "an image"
            )
        center = int(run.headers["center_sample"][0])
        a = self._n0 // 2 - center
        if a < 0 or a + n_samples > self._n0:
            raise ShapeError(
                f"readout with scan counter {int(run.headers['scan_counter'][0])} has {n_samples} samples with "
                f"the echo at sample {center}: that does not fit {self._n0} samples with the echo at "
                f"{self._n0 // 2}"
            )
        return a

    def _check_finite(self) -> None:
        # One sum tells whether anything is wrong, at the speed of memory; only then is the line looked for.
        if bool(torch.view_as_real(self._tensor).sum().isfinite()):
            return
        bad = ~np.isfinite(self._data).all(axis=(-4, -1))
        if bad.any():
            header = self._headers[bad][0]
            raise NonFiniteError(
                f"the readout with scan counter {int(header['scan_counter'])} (kspace_encode_step_1 = "
                f"{int(header['idx']['kspace_encode_step_1'])}) holds NaN or infinite samples, as do "
                f"{int(bad.sum()) - 1} further lines of its image: check the receiver or the converter"
            )


_Lines = tuple[int | slice, ...]
"""Index of one or several lines: (*other, k2, k1)."""


def _lines(at: tuple[npt.NDArray[np.intp], ...]) -> Iterator[tuple[_Lines, slice]]:
    """The lines of a run, and which of its readouts belong there: all at once where they are in step."""
    *other, k2, k1 = at
    steps = np.diff(k1)
    in_step = len(k1) == 1 or (steps[0] > 0 and (steps == steps[0]).all())
    if in_step and all((index == index[0]).all() for index in (*other, k2)):
        step = int(steps[0]) if len(steps) else 1
        yield (*(int(i[0]) for i in (*other, k2)), slice(int(k1[0]), int(k1[-1]) + 1, step)), slice(None)
        return
    for i in range(len(k1)):
        yield (*(int(index[i]) for index in (*other, k2)), slice(int(k1[i]), int(k1[i]) + 1)), slice(i, i + 1)


def _all_coils(lines: _Lines) -> tuple[int | slice, ...]:
    """Index of the same lines in the data: (*other, :, k2, k1)."""
    return (*lines[:-2], slice(None), *lines[-2:])


def _bounds(lines: npt.NDArray[np.bool_], axis: int) -> tuple[int, int]:
    """First and last index along an axis that holds any line."""
    axes = tuple(i for i in range(lines.ndim) if i != lines.ndim + axis)
    held = np.flatnonzero(lines.any(axis=axes))
    return (int(held[0]), int(held[-1])) if len(held) else (0, 0)


def _indices(axis: _Axis, headers: Headers) -> npt.NDArray[np.intp]:
    """Grid indices of a counter.

    Raises:
        CounterError: the counter lies outside its limits or off the grid.
    """
    values = headers["idx"][axis.counter].astype(np.intp)
    indices: npt.NDArray[np.intp] = values + axis.offset
    wrong = (values < axis.minimum) | (values > axis.maximum) | (indices < 0) | (indices >= axis.length)
    if wrong.any():
        i = int(np.flatnonzero(wrong)[0])
        raise CounterError(
            f"the readout with scan counter {int(headers['scan_counter'][i])} has {axis.counter} = {values[i]}, "
            f"which goes to index {indices[i]} of {axis.length}; the header's limits are {axis.minimum} to "
            f"{axis.maximum} with the center at {axis.length // 2 - axis.offset}: header and data do not belong "
            "together"
        )
    return indices


def _phase_axis(scan: Scan, encoding: Encoding, counter: str, axis: int, first: Readouts) -> _Axis:
    limit = encoding.limit(counter)
    length, center = encoding.encoded.matrix[axis], limit.center
    if counter not in encoding.limits and (scan.header.vendor or "").upper() == "SIEMENS":
        # Siemens converters also write the centre line and partition into user counters 5 and 6.
        told = int(first.headers["idx"]["user"][0, 4 + axis])
        if told:
            scan.warn(
                f"the header has no limits of {counter}: its center {told} is taken from idx.user[{4 + axis}]"
            )
            center = told
    return _Axis(counter, limit.minimum, limit.maximum, length // 2 - center, length)
