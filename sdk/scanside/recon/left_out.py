"""Lines that are left out to be predicted: what tells two reconstructions apart without the truth.

A reconstruction that is given some lines less than were acquired predicts those as well, and what was acquired of
them says how well. That is cross-validation in k-space. The errors of two reconstructions hold the same noise, that
of the lines themselves, so that their difference is free of it; how far it can be trusted is told by how much it
varies from line to line.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

__all__ = ["Gain", "LeftOut", "choose_lines", "gain", "seen_strip"]

_MOST = 8
_FEWEST = 3
_MIDDLE = 4
"""So many lines on both sides of the centre stay: hardly any image is left without them."""

_SHARE = 2
"""Of the lines outside of the middle one in so many is left out at most."""


@dataclass(frozen=True)
class LeftOut:
    """Lines of a scan that a check leaves out.

    Attributes:
        lines: their indices along k1, rising.
        outer: ``(line,)`` bool, which of them lie outside the calibration lines, where two reconstructions differ.
        fair: ``(line,)`` bool, which of them lie no further from the lines that are left than those that were never
            acquired do, so that their errors are those of the image. Between the lines of a lattice none does; off
            the lattice, in its calibration lines, all do.
    """

    lines: torch.Tensor
    outer: torch.Tensor
    fair: torch.Tensor


def choose_lines(sampled: torch.Tensor, lattice: int | None) -> LeftOut | None:
    """Which lines to leave out: some outside the calibration lines, spread evenly over those that were acquired.

    Of a lattice with calibration lines between, also those of the latter that lie off the lattice.

    Args:
        sampled: ``(k1,)`` bool, the centre at ``n // 2``.
        lattice: distance of the lines, where they form a lattice; None for any other pattern.

    Returns:
        The lines; None where there are not enough to spare.
    """
    centre = len(sampled) // 2
    first, last = _block(sampled, centre)
    lines = sampled.nonzero()[:, 0]
    away = (lines - centre).abs() > _MIDDLE
    outside = lines[((lines < first) | (lines > last)) & away]
    n = min(_MOST, len(outside) // _SHARE)
    if n < _FEWEST:
        return None
    chosen = outside[((torch.arange(n) + 0.5) * len(outside) / n).long()]
    outer, fair = torch.ones(n, dtype=torch.bool), torch.full((n,), lattice is None)
    if lattice is not None:
        inside = lines[(lines >= first) & (lines <= last) & away]
        between = inside[(inside - outside[0]) % lattice != 0]
        chosen = torch.cat((chosen, between))
        off = torch.zeros(len(between), dtype=torch.bool)
        outer, fair = torch.cat((outer, off)), torch.cat((fair, ~off))
    order = chosen.argsort()
    return LeftOut(chosen[order], outer[order], fair[order])


def _block(sampled: torch.Tensor, centre: int) -> tuple[int, int]:
    """First and last of the lines without a gap that hold the centre; an empty range where that was not acquired."""
    if not bool(sampled[centre]):
        return centre, centre - 1
    gaps = (~sampled).nonzero()[:, 0]
    below, above = gaps[gaps < centre], gaps[gaps > centre]
    first = int(below[-1]) + 1 if len(below) else 0
    last = int(above[0]) - 1 if len(above) else len(sampled) - 1
    return first, last


def seen_strip(maps: torch.Tensor, width: int) -> slice:
    """The columns side by side in which coils see the most voxels: enough to judge an image by.

    Args:
        maps: ``(*, y, x)``, 0 where nothing is seen.
        width: how many columns.
    """
    seen = (maps != 0).flatten(0, -3).any(0).sum(0)
    total = torch.cat((seen.new_zeros(1), seen.cumsum(0)))
    width = min(width, len(seen))
    inside = total[width:] - total[: len(total) - width]
    best = (inside == inside.max()).nonzero()[:, 0]
    first = int(best[len(best) // 2])  # of a uniform object, its middle
    return slice(first, first + width)


@dataclass(frozen=True)
class Gain:
    """How much better one reconstruction predicts unseen lines than another.

    Attributes:
        db: ratio of the errors' energies without their noise, positive where the first is better.
        evidence: the difference of the errors over its standard error, of the same sign.
    """

    db: float
    evidence: float


def gain(errors: torch.Tensor, others: torch.Tensor, noise: float, floor: float) -> Gain:
    """Compare the errors of two reconstructions.

    Args:
        errors: ``(line,)`` energies of the differences to unseen lines, at least two.
        others: those of the other reconstruction.
        noise: energy of the noise in a line.
        floor: energy in a line that does not matter, > 0: smaller errors count as this one, and smaller differences
            are no evidence.
    """
    difference = (others - errors).double()
    n_lines = len(difference)
    uncertain = math.hypot(float(difference.std()) * math.sqrt(n_lines), floor * n_lines)
    mine, theirs = (max(float(one.double().mean()) - noise, floor) for one in (errors, others))
    return Gain(10 * math.log10(theirs / mine), float(difference.sum()) / uncertain)
