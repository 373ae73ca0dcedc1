"""Whether sampled lines form a lattice, and which one."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from scanside.errors import ShapeError
from scanside.losses import lattice_gaps
from scanside.recon.grappa import describe_lines

__all__ = ["check_lattice", "describe_sampled", "lattice_of"]

Lines = npt.NDArray[np.bool_]

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
    if r1 is not None and r2 is not None and r1 * r2 > 1 and _departure(sampled, (r1, r2), complete) is None:
        return r1, r2
    lost = int(lattice_gaps(sampled, (1, 1)).sum())
    return (1, 1) if lost <= _LOST * (lost + sampled.sum()) else None


def check_lattice(sampled: Lines, acceleration: tuple[int, int], *, complete: bool = True) -> None:
    """Refuse lines that are not a lattice of the given acceleration with one block between.

    Args:
        sampled: ``(k2, k1)``, at least one line.
        acceleration: (R1, R2).
        complete: no line of the plan was lost; otherwise some may be missing of lattice and block.

    Raises:
        ShapeError: they are not.
    """
    departure = _departure(sampled, acceleration, complete)
    if departure is None:
        return
    r1, r2 = acceleration
    other = lattice_of(sampled, complete=complete)
    remedy = "irregular sampling, for which pipeline 'sense' is made"
    if other is not None and other not in ((1, 1), acceleration):
        remedy = (
            f"the lines look like acceleration {other[0]} x {other[1]}: if that is right, set grappa.acceleration "
            f"to [{other[0]}, {other[1]}]; for irregular sampling there is pipeline 'sense'"
        )
    raise ShapeError(
        f"GRAPPA at acceleration {r1} x {r2} needs a regular lattice of lines, but {departure}; sampled are "
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


def _departure(sampled: Lines, acceleration: tuple[int, int], complete: bool) -> str | None:
    """How lines differ from a lattice with one block between; None where they do not."""
    r1, r2 = acceleration
    first1, first2 = max(
        ((o1, o2) for o2 in range(r2) for o1 in range(r1)),
        key=lambda first: int(sampled[first[1] :: r2, first[0] :: r1].sum()),
    )
    lattice = sampled[first2::r2, first1::r1]
    lost = int(lattice_gaps(lattice, (1, 1)).sum())
    may_lack = 0.0 if complete else _LOST
    if lost > may_lack * (lost + lattice.sum()):
        return f"{lost} lines are missing between those of the best fitting one"
    between = sampled.copy()
    between[first2::r2, first1::r1] = False
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
