"""CIRCUS: circular Cartesian undersampling, radial or spiral arms made of points of the grid.

Liu and Saloner, Quant Imaging Med Surg 4(1), 2014.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from scanside.errors import ConfigError
from scanside.sampling.densities import offsets
from scanside.sampling.draws import Mask
from scanside.sampling.space import Space

__all__ = ["circus_radial", "circus_spiral"]

_GOLDEN = (np.sqrt(5.0) - 1) / 2


def circus_radial(space: Space, acceleration: float, rng: np.random.Generator) -> Mask:
    """Points of concentric squares, in golden steps around each: the m-th one is ``⌊frac(u + 0.618 m) · K⌋``.

    K is the perimeter of a square in points, u the beginning, which is drawn. Every step takes one point of each
    square, which makes an arm. There are as many arms as ``round(n / R)`` points need, the fully sampled centre
    counted, and of the last arm the inner part. Squares lie around the central point and have ``K = 8 j``; those of
    the paper lie around the middle of four points and have ``K = 4 J - 4``, for which matrices must be even.
    """
    return _arms(space, acceleration, rng, twist=0.0)


def circus_spiral(space: Space, acceleration: float, rng: np.random.Generator, *, twist: float = 1.2) -> Mask:
    """The same, with each square turned by ``⌈J^twist⌉ - 1`` points, J being its side: arms wind about the centre.

    Args:
        space: where to draw, a plane.
        acceleration: R.
        rng: draws where the first arm begins.
        twist: exponent of the turn, the paper's c; 1.1 to 1.3 are usual.
    """
    if not 0 < twist <= 2:
        raise ConfigError(
            f"the twist of a spiral is an exponent above 0 and at most 2, got {twist:g}: change it"
        )
    return _arms(space, acceleration, rng, twist=twist)


def _arms(space: Space, acceleration: float, rng: np.random.Generator, twist: float) -> Mask:
    missing = space.missing(acceleration)
    mask = space.block.copy()
    walks = _squares(space)
    turns = [int(np.ceil((2 * j + 1) ** twist)) - 1 if twist else 0 for j in range(len(walks))]
    position = rng.random()
    while missing:
        for walk, turn in zip(walks, turns, strict=True):
            place = walk[(int(position * len(walk)) + turn) % len(walk)]
            if missing and place >= 0 and not mask.flat[place]:
                mask.flat[place] = True
                missing -= 1
        position = (position + _GOLDEN) % 1.0
    return mask


def _squares(space: Space) -> list[npt.NDArray[np.int64]]:
    """For each square from the centre outwards its points, once around: flat index, or -1 beyond the region."""
    n1, n2 = space.shape
    k1, k2 = offsets(space.shape)
    walks = [np.array([n1 // 2 * n2 + n2 // 2])]
    for j in range(1, int(np.maximum(np.abs(k1), np.abs(k2)).max()) + 1):
        side, edge = np.arange(-j, j), np.full(2 * j, j)
        rows = np.concatenate([-edge, side, edge, -side]) + n1 // 2
        columns = np.concatenate([side, edge, -side, -edge]) + n2 // 2
        inside = (rows >= 0) & (rows < n1) & (columns >= 0) & (columns < n2)
        flat = np.where(inside, rows * n2 + columns, 0)
        walks.append(np.where(inside & space.region.ravel()[flat], flat, -1))
    return walks
