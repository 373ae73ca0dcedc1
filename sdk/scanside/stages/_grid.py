"""The grid of one k-space while its lines come in."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import numpy.typing as npt
import torch

from scanside.errors import ScanError, ShapeError
from scanside.items import AxisRange, KSpace, Readouts
from scanside.losses import Found, Marks, Plan, ScanCounters, losses_of, lost_of_block
from scanside.memory import process_bytes
from scanside.mrd.dtypes import ACQUISITION_HEADER
from scanside.mrd.flags import CALIBRATING, flagged
from scanside.mrd.header import Encoding
from scanside.scan import Scan
from scanside.stages._axes import frame_axis, phase_axis
from scanside.stages._expected_lines import expected_lines
from scanside.stages._lines import readout_grid, straighten

__all__ = ["Grid"]

_HEADER_BYTES = np.dtype((np.void, ACQUISITION_HEADER.itemsize))
_IMAGE_COPIES = 4
"""So many arrays of an image's size there are at once while it is resized and finished."""

_LONGEST_AXIS = 65535
"""What the header of an image can say."""

_TOO_LARGE = (
    "check the matrix and the encoding limits in the header; keep fewer counters together (accumulate.together), or "
    "use a machine with more memory"
)
_LISTED = 12  # so many readouts of another length are told


