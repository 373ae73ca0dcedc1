"""Lines that should have come and did not: nothing that a scanner measured is lost in silence.

What was planned is not told by a stream, so it is concluded, from strong evidence only:

* Where scan counters run on without a jump, nothing between the first and the last line of a k-space was lost.
* Where they jump, or mean nothing, regular sampling tells: a line that is missing between others of its lattice, or
  in the calibration block, was lost. Sampling is regular if it is a lattice and one block of lines between, but for
  an eighth that may be missing; without counters only for a twenty-fourth, since random sampling with a dense centre
  comes close to that by chance.
* At the ends of the sampled band, the header's encoding limits say where it should end. Beyond a sixteenth of the
  axis, missing lines are taken for partial Fourier, unless the k-space's last line never came either.
* Where sampling is irregular, or lines were to be averaged, only a jump of the scan counter tells.
"""

from __future__ import annotations

import math
from collections import deque
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

__all__ = ["ScanCounters", "lattice_gaps", "missing_lines"]

Lines = npt.NDArray[np.bool_]
Span = tuple[int, int]

_JUMPED = 1 / 8  # so much of a lattice may be missing where the scan counter jumps,
_NO_COUNTERS = 1 / 24  # and so much where it means nothing
_PLANNED = 16  # more than this part of an axis missing at its end was not planned to come
_KEPT_GAPS = 1024
_OUTSIDE = (
    4  # so many lattice lines outside the calibration block make a lattice, and one of so many may be missing
)
_ROW = 3  # rows of fewer lines tell nothing


def missing_lines(
    sampled: Lines,
    acceleration: tuple[int, int],
    announced: tuple[Span | None, Span | None] = (None, None),
    *,
    last_came: bool = True,
    may_lack: float = _JUMPED,
) -> Lines | None:
    """The lines of a k-space that were lost.

    Args:
        sampled: ``(k2, k1)``, lines that came, at least one.
        acceleration: (R1, R2) along (k1, k2) as the header announces it.
        announced: first and last index along (k1, k2) according to the header's limits, or None where it has
            none.
        last_came: a readout that is flagged as the last of this k-space has come.
        may_lack: sampling is regular if at most this part of its lines is missing; see `ScanCounters.may_lack`.

    Returns:
        ``(k2, k1)``, or None where sampling is not regular, so that nobody can tell.
    """
    by_axis = [
        _gaps_along(lines, r, may_lack) for lines, r in zip((sampled, sampled.T), acceleration, strict=True)
    ]
    # A lattice along one axis is enough: it may be shifted from row to row. But columns of a dense centre that are
    # full say nothing of lines that were to be every second one.
    if not any(
        of_axis is not None and of_axis.in_nearly_all_rows and (r > 1 or max(acceleration) == 1)
        for of_axis, r in zip(by_axis, acceleration, strict=True)
    ):
        return None
    along_k1, along_k2 = by_axis
    missing = np.zeros_like(sampled)
    if along_k1 is not None:
        missing |= along_k1.gaps
    if along_k2 is not None:
        missing |= along_k2.gaps.T
    for lines, gaps, r, span in (
        (sampled, missing, acceleration[0], announced[0]),
        (sampled.T, missing.T, acceleration[1], announced[1]),
    ):
        if span is not None:
            _add_ends(lines, gaps, r, span, last_came)
    return missing


class _AlongAxis(NamedTuple):
    """What is missing of the lattices along one axis, and whether nearly all of them are whole."""

    gaps: Lines
    in_nearly_all_rows: bool


def _gaps_along(lines: Lines, r: int, may_lack: float) -> _AlongAxis | None:
    """Gaps along the last axis, or None where sampling along it is not regular."""
    if lines.shape[1] == 1:
        return None
    gaps, outside = np.zeros_like(lines), np.zeros_like(lines)
    rows = np.flatnonzero(lines.any(axis=1))
    n_planned = n_damaged = n_mute = 0
    for i in rows:
        if lines[i].sum() < _ROW:
            n_mute += 1
            continue
        planned, outside[i] = _plan(lines[i], r)
        gaps[i] = planned & ~lines[i]
        n_planned += int(planned.sum())
        n_damaged += bool(gaps[i].any())
    # A dense centre alone makes no lattice.
    n_outside, n_lost = int(outside.sum()), int((outside & gaps).sum())
    has_lattice = r == 1 or n_outside >= _OUTSIDE * max(n_lost, 1)
    if not has_lattice or gaps.sum() > may_lack * n_planned:
        return None
    # Of a volume that was sampled at random some rows are nearly full, by their density, but never nearly all.
    return _AlongAxis(gaps, 2 * n_mute <= len(rows) and n_damaged <= max(len(rows) * _JUMPED, 1))


