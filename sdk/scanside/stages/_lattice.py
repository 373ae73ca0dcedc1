"""Whether sampled lines form a lattice, and which one."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from scanside.errors import ShapeError
from scanside.losses import lattice_gaps
from scanside.recon.grappa import describe_lines, lattice_lines

__all__ = [
    "Lattice",
    "check_lattice",
    "describe_sampled",
    "lattice_gaps_of",
    "lattice_of",
    "shifted_lattice_of",
]

Lines = npt.NDArray[np.bool_]


class Lattice(NamedTuple):
    """A regular lattice of lines.

    Attributes:
        acceleration: (R1, R2), every so many lines along k1 and k2.
        shift: lines along k2 by which it moves from one of its k1 lines to the next (CAIPIRINHA).
    """

    acceleration: tuple[int, int]
    shift: int = 0

    def __str__(self) -> str:
        r1, r2 = self.acceleration
        return f"{r1} x {r2}" + (f" with a shift of {self.shift}" if self.shift else "")


_LARGEST = 12  # acceleration along one axis that is looked for
_OUTSIDE = 4  # lines of a lattice outside the calibration block that show it
_LOST = 1 / 8  # part of a lattice or of a block that may be missing where lines were lost
_ELLIPSE = 0.3  # part of a box that is outside an ellipse in it (1 - pi / 4), and some lines more


def lattice_of(sampled: Lines, *, complete: bool = True) -> tuple[int, int] | None:
    """Acceleration (R1, R2) of the lattice that lines form together with at most one block between.

    Args:
        sampled: ``(k2, k1)``, at least one line.
        complete: no line of the plan was lost.

    Returns:
        (1, 1) where no more than some single lines are missing, None where the lines form no lattice.
    """
    along_k1, along_k2 = _projections(sampled)
    r1, r2 = _spacing(along_k1, complete), _spacing(along_k2, complete)
    if (
        r1 is not None
        and r2 is not None
        and r1 * r2 > 1
        and _departure(sampled, Lattice((r1, r2)), complete) is None
    ):
        return r1, r2
    lost = int(lattice_gaps(sampled, (1, 1)).sum())
    return (1, 1) if lost <= _LOST * (lost + sampled.sum()) else None


def shifted_lattice_of(
    sampled: Lines, acceleration: tuple[int, int], *, complete: bool = True
) -> Lattice | None:
    """The lattice of an acceleration that lines form, with a shift along k2 where they show one.

    A lattice that is shifted along k1 from one partition to the next has another spacing along the axes, and is one
    that is shifted along k2, too, with as many lines: this is found as well.

    Args:
        sampled: ``(k2, k1)``, at least one line.
        acceleration: (R1, R2).
        complete: no line of the plan was lost.

    Returns:
        None where lines form no such lattice.
    """
    total = acceleration[0] * acceleration[1]
    pairs = [acceleration] + [(r1, total // r1) for r1 in range(1, total + 1) if total % r1 == 0]
    shifted = [Lattice((r1, r2), shift) for r1, r2 in pairs for shift in range(1, r2)]
    candidates = [Lattice(acceleration)] + (shifted if sampled.shape[0] > 1 else [])
    fitting = (one for one in candidates if _departure(sampled, one, complete) is None)
    return next(fitting, None)


def lattice_gaps_of(sampled: Lines, lattice: Lattice) -> Lines:
    """The lines ``(k2, k1)`` that are missing between others of a lattice; calibration lines do not count."""
    if not lattice.shift:
        return lattice_gaps(sampled, lattice.acceleration)
    lines = _best_lattice(sampled, lattice)
    on_it = sampled & lines
    within: Lines = (
        np.logical_or.accumulate(on_it, axis=0) & np.logical_or.accumulate(on_it[::-1], axis=0)[::-1]
    )
    columns = np.flatnonzero(on_it.any(axis=0))
    rows = np.flatnonzero(on_it.any(axis=1))
    absent: Lines = np.logical_not(np.any(on_it, axis=0))
    absent[: columns[0]] = absent[columns[-1] :] = False
    within[rows[0] : rows[-1] + 1, absent] = True
    gaps: Lines = within & lines & ~sampled
    return gaps


def check_lattice(sampled: Lines, lattice: Lattice, *, complete: bool = True) -> None:
    """Refuse lines that are not a certain lattice with one block between.

    Args:
        sampled: ``(k2, k1)``, at least one line.
        lattice: what they are to be.
        complete: no line of the plan was lost; otherwise some may be missing of lattice and block.

    Raises:
        ShapeError: they are not.
    """
    departure = _departure(sampled, lattice, complete)
    if departure is None:
        return
    acceleration = lattice.acceleration
    other = lattice_of(sampled, complete=complete)
    shifted = shifted_lattice_of(sampled, acceleration, complete=complete)
    remedy = "irregular sampling, for which pipeline 'sense' is made"
    if other is not None and other not in ((1, 1), acceleration):
        remedy = (
            f"the lines look like acceleration {other[0]} x {other[1]}: if that is right, set grappa.acceleration "
            f"to [{other[0]}, {other[1]}]; for irregular sampling there is pipeline 'sense'"
        )
    elif shifted is not None and shifted != lattice:
        remedy = (
            f"the lines look like acceleration {shifted}: if that is right, set grappa.acceleration to "
            f"{list(shifted.acceleration)} and grappa.shift to {shifted.shift}"
        )
    raise ShapeError(
        f"GRAPPA at acceleration {lattice} needs a regular lattice of lines, but {departure}; sampled are "
        f"{describe_sampled(sampled)}: {remedy}"
    )


def describe_sampled(sampled: Lines) -> str:
    """Sampled rows of the grid in few words."""
    (n2, n1), (along_k1, along_k2) = sampled.shape, _projections(sampled)
    text = f"k1 rows {describe_lines(np.flatnonzero(along_k1).tolist())} of {n1} (centre {n1 // 2})"
    if n2 > 1:
        rows = describe_lines(np.flatnonzero(along_k2).tolist())
        text += f" and k2 rows {rows} of {n2} (centre {n2 // 2})"
    return text


def _best_lattice(sampled: Lines, lattice: Lattice) -> Lines:
    """Of all lattices of an acceleration and a shift the one ``(k2, k1)`` that has most of the lines."""
    r1, r2 = lattice.acceleration
    candidates = (
        lattice_lines(sampled.shape, lattice.acceleration, lattice.shift, (o1, o2)).numpy()
        for o2 in range(r2)
        for o1 in range(r1)
    )
    best: Lines = max(candidates, key=lambda lines: int((sampled & lines).sum()))
    return best


def _departure(sampled: Lines, lattice: Lattice, complete: bool) -> str | None:
    """How lines differ from a lattice with one block between; None where they do not."""
    lines = _best_lattice(sampled, lattice)
    if lattice.shift:
        lost = int(lattice_gaps_of(sampled, lattice).sum())
    else:
        columns, rows = lines.any(axis=0), lines.any(axis=1)
        lost = int(lattice_gaps(sampled[np.ix_(rows, columns)], (1, 1)).sum())
    may_lack = 0.0 if complete else _LOST
    if lost > may_lack * (lost + (sampled & lines).sum()):
        return f"{lost} lines are missing between those of the best fitting one"
    between = sampled & ~lines
    if not between.any():
        return None
    along_k1, along_k2 = (np.flatnonzero(line) for line in _projections(between))
    box = sampled[along_k2[0] : along_k2[-1] + 1, along_k1[0] : along_k1[-1] + 1]
    if 1 not in sampled.shape:
        may_lack = _ELLIPSE
    if (~box).sum() > may_lack * box.size:
        return f"{int(between.sum())} lines lie between those of the best fitting one, and form no block"
    return None


def _spacing(line: Lines, complete: bool) -> int | None:
    """Distance of lines outside a block, 1 where there is no gap, None where it varies."""
    at = np.flatnonzero(line)
    if at[-1] - at[0] + 1 == len(at):
        return 1
    for r in range(2, _LARGEST + 1):
        first = int(np.bincount(at % r, minlength=r).argmax())
        between = at[at % r != first]
        planned = np.arange(at[at % r == first][0], at[at % r == first][-1] + 1, r)
        lost = int((~line[planned]).sum())
        outside = planned
        if len(between):
            block = slice(between[0], between[-1] + 1)
            lost += int((~line[block]).sum())
            outside = planned[(planned < between[0] - 1) | (planned > between[-1] + 1)]
        if len(outside) >= _OUTSIDE and lost <= (0.0 if complete else _LOST) * len(at):
            return r
    return None


def _projections(sampled: Lines) -> tuple[Lines, Lines]:
    """Where along k1, and where along k2, there is any line."""
    along_k1: Lines = np.any(sampled, axis=0)
    along_k2: Lines = np.any(sampled, axis=1)
    return along_k1, along_k2