class Grid:
    """The grid of one k-space while its lines come in.

    Args:
        scan: is told what an operator should know.
        encoding: the encoding space of the lines.
        together: counters whose values become leading axes.
        first: readouts that belong here; nothing of them is placed yet.
        grid: length of the readout axis, as in the stage's settings.
        pinned: take memory from which a copy to a CUDA device can run beside.

    Attributes:
        encoding: as given.
        counts: ``(*other, k2, k1)``, how often each line came.
        handed_out: separate calibration lines were given to an image: later ones begin anew.
        ended: frames whose last line came.
        averages: values of the average counter that came.
        flags: those of all readouts, joined.
    """

    def __init__(
        self,
        scan: Scan,
        encoding: Encoding,
        together: Sequence[str],
        first: Readouts,
        *,
        grid: str,
        pinned: bool,
    ) -> None:
        self._scan = scan
        self.encoding = encoding
        self._together = tuple(together)
        self._frames = [frame_axis(encoding, counter) for counter in together]
        self._k1 = phase_axis(scan, encoding, 1, first)
        self._k2 = phase_axis(scan, encoding, 2, first)
        self._n0, self._extent_x = readout_grid(encoding, straighten(first), grid)
        others = tuple(axis.length for axis in self._frames)
        n_coils = first.samples.shape[1]
        lines = (*others, self._k2.length, self._k1.length)
        self._check_memory(others, n_coils, first.headers.dtype.itemsize)
        # Not filled with zeros: most lines will be overwritten, and those that do not come are cleared at the end.
        shape = (*others, n_coils, self._k2.length, self._k1.length, self._n0)
        # From NumPy on the CPU: torch asks for aligned memory, and the C library does not find the exactly fitting
        # block of the frame before again for such a request, so that an endless series would take twice the memory.
        try:
            self._tensor = (
                torch.empty(shape, dtype=torch.complex64, pin_memory=True)
                if pinned
                else torch.from_numpy(np.empty(shape, np.complex64))
            )
            self.counts = np.zeros(lines, np.int32)
            self._headers = np.zeros(lines, first.headers.dtype)
        except (MemoryError, RuntimeError) as error:  # torch has no type of its own for memory on the host
            raise ScanError(f"{self._size(shape)} could not be allocated ({error}): {_TOO_LARGE}") from error
        self._data = self._tensor.numpy()
        self._first, self._last = self._n0, -1
        self._n_samples = 0  # of the first readout
        self._other_lengths: list[str] = []
        self.handed_out = False
        self.ended: set[tuple[int, ...]] = set()
        self.averages: set[int] = set()
        self.flags = 0
        self._completed = False
        self._reference: KSpace | None = None
        self._calibrates = False
        self._asked_early = False
        self._early: KSpace | None = None

    def _check_memory(self, others: tuple[int, ...], n_coils: int, header_bytes: int) -> None:
        """Refuse what no memory can hold before it is asked for: a system that overcommits would kill the process."""
        shape = (*others, n_coils, self._k2.length, self._k1.length, self._n0)
        n_lines = math.prod(others) * self._k2.length * self._k1.length
        needed = math.prod(shape) * np.dtype(np.complex64).itemsize + n_lines * header_bytes
        there = process_bytes()
        if needed > there:
            raise ScanError(
                f"{self._size(shape)} needs {_gib(needed)} with its headers, but there are {_gib(there)} of memory "
                f"for it: {_TOO_LARGE}"
            )
        recon = self.encoding.recon.matrix
        needed = _IMAGE_COPIES * math.prod(recon) * np.dtype(np.complex64).itemsize
        if needed > there:
            raise ScanError(
                f"an image of {' x '.join(map(str, recon))}, the reconstructed matrix of the header, takes "
                f"{_gib(needed)} while it is made, but there are {_gib(there)} of memory for it: {_TOO_LARGE}"
            )
        if max(*recon, *shape[-3:]) > _LONGEST_AXIS:
            raise ScanError(
                f"an image has at most {_LONGEST_AXIS} voxels along an axis, but the header's encoded matrix is "
                f"{' x '.join(map(str, self.encoding.encoded.matrix))} and its reconstructed one "
                f"{' x '.join(map(str, recon))}: check the matrix in the header"
            )

    def _size(self, shape: Sequence[int]) -> str:
        """A k-space of a shape, for the text of an error."""
        n_bytes = math.prod(shape) * np.dtype(np.complex64).itemsize
        names = (*self._together, "coil", "k2", "k1", "k0")
        return (
            f"one k-space of {' x '.join(map(str, shape))} ({', '.join(names)}), {_gib(n_bytes)}, for the encoded "
            f"matrix {' x '.join(map(str, self.encoding.encoded.matrix))} of the header"
        )

    @property
    def n_frames(self) -> int:
        """How many frames are kept together."""
        return math.prod(self.counts.shape[:-2])

    def place(self, run: Readouts) -> None:
        """Put lines on the grid; those that came before for the same place are summed, to be averaged."""
        run = straighten(run)
        self.flags |= int(np.bitwise_or.reduce(run.headers["flags"]))
        self._calibrates |= bool(flagged(run.headers["flags"][:1], *CALIBRATING).any())
        if self.encoding.limit("average").n > 1:
            self.averages.update(run.headers["idx"]["average"].tolist())
        at = tuple(axis.indices(run.headers) for axis in (*self._frames, self._k2, self._k1))
        a = self._sample_offset(run)
        n_samples = run.samples.shape[2]
        b = a + n_samples
        self._n_samples = self._n_samples or n_samples
        if n_samples != self._n_samples and len(self._other_lengths) < _LISTED:
            self._other_lengths.append(f"{int(run.headers['scan_counter'][0])} has {n_samples}")
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
        """The grid as an item: averaged, on the device."""
        self._complete()
        mask = torch.from_numpy(self.counts > 0)
        try:
            data = self._tensor.to(device, non_blocking=True)
        except torch.cuda.OutOfMemoryError as error:
            raise ScanError(
                f"{self._size(self._tensor.shape)}, has no room on {device} ({error}): {_TOO_LARGE}"
            ) from error
        return KSpace(
            data=data,
            mask=mask.to(device, non_blocking=True),
            headers=self._headers,
            encoding=self.encoding,
            other=self._together,
            ranges=self._ranges(self.counts > 0),
            field_of_view_mm=(self._extent_x, *self.encoding.encoded.field_of_view_mm[1:]),
        )

    def _complete(self) -> None:
        """Once all lines have come: average, and clear what did not come."""
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
            if self.encoding.limit("average").n == 1:
                self._scan.warn(
                    f"{int(again.sum())} of {int((self.counts > 0).sum())} lines came more than once and were "
                    "averaged, although the header announces one average"
                )

    def other_lengths(self) -> str | None:
        """Which readouts have another number of samples than the first one, in words; None where all are equal."""
        if not self._other_lengths:
            return None
        return (
            f"readouts of changing shape: the first had {self._n_samples} samples, the one with scan counter "
            f"{', that with '.join(self._other_lengths)}; where samples are missing they count as zeros"
        )

    def losses(self, counters: ScanCounters, marks: Marks) -> Found:
        """What was lost, and what nobody can tell.

        Args:
            counters: the scan counters of the whole stream.
            marks: what flags tell about beginning and end.
        """

        def name_of(frame: tuple[int, ...]) -> str:
            return "".join(
                f"{axis.counter} {index - axis.offset}, "
                for axis, index in zip(self._frames, frame, strict=True)
            )

        return losses_of(
            self.counts,
            self._headers,
            Plan.of(self._scan.header, self.encoding, (self._k1.offset, self._k2.offset)),
            counters,
            marks,
            n_averages=self.encoding.limit("average").n,
            name_of=name_of,
        )

    def outline(self, counters: Mapping[str, int], reference: KSpace) -> KSpace:
        """The k-space as it will be, without samples and lines: all zeros, which take no memory."""
        zeros = torch.zeros((), dtype=torch.complex64, device=reference.data.device)
        return KSpace(
            data=zeros.expand(self._tensor.shape),
            mask=torch.zeros((), dtype=torch.bool, device=zeros.device).expand(self.counts.shape),
            headers=np.zeros_like(self._headers),
            encoding=self.encoding,
            other=self._together,
            counters=counters,
            field_of_view_mm=(self._extent_x, *self.encoding.encoded.field_of_view_mm[1:]),
            reference=reference,
        )

    def expected_lines(self, run: Readouts, earlier: npt.NDArray[np.bool_] | None) -> torch.Tensor | None:
        """The lines ``(k2, k1)`` that will probably have come at the end; None where that cannot be told.

        Args:
            run: readouts that are not calibration lines and will be placed next.
            earlier: the lines of an earlier k-space of the scan.
        """
        if self.counts.ndim != 2 or self._k2.length > 1:
            return None
        came = self.counts[0] > 0
        regular = came & ~flagged(self._headers["flags"][0], *CALIBRATING)
        coming = self._k1.indices(run.headers)
        came[coming] = regular[coming] = True
        lines = expected_lines(
            came,
            regular,
            acceleration=self.encoding.acceleration[0],
            span=self._k1.span,
            earlier=None if earlier is None else earlier[0],
        )
        return None if lines is None else torch.from_numpy(lines[None])

    def early_reference(self, device: torch.device, *, everything: bool) -> KSpace | None:
        """What `reference` will probably give, before the last line has come; once, then None.

        To be asked for when a line comes that is no calibration line. None where there are no such lines yet, or
        where they form no block without gaps, so that others are still to come.
        """
        if not self._calibrates or self._asked_early or self.n_frames > 1:
            return None
        self._asked_early = True
        lines = self.counts > 0
        box = self._box(lines, self._calibrating(lines, everything), device)
        if not bool(box.mask.all()):
            return None
        # Samples of its own: a line that comes again would change them under the hands of whoever computes.
        self._early = box.replace(data=box.data.clone())
        return self._early

    def reference(self, device: torch.device, *, everything: bool) -> KSpace | None:
        """The smallest box that holds the calibration lines, or None where there are none; the same every time.

        Args:
            device: where it is wanted.
            everything: all lines are calibration lines, not only those that are flagged.
        """
        if self._reference is None:
            self._complete()
            lines = self.counts > 0
            calibrating = self._calibrating(lines, everything)
            if everything:
                self._tell_lost_calibration()
            if calibrating.any():
                box = self._box(lines, calibrating, device)
                unchanged = self._early is not None and _same_lines(self._early, box)
                self._reference = self._early if unchanged else box
        return self._reference

    def _calibrating(self, lines: npt.NDArray[np.bool_], everything: bool) -> npt.NDArray[np.bool_]:
        return lines if everything else lines & flagged(self._headers["flags"], *CALIBRATING)

    def _tell_lost_calibration(self) -> None:
        changing = self.other_lengths()
        if changing is not None:
            self._scan.warn(f"among the calibration lines are {changing}")

    def lost_calibration(self) -> tuple[str, ...]:
        """What was lost of lines that are all calibration lines, in words."""
        return lost_of_block(self.counts, (self._k1.offset, self._k2.offset))

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
            encoding=self.encoding,
            other=self._together,
            ranges=(
                k0_range,
                AxisRange(0, k1[1] - k1[0], k1_range.center - k1[0]),
                AxisRange(0, k2[1] - k2[0], k2_range.center - k2[0]),
            ),
            field_of_view_mm=(self._extent_x, *self.encoding.encoded.field_of_view_mm[1:]),
        )

    def _ranges(self, lines: npt.NDArray[np.bool_]) -> tuple[AxisRange, AxisRange, AxisRange]:
        k1, k2 = _bounds(lines, -1), _bounds(lines, -2)
        return (
            AxisRange(self._first, self._last, self._n0 // 2),
            AxisRange(k1[0], k1[1], self._k1.length // 2),
            AxisRange(k2[0], k2[1], self._k2.length // 2),
        )

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


def _same_lines(a: KSpace, b: KSpace) -> bool:
    """Whether two boxes of one grid hold the same lines with the same samples."""
    return a.ranges == b.ranges and a.mask.equal(b.mask) and torch.equal(a.data, b.data)


def _gib(n_bytes: int) -> str:
    return f"{n_bytes / 2**30:.3g} GiB"


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