def _plan(line: Lines, r: int) -> tuple[Lines, Lines]:
    """Of one row the lines of a lattice and of a block between, and those of the lattice outside the block."""
    planned, outside = np.zeros_like(line), np.zeros_like(line)
    at = np.flatnonzero(line)
    is_lattice = at % r == _phase(at, r)
    lattice, between = at[is_lattice], at[~is_lattice]
    planned[lattice[0] : lattice[-1] + 1 : r] = True
    outside[:] = planned
    if len(between):
        first, last = int(between[0]), int(between[-1])
        planned[first : last + 1] = True
        outside[max(first - 1, 0) : last + 2] = False  # a line next to the block may be its end
    return planned, outside


def lattice_gaps(sampled: Lines, acceleration: tuple[int, int]) -> Lines:
    """The lines that are missing between others of their lattice, ``(k2, k1)``; calibration lines do not count."""
    gaps = np.zeros_like(sampled)
    for lines, missing, r in ((sampled, gaps, acceleration[0]), (sampled.T, gaps.T, acceleration[1])):
        for i in np.flatnonzero(lines.any(axis=1)) if lines.shape[1] > 1 else ():
            at = np.flatnonzero(lines[i])
            lattice = at[at % r == _phase(at, r)]
            planned = slice(lattice[0], lattice[-1] + 1, r)
            missing[i, planned] |= ~lines[i, planned]
    return gaps


def _phase(at: npt.NDArray[np.intp], r: int) -> int:
    """Where a lattice of every r-th line begins, told by the most lines."""
    return int(np.bincount(at % r, minlength=r).argmax())


def _add_ends(lines: Lines, gaps: Lines, r: int, span: Span, last_came: bool) -> None:
    """Mark what is missing between the ends of the sampled band and those that the header announces."""
    at = np.flatnonzero(lines.any(axis=0))
    on_lattice = at[at % r == _phase(at, r)]
    first, last = int(on_lattice[0]), int(on_lattice[-1])
    most = math.ceil(lines.shape[1] / _PLANNED)
    for end, absent in (
        (first, np.arange(first - r, span[0] - 1, -r)),
        (last, np.arange(last + r, span[1] + 1, r)),
    ):
        if len(absent) * r <= max(most, r) or not last_came:
            gaps[:, absent] |= lines[:, end, None]


class ScanCounters:
    """Follows the scan counters of a stream and remembers where they jump.

    Counters that do not grow (some producers leave them at zero, or sort their readouts) and those that jump all
    the time (where a step before took readouts out regularly) tell nothing.
    """

    def __init__(self) -> None:
        self._last: int | None = None
        self._n = 0
        self._n_gaps = 0
        self._growing = True
        self._gaps: deque[Span] = deque(maxlen=_KEPT_GAPS)

    def follow(self, counters: npt.NDArray[np.unsignedinteger]) -> None:
        """Take in the counters of a block, in the order in which they came."""
        first, last, n = int(counters[0]), int(counters[-1]), len(counters)
        before = first - 1 if self._last is None else self._last
        self._last = last
        self._n += n
        if last - before == n:
            return  # every readout is there, unless they came in disorder, which is not what is looked for
        steps = np.diff(counters.astype(np.int64), prepend=before)
        self._growing = self._growing and bool((steps > 0).all())
        jumps = np.flatnonzero(steps > 1)
        self._n_gaps += len(jumps)
        for i in jumps[-_KEPT_GAPS:]:
            self._gaps.append((int(counters[i]) - int(steps[i]), int(counters[i])))

    def gaps(self, first: int, last: int, *, last_came: bool) -> list[Span]:
        """Counters before and after each jump that may have cost lines of a k-space.

        Args:
            first: counter of its first line that came.
            last: counter of its last line that came.
            last_came: nothing is missing behind that.
        """
        if not self._mean_something:
            return []
        return [
            gap
            for gap in self._gaps
            if gap[1] >= first and (gap[0] < last or (gap[0] == last and not last_came))
        ]

    def may_lack(self, gaps: list[Span]) -> float:
        """Which part of a regular pattern may be missing of a k-space for which `gaps` were found."""
        if gaps:
            return _JUMPED
        return 0.0 if self._mean_something else _NO_COUNTERS

    @property
    def _mean_something(self) -> bool:
        return self._growing and self._n_gaps <= _JUMPED * self._n
