"""Poisson discs on the grid: points at random that keep a distance from each other.

Bridson, Fast Poisson disk sampling in arbitrary dimensions, SIGGRAPH 2007; for MRI, with a density that falls
outwards, Vasanawala et al., Practical parallel imaging compressed sensing MRI, ISBI 2011.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from scanside.errors import ConfigError
from scanside.sampling.densities import edge_distance
from scanside.sampling.draws import Mask
from scanside.sampling.space import Space

__all__ = ["TOLERANCE", "distances", "poisson", "poisson_uniform"]

Distances = npt.NDArray[np.float64]
Points = npt.NDArray[np.int64]

TOLERANCE = 0.1
"""Share of the points of a full pattern that may be left out for the acceleration to be exact."""

_PACKING = 0.7
"""Points of a full pattern per area, in units of the squared distance: discs that are thrown at random until none has
a place cover 0.547 of a plane (Feder, J Theor Biol 87, 1980)."""

_ATTEMPTS = 16


def poisson(
    space: Space, acceleration: float, rng: np.random.Generator, *, tolerance: float = TOLERANCE
) -> Mask:
    """Points whose distance grows outwards as ``1 + s r``, r being 1 at the edge; s is found so that R is met.

    Distances of the grid are 1, √2, 2, √5 and so on: each point takes the next smaller or the next larger one, by
    chance, so that their squares are as asked for on average. Of any two points beside the fully sampled centre, the
    distance is that of one of them or more. Points are thrown until none has a place, and those that came last left
    out: there are ``round(n / R)`` with the centre, which R counts.

    Args:
        space: where to draw, a plane.
        acceleration: R.
        rng: draws the points.
        tolerance: share of the points of a full pattern that may be left out.

    Raises:
        ConfigError: the centre has more points than R leaves, or no s gives this R within the tolerance.
    """
    return _disc(space, acceleration, rng, tolerance, edge_distance(space.shape))


def poisson_uniform(
    space: Space, acceleration: float, rng: np.random.Generator, *, tolerance: float = TOLERANCE
) -> Mask:
    """The same with one distance everywhere, which is found so that R is met."""
    return _disc(space, acceleration, rng, tolerance, np.ones(space.shape))


def distances(wanted: Distances, chance: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
    """Squared distances of the grid next to those that are wanted.

    Args:
        wanted: of each point, 1 or more.
        chance: for each one 0 to below 1: the lower, the more often the larger neighbour.
    """
    square = wanted**2
    reach = math.isqrt(int(square.max())) + 2
    squares = np.arange(reach + 1) ** 2
    steps = np.unique(squares[:, None] + squares)[1:]
    above = np.searchsorted(steps, square, side="right")
    low, high = steps[above - 1], steps[above]
    return np.where(chance * (high - low) < square - low, high, low)


def _disc(
    space: Space,
    acceleration: float,
    rng: np.random.Generator,
    tolerance: float,
    profile: npt.NDArray[np.float64],
) -> Mask:
    wanted = space.missing(acceleration)
    free = (space.region & ~space.block).ravel()
    # Whatever the distances, points are tried in the same order.
    order = np.argsort(rng.random(free.size), kind="stable")
    chance = rng.random(space.shape)
    order = order[free[order]]
    most = math.floor(wanted * (1 + tolerance))
    packing, reached = _PACKING, []
    for _ in range(_ATTEMPTS):
        distance = 1 + _growth(profile.ravel()[free], (wanted + most) / 2, packing) * profile
        # One more than may be left out tells that there are too many.
        found = _thrown(order, distances(distance, chance), most + 1)
        if wanted <= len(found) <= most:
            mask = space.block.copy()
            mask.ravel()[found[:wanted]] = True
            return mask
        reached.append(len(found))
        packing *= (len(found) + 1) / (_expected(distance.ravel()[free], packing) + 1)
    nearest = min(reached, key=lambda n: abs(n - wanted))
    raise ConfigError(
        f"a Poisson disc for an acceleration of {acceleration:g} needs a distance at which a full pattern has "
        f"{wanted} to {most} points beside the centre, and none was found; the nearest has {nearest}: raise the "
        f"tolerance ({tolerance:g}), change the acceleration a little, or take the pattern 'variable-density'"
    )


def _growth(profile: npt.NDArray[np.float64], wanted: float, packing: float) -> float:
    """Growth s of the distance ``1 + s · profile`` at which so many points are expected, by bisection."""
    low, high = 0.0, float(4 * len(profile))
    for _ in range(50):
        middle = (low + high) / 2
        enough = _expected(1 + middle * profile, packing) >= wanted
        low, high = (middle, high) if enough else (low, middle)
    # Nine digits are the same on every machine, whatever the order in which it sums.
    return round(low, 9)


def _expected(distance: Distances, packing: float) -> float:
    return float(np.minimum(packing / distance**2, 1).sum())


def _thrown(order: Points, squared: Points, most: int) -> Points:
    """Points in the given order, each if no earlier one is nearer than that one's distance; `most` at most."""
    n1, n2 = squared.shape
    margin = min(math.isqrt(int(squared.max())) + 1, max(n1, n2))
    width = n2 + 2 * margin
    blocked = bytearray((n1 + 2 * margin) * width)
    marks = np.frombuffer(blocked, np.uint8)
    discs = {size: _disc_of(size, margin, width) for size in np.unique(squared).tolist()}
    places = ((order // n2 + margin) * width + order % n2 + margin).tolist()
    sizes = squared.ravel()[order].tolist()
    found: list[int] = []
    for number, (place, size) in enumerate(zip(places, sizes, strict=True)):
        if not blocked[place]:
            marks[place + discs[size]] = 1
            found.append(number)
            if len(found) == most:
                break
    return order[found]


def _disc_of(squared: int, margin: int, width: int) -> Points:
    """Steps to all points nearer than a squared distance, in a flat array of rows of `width`; at most the margin."""
    reach = min(math.isqrt(squared), margin)
    k1, k2 = np.mgrid[-reach : reach + 1, -reach : reach + 1]
    near = k1**2 + k2**2 < squared
    steps: Points = k1[near] * width + k2[near]
    return steps
