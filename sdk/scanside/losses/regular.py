"""Lattices of lines: what is missing between their lines, and at their ends.

Masks are ``(k2, k1)`` on the grid of a k-space, with its centre in the middle.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

__all__ = ["Ends", "Lines", "ends", "filled", "lattice_gaps", "lattice_of_rows", "missing_lines"]

Lines = npt.NDArray[np.bool_]
Span = tuple[int, int]

_JUMPED = 1 / 8  # so much of a lattice may be missing where the scan counter jumps,
_NOT_COUNTED = 1 / 24  # and so much where it tells nothing, or was given after the loss
_PLANNED = 1 / 16  # more than this part of an axis missing at its end may have been planned
# So many lattice lines outside the calibration block make a lattice, and one of so many may be missing.
_OUTSIDE = 4
_ROW = 3  # rows of fewer lines tell nothing
_BY_CHANCE = math.log(1e-2)  # lines that lie on a lattice by chance with less than this are one
_DENSE = 0.6  # so much of a calibration block is there, or it is none
_BY_DENSITY = 3 / 8  # so much may be missing at an end where sampling gets ever sparser
_SCRAP = 8  # a band shorter than this part of what is announced was not planned
_LARGEST = 12  # spacing that is looked for


def missing_lines(
    sampled: Lines,
    acceleration: tuple[int, int],
    *,
    jumped: bool = False,
) -> Lines | None:
    """The lines that are missing between those of a lattice, and in the calibration block.

    Sampling is regular if it is a lattice and one block of lines between, but for a twenty-fourth that may be
    missing, or an eighth where the scan counter jumps. More of it may be missing where no line lies off the lattice
    outside the block, and where there are so many lines that this is no chance.

    Args:
        sampled: ``(k2, k1)``, lines that came, at least one.
        acceleration: (R1, R2) along (k1, k2).
        jumped: the scan counter jumps among these lines.

    Returns:
        ``(k2, k1)``, or None where sampling is not regular, so that nobody can tell.
    """
    may_lack = _JUMPED if jumped else _NOT_COUNTED
    by_axis = [
        _gaps_of_lattice(lines, r, other, may_lack)
        for lines, r, other in zip((sampled, sampled.T), acceleration, acceleration[::-1], strict=True)
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
    return missing


class _AlongAxis(NamedTuple):
    """What is missing of the lattices along one axis, and whether nearly all of them are whole."""

    gaps: Lines
    in_nearly_all_rows: bool


def _gaps_of_lattice(lines: Lines, r: int, other: int, may_lack: float) -> _AlongAxis | None:
    """Gaps along the last axis of a lattice, which may be shifted from row to row.

    Of a lattice that is shifted along the other axis (CAIPIRINHA) the lines of a row lie further apart, by a divisor
    of the acceleration there.
    """
    found = _gaps_along(lines, r, may_lack)
    if found is not None and not found.gaps.any():
        return found
    factors = [n for n in range(2, other + 1) if other % n == 0]
    shifted = (_gaps_along(lines, r * n, may_lack) for n in factors)
    regular = [one for one in (found, *shifted) if one is not None]
    return min(regular, key=lambda one: int(one.gaps.sum()), default=None)


def _gaps_along(lines: Lines, r: int, may_lack: float) -> _AlongAxis | None:
    """Gaps along the last axis, or None where sampling along it is not regular."""
    if lines.shape[1] == 1:
        return None
    gaps, outside, block = np.zeros_like(lines), np.zeros_like(lines), np.zeros_like(lines)
    rows = np.flatnonzero(lines.any(axis=1))
    n_planned = n_damaged = n_mute = 0
    chance = 0.0  # logarithm of the probability that lines outside the block lie on lattices
    for i in rows:
        if lines[i].sum() < _ROW:
            n_mute += 1
            continue
        planned, outside[i], block[i] = _plan(lines[i], r)
        gaps[i] = planned & ~lines[i]
        n_planned += int(planned.sum())
        n_damaged += bool(gaps[i].any())
        n_outside = int((outside[i] & lines[i]).sum())
        # One of r lattices, and any share of the lines on either side of the block.
        chance += min(math.log(r * (n_outside + 1)) - n_outside * math.log(r), 0.0)
    n_outside, n_lost = int(outside.sum()), int((outside & gaps).sum())
    certain = (
        r > 1
        and chance < _BY_CHANCE
        and 2 * n_lost <= n_outside
        and (lines & block).sum() >= _DENSE * block.sum()
    )
    if certain:
        return _AlongAxis(gaps, 2 * n_mute <= len(rows))
    # A dense centre alone makes no lattice.
    has_lattice = r == 1 or n_outside >= _OUTSIDE * max(n_lost, 1)
    if not has_lattice or gaps.sum() > may_lack * n_planned:
        return None
    # Of a volume that was sampled at random some rows are nearly full, by their density, but never nearly all.
    return _AlongAxis(gaps, 2 * n_mute <= len(rows) and n_damaged <= max(len(rows) * _JUMPED, 1))


def _plan(line: Lines, r: int) -> tuple[Lines, Lines, Lines]:
    """Of one row the lines of a lattice and of a block between, those of the lattice outside it, and the block."""
    planned, outside, block = np.zeros_like(line), np.zeros_like(line), np.zeros_like(line)
    at = np.flatnonzero(line)
    is_lattice = at % r == _phase(at, r)
    lattice, between = at[is_lattice], at[~is_lattice]
    planned[lattice[0] : lattice[-1] + 1 : r] = True
    outside[:] = planned
    if len(between):
        first, last = int(between[0]), int(between[-1])
        block[first : last + 1] = True
        planned |= block
        outside[max(first - 1, 0) : last + 2] = False  # a line next to the block may be its end
    return planned, outside, block


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


def lattice_of_rows(sampled: Lines) -> tuple[int, int]:
    """Acceleration (R1, R2) of the lattice, with one block between, that the lines show; 1 where they show none."""
    found = []
    for lines in (sampled, sampled.T):
        fits = [
            (int(along.gaps.sum()), r)
            for r in range(2, _LARGEST + 1)
            if (along := _gaps_along(lines, r, _NOT_COUNTED)) is not None and along.in_nearly_all_rows
        ]
        is_full = not (filled(lines, (0,)) & ~lines).any()
        found.append(1 if is_full or not fits else min(fits)[1])
    return found[0], found[1]


def filled(sampled: Lines, axes: tuple[int, ...] = (0, 1)) -> Lines:
    """Everything between the first and the last line of each row (0) and of each column (1)."""
    result = sampled.copy()
    for axis in axes:
        lines = sampled if axis == 0 else sampled.T
        forwards = np.logical_or.accumulate(lines, axis=1)
        backwards = np.logical_or.accumulate(lines[:, ::-1], axis=1)[:, ::-1]
        result |= (forwards & backwards) if axis == 0 else (forwards & backwards).T
    return result


def _phase(at: npt.NDArray[np.intp], r: int) -> int:
    """Where a lattice of every r-th line begins, told by the most lines."""
    return int(np.bincount(at % r, minlength=r).argmax())


class Ends(NamedTuple):
    """What is missing at the ends of the sampled band, ``(k2, k1)`` each.

    Attributes:
        lost: lines that were lost.
        left_out: lines that the header announces and a protocol may have left out on purpose.
    """

    lost: Lines
    left_out: Lines


def ends(
    sampled: Lines,
    acceleration: tuple[int, int],
    announced: tuple[Span | None, Span | None],
    *,
    low_came: bool = True,
    high_came: bool = True,
    regular: bool = True,
) -> Ends:
    """What is missing between the ends of the sampled band and those that the header announces.

    Up to a sixteenth of an axis is lost. More is taken for partial Fourier or reduced resolution, unless flags tell
    that the lines at an end did not come, the centre of k-space lies beyond the band, or the band is a scrap of what
    was announced. The corners of a volume may be left out.

    Args:
        sampled: ``(k2, k1)``, lines that came, at least one.
        acceleration: (R1, R2) along (k1, k2).
        announced: first and last index along (k1, k2) according to the header's limits, or None where it has none.
        low_came: the lines with the lowest indices came, as far as flags tell.
        high_came: those with the highest ones came.
        regular: the lines form a lattice. Otherwise some may be missing by chance.
    """
    lost, left_out = np.zeros_like(sampled), np.zeros_like(sampled)
    for axis, r, span in ((0, acceleration[0], announced[0]), (1, acceleration[1], announced[1])):
        lines = sampled if axis == 0 else sampled.T
        gaps, planned = (lost, left_out) if axis == 0 else (lost.T, left_out.T)
        if regular:
            gaps |= _short_rows(lines, r)
        if span is None:
            continue
        at = np.flatnonzero(lines.any(axis=0))
        on_lattice = at[at % r == _phase(at, r)] if regular else at
        first, last, center = int(on_lattice[0]), int(on_lattice[-1]), lines.shape[1] // 2
        few = max(math.ceil(lines.shape[1] * (_PLANNED if regular else _BY_DENSITY)), r)
        width = lines.sum(axis=0)
        scrap = (last - first + r) * _SCRAP < span[1] - span[0] + 1
        for end, absent, came, beyond in (
            (first, np.arange(first - r, span[0] - 1, -r), low_came, first - r >= center),
            (last, np.arange(last + r, span[1] + 1, r), high_came, last + r <= center),
        ):
            # Towards its ends an ellipse has fewer and fewer lines, and none at last, on both sides.
            tapers = len(lines) > 1 and 2 * width[end] < width.max()
            is_few = len(absent) * r <= few
            if beyond or scrap or (regular and (not came or (is_few and not tapers))):
                gaps[:, absent] |= lines[:, end, None]
            elif not is_few or (tapers and regular and abs(first + last - 2 * center) >= r):
                planned[:, absent] |= lines[:, end, None]
    return Ends(lost, left_out)


def _short_rows(lines: Lines, r: int) -> Lines:
    """What the first or the last row of a box lacks at one end: an ellipse or partial Fourier cuts others too."""
    gaps = np.zeros_like(lines)
    rows = np.flatnonzero(lines.sum(axis=1) >= _ROW)
    if len(rows) < _OUTSIDE:
        return gaps
    first, last = lines[rows].argmax(axis=1), lines.shape[1] - 1 - lines[rows, ::-1].argmax(axis=1)
    before, behind = (first - first.min()) // r, (last.max() - last) // r
    for row, opposite in ((0, -1), (-1, 0)):
        if before[row] != behind[row] and not before[opposite] and not behind[opposite]:
            gaps[rows[row], np.arange(first[row] - r, first.min() - 1, -r)] = True
            gaps[rows[row], np.arange(last[row] + r, last.max() + 1, r)] = True
    return gaps
