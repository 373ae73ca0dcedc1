"""Patterns that are drawn by a density, lines along one phase encoding or points along two.

All functions take the space to draw from, the acceleration R and a generator, and give a mask of the space's shape.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from scanside.errors import ConfigError
from scanside.sampling.densities import GAUSSIAN_SHARE, edge_distance, gaussian_density, line_density
from scanside.sampling.draws import Mask, choose
from scanside.sampling.space import Space

__all__ = ["centre", "gaussian", "uniform", "variable_density"]


def uniform(space: Space, acceleration: float, rng: np.random.Generator) -> Mask:
    """All places with equal weight, ``round(n / R)`` of them with the fully sampled centre, which R counts."""
    return _beside_the_centre(space, np.ones(space.shape), acceleration, rng)


def variable_density(
    space: Space, acceleration: float, rng: np.random.Generator, *, density_power: float = 2.0
) -> Mask:
    """Places with weight ``(1 - r)^power``, ``round(n / R)`` of them with the centre, which R counts.

    r is the distance from the centre of k-space, 1 at the edge of lines and in the corner of planes (Lustig, Donoho
    and Pauly, Magn Reson Med 58, 2007).

    Args:
        space: where to draw.
        acceleration: R.
        rng: draws the places.
        density_power: 0 is even, the higher the denser the centre.
    """
    if density_power < 0:
        raise ConfigError(f"density_power is at least 0, got {density_power:g}: raise it")
    radius = edge_distance(space.shape) / math.sqrt(len(space.shape))
    return _beside_the_centre(space, line_density(radius, density_power), acceleration, rng)


def gaussian(
    space: Space, acceleration: float, rng: np.random.Generator, *, share: float = GAUSSIAN_SHARE
) -> Mask:
    """``round(n / R)`` places by `scanside.sampling.densities.gaussian_density`, the centre, not counted, on top.

    One frame of CMRxRecon's ``ktGaussian``, which draws lines anew in each; for planes the bell is round.

    Args:
        space: where to draw.
        acceleration: R.
        rng: draws the places.
        share: how far the density is from the even one, 0 to below 1.
    """
    if not 0 <= share < 1:
        raise ConfigError(
            f"the share of the bell in a Gaussian density is 0 to below 1, got {share:g}: change it"
        )
    weight = np.where(space.region, gaussian_density(space.shape, share), 0)
    return choose(weight, space.wanted(acceleration), rng) | space.block


def centre(space: Space, acceleration: float, rng: np.random.Generator) -> Mask:  # noqa: ARG001 — as all patterns
    """A scan of low resolution, of lines alone: the ``round(n / R)`` ones about the centre; nothing is drawn."""
    space.missing(acceleration)
    return Space.of(space.region, (space.wanted(acceleration),)).block


def _beside_the_centre(
    space: Space, weight: npt.NDArray[np.float64], acceleration: float, rng: np.random.Generator
) -> Mask:
    missing = space.missing(acceleration)
    return choose(np.where(space.region & ~space.block, weight, 0), missing, rng) | space.block
