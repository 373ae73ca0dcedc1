"""Lines that should have come and did not: nothing that a scanner measured is lost in silence.

What was planned is not told by a stream, so it is concluded, from strong evidence only:

* Regular sampling leaves no doubt: a line that is missing between others of its lattice, or in the calibration
  block, was lost. Sampling counts as regular if at least seven eighths of the lattice are there and the lines off
  it are a block; random and variable-density patterns are far from that.
* At the ends of the sampled band, the header's encoding limits say where it should end. Beyond a sixteenth of the
  axis, missing lines are taken for partial Fourier, unless the k-space's last line never came either.
* Where sampling is irregular, or lines were to be averaged, only a jump of the scan counter tells.
"""

from __future__ import annotations

import math
from collections import deque

import numpy as np
import numpy.typing as npt

__all__ = ["ScanCounters", "lattice_gaps", "missing_lines"]

Lines = npt.NDArray[np.bool_]
Span = tuple[int, int]

_REGULAR = 8  # sampling is regular if at most one of so many lattice lines is missing
_PLANNED = 16  # more than this part of an axis missing at its end was not planned to come
_KEPT_GAPS = 1024


def missing_lines(
    sampled: Lines,
    acceleration: tuple[int, int],
    announced: tuple[Span | None, Span | None] = (None, None),
    *,
    last_came: bool = True,
) -> Lines | None:
    """The lines of a k-space that were lost.

    Args:
        sampled: ``(k2, k1)``, lines that came, at least one.
        acceleration: (R1, R2) along (k1, k2) as the header announces it.
        announced: first and last index along (k1, k2) according to the header's limits, or None where it has
            none.
        last_came: a readout that is flagged as the last of this k-space has come.

    Returns:
        ``(k2, k1)``, or None where sampling is not regular, so that nobody can tell.
    """
    missing, is_regular = np.zeros_like(sampled), False
    # The same lines along k1 in every partition, and along k2 in every row. One of them may be regular where the
    # other is not: with a lattice that is shifted from partition to partition.
    for axis, r in enumerate(acceleration):
        found = _gaps_along(sampled if axis == 0 else sampled.T, r)
        if found is not None:
            missing |= found if axis == 0 else found.T
            is_regular = True
    if not is_regular:
        return None
    for lines, gaps, r, span in (
        (sampled, missing, acceleration[0], announced[0]),
        (sampled.T, missing.T, acceleration[1], announced[1]),
    ):
        if span is not None:
            _add_ends(lines, gaps, r, span, last_came)
    return missing


def _gaps_along(lines: Lines, r: int) -> Lines | None:
    """Gaps along the last axis, or None where sampling along it is not regular."""
    if lines.shape[1] == 1:
        return None
    gaps, n_expected, n_irregular = np.zeros_like(lines), 0, 0
    some = np.flatnonzero(lines.any(axis=1))
    for i in some:
        n_expected += _add_lattice_gaps(lines[i], gaps[i], r)
        n_irregular += not _add_block_gaps(lines[i], gaps[i], r)
    is_regular = int(gaps.sum()) * _REGULAR <= n_expected and n_irregular * _REGULAR <= len(some)
    return gaps if is_regular else None


def lattice_gaps(sampled: Lines, acceleration: tuple[int, int]) -> Lines:
    """The lines that are missing between others of their lattice, ``(k2, k1)``; calibration lines do not count."""
    gaps = np.zeros_like(sampled)
    for lines, missing, r in ((sampled, gaps, acceleration[0]), (sampled.T, gaps.T, acceleration[1])):
        for i in np.flatnonzero(lines.any(axis=1)) if lines.shape[1] > 1 else ():
            _add_lattice_gaps(lines[i], missing[i], r)
    return gaps


def _phase(at: npt.NDArray[np.intp], r: int) -> int:
    """Where a lattice of every r-th line begins, told by the most lines."""
    return int(np.bincount(at % r, minlength=r).argmax())


def _add_lattice_gaps(line: Lines, gaps: Lines, r: int) -> int:
    """Mark what is missing of the lattice within one row; gives how many lines the lattice has."""
    at = np.flatnonzero(line)
    lattice = at[at % r == _phase(at, r)]
    expected = np.arange(lattice[0], lattice[-1] + 1, r)
    gaps[expected] |= ~line[expected]
    return len(expected)


def _add_block_gaps(line: Lines, gaps: Lines, r: int) -> bool:
    """Mark what is missing of a calibration block; gives whether the lines off the lattice are one."""
    at = np.flatnonzero(line)
    between = at[at % r != _phase(at, r)]
    if not len(between):
        return True
    block = np.arange(between[0], between[-1] + 1)
    absent = block[~line[block]]
    if len(absent) > max(len(block) // _REGULAR, 1):
        return False
    gaps[absent] = True
    return True


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
        if not self._growing or self._n_gaps * _REGULAR > self._n:
            return []
        return [
            gap
            for gap in self._gaps
            if gap[1] >= first and (gap[0] < last or (gap[0] == last and not last_came))
        ]
