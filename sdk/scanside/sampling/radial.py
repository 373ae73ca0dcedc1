"""Spokes on the grid: straight lines through the centre of k-space, moved to the next points of the matrix."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from scanside.sampling.draws import Mask
from scanside.sampling.space import Space

__all__ = ["kt_radial", "radial", "spokes"]

Angles = npt.NDArray[np.float64]

_GOLDEN_STEP = math.pi * (math.sqrt(5.0) - 1) / 2
"""111.25°, between spokes that follow each other (Winkelmann et al., IEEE Trans Med Imaging 26, 2007)."""

_TURN = math.pi * (3 - math.sqrt(5.0))
"""137.51°, from one frame of CMRxRecon's ``ktRadial`` to the next."""


def radial(space: Space, acceleration: float, rng: np.random.Generator) -> Mask:
    """Spokes at golden angles, the first one drawn, as many as come nearest to ``round(n / R)`` points.

    R does not count the fully sampled centre, which comes on top.
    """
    begin = math.pi * rng.random()
    golden = _nearest(space, acceleration, lambda n: begin + _GOLDEN_STEP * np.arange(n, dtype=np.float64))
    return spokes(space.shape, golden) & space.region | space.block


def kt_radial(space: Space, n_frames: int, acceleration: float, rng: np.random.Generator) -> Mask:
    """CMRxRecon's ``ktRadial``: in each frame spokes at even angles, turned by 137.5° from frame to frame.

    All frames have as many spokes as come nearest to ``round(n / R)`` points in the first one, where the angle of the
    first spoke is drawn. The fully sampled centre, which R does not count, comes on top (Wang et al., Radiol Artif
    Intell 7(2), 2025). CMRxRecon's own spokes end at a circle: see `Limits.elliptical`.

    Args:
        space: where to draw, a plane.
        n_frames: length of the series.
        acceleration: R.
        rng: draws the first angle.

    Returns:
        ``(n_frames, k1, k2)``.

    Raises:
        ConfigError: the acceleration leaves nothing.
    """
    begin = math.pi * rng.random()
    even = _nearest(space, acceleration, lambda n: begin + math.pi / n * np.arange(n, dtype=np.float64))
    frames = [spokes(space.shape, even + _TURN * frame) for frame in range(n_frames)]
    return np.stack(frames) & space.region | space.block


def spokes(shape: tuple[int, ...], angles: npt.ArrayLike) -> Mask:
    """Straight lines through the centre of k-space from edge to edge.

    A line that is steeper along k1 has one point in each row of k1, the nearest one; others one in each column of k2.

    Args:
        shape: of the matrix, ``(k1, k2)``.
        angles: from k1 to k2, radians.
    """
    mask = np.zeros(shape, bool)
    for angle in np.atleast_1d(np.asarray(angles, np.float64)).tolist():
        steep = abs(math.cos(angle)) >= abs(math.sin(angle))
        slope = math.tan(angle) if steep else 1 / math.tan(angle)
        here, there = shape if steep else shape[::-1]
        # A slope of nine digits is the same on every machine, and so are the points.
        across = np.rint(round(slope, 9) * (np.arange(here) - here // 2)).astype(np.int64) + there // 2
        inside = (across >= 0) & (across < there)
        along = mask if steep else mask.T
        along[np.flatnonzero(inside), across[inside]] = True
    return mask


def _nearest(space: Space, acceleration: float, angles_of: Callable[[int], Angles]) -> Angles:
    """Angles of so many spokes, one at least, that they cover as many points as the acceleration leaves."""
    wanted = space.wanted(acceleration)

    def covered(n_spokes: int) -> int:
        return int((spokes(space.shape, angles_of(n_spokes)) & space.region).sum())

    few, many = 0, 1
    while covered(many) < wanted:
        few, many = many, 2 * many
    while many - few > 1:
        middle = (few + many) // 2
        few, many = (middle, many) if covered(middle) < wanted else (few, middle)
    return angles_of(few if few and wanted - covered(few) < covered(many) - wanted else many)
