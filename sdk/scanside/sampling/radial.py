"""Spokes on the grid: straight lines through the centre of k-space, moved to the next points of the matrix."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from scanside.errors import ConfigError
from scanside.sampling.draws import Mask
from scanside.sampling.space import Space

__all__ = ["kt_radial", "radial", "spokes"]

_GOLDEN_STEP = math.pi * (math.sqrt(5.0) - 1) / 2
"""111.25°, between spokes that follow each other (Winkelmann et al., IEEE Trans Med Imaging 26, 2007)."""

_TURN = math.pi * (3 - math.sqrt(5.0))
"""137.51°, from one frame of CMRxRecon's ``ktRadial`` to the next."""


def radial(space: Space, acceleration: float, rng: np.random.Generator) -> Mask:
    """Spokes at golden angles, the first one drawn: as many as it takes to cover ``round(n / R)`` points.

    R does not count the fully sampled centre, which comes on top.
    """
    wanted = space.wanted(acceleration)
    angle = math.pi * rng.random()
    covered = np.zeros(space.shape, bool)
    n_spokes = 0
    while covered.sum() < wanted:
        _check_count(space, n_spokes, covered, acceleration)
        covered |= spokes(space.shape, [angle]) & space.region
        angle += _GOLDEN_STEP
        n_spokes += 1
    return covered | space.block


def kt_radial(space: Space, n_frames: int, acceleration: float, rng: np.random.Generator) -> Mask:
    """CMRxRecon's ``ktRadial``: in each frame spokes at even angles, turned by 137.5° from frame to frame.

    All frames have as many spokes as the first one needs to cover ``round(n / R)`` points; the angle of its first
    spoke is drawn. The fully sampled centre, which R does not count, comes on top (Wang et al., Radiol Artif Intell
    7(2), 2025). CMRxRecon's own spokes end at a circle: see `Limits.elliptical`.

    Args:
        space: where to draw, a plane.
        n_frames: length of the series.
        acceleration: R.
        rng: draws the first angle.

    Returns:
        ``(n_frames, k1, k2)``.

    Raises:
        ConfigError: no number of spokes gives this acceleration.
    """
    wanted = space.wanted(acceleration)
    begin = math.pi * rng.random()
    covered = np.zeros(space.shape, bool)
    angles: npt.NDArray[np.float64] = np.zeros(0)
    while covered.sum() < wanted:
        _check_count(space, len(angles), covered, acceleration)
        n_spokes = len(angles) + 1
        angles = begin + math.pi / n_spokes * np.arange(n_spokes, dtype=np.float64)
        covered = spokes(space.shape, angles) & space.region
    return np.stack(
        [
            spokes(space.shape, angles + _TURN * frame) & space.region | space.block
            for frame in range(n_frames)
        ]
    )


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


def _check_count(space: Space, n_spokes: int, covered: Mask, acceleration: float) -> None:
    if n_spokes == 2 * sum(space.shape):
        raise ConfigError(
            f"{n_spokes} spokes cover {int(covered.sum())} of {space.n_places} points, and an acceleration of "
            f"{acceleration:g} asks for {space.wanted(acceleration)}: raise it, or take 'circus-radial'"
        )
