"""Patterns of lines that fastMRI made common, all random by an offset or by a chance for each line.

Zbontar et al., fastMRI: an open dataset and benchmarks for accelerated MRI, arXiv:1811.08839; Defazio, Offset
sampling improves deep learning based accelerated MRI reconstructions by exploiting symmetry, arXiv:1912.01101. There
the fully sampled centre has ``round(share · n)`` lines, a share of 0.08 at R = 4 and 0.04 at R = 8. Of an even number
of lines in a matrix of odd size it begins one line later than here, where all begin at ``n // 2 - acs // 2``.

Below, n counts the lines that may be acquired, c those of the centre, R is the acceleration. All functions take the
space to draw from, R and a generator, give ``(k1,)`` and raise `ConfigError` where R does not fit.
"""

from __future__ import annotations

import numpy as np

from scanside.errors import ConfigError
from scanside.sampling.densities import offsets
from scanside.sampling.draws import Mask, draw_whole
from scanside.sampling.space import Space

__all__ = ["equispaced", "equispaced_fraction", "fastmri_random", "magic", "magic_fraction"]

_LEAST_MAGIC = 3


def fastmri_random(space: Space, acceleration: float, rng: np.random.Generator) -> Mask:
    """What fastMRI calls ``random``: each line beside the centre with probability ``(n / R - c) / (n - c)``.

    R counts the centre, and holds on average only.
    """
    space.missing(acceleration)
    n, c = space.n_places, space.n_block
    probability = (n / acceleration - c) / max(n - c, 1)
    return (rng.random(space.shape) < probability) & space.region | space.block


def equispaced(space: Space, acceleration: float, rng: np.random.Generator) -> Mask:
    """What fastMRI calls ``equispaced``: every R-th line from an offset in ``[0, R)``, which is drawn.

    R is a whole number and does not count the centre, which comes on top: fewer than R times fewer lines.
    """
    step = _whole(acceleration, "equispaced")
    on_grid = np.arange(space.shape[0]) % step == draw_whole(step, rng)
    mask: Mask = on_grid & space.region | space.block
    return mask


def equispaced_fraction(space: Space, acceleration: float, rng: np.random.Generator) -> Mask:
    """What fastMRI calls ``equispaced_fraction``: lines ``round(offset + i · a)``, ``a = R (n - c) / (n - c R)``.

    R counts the centre, so that lines beside it lie a > R apart, and not all at the same whole distance. The offset
    is drawn from ``[0, round(a))``. The public test data of fastMRI are sampled so.
    """
    if not space.missing(acceleration):
        return space.block.copy()
    n, c = space.n_places, space.n_block
    distance = acceleration * (n - c) / (n - c * acceleration)
    mask = space.block.copy()
    size = space.shape[0]
    places = np.rint(draw_whole(round(distance), rng) + distance * np.arange(size)).astype(np.int64)
    mask[places[places < size]] = True
    return mask & space.region


def magic(space: Space, acceleration: float, rng: np.random.Generator) -> Mask:
    """What fastMRI calls ``magic``: every R-th line on either side of the centre, and not the mirrored ones.

    With an offset o in ``[0, R)``, which is drawn, lines ``k ≡ o + 1`` are acquired above the centre and
    ``-k ≡ o + 3`` below (modulo R) where o is even, ``k ≡ o + 2`` and ``-k ≡ o`` where it is odd. The k-space of an
    image whose phase is smooth is nearly symmetric, so that each side shows what the other leaves out: at R = 4 they
    have every second line together, the odd ones. R is a whole number of at least 3, and does not count the centre.
    """
    step = _whole(acceleration, "magic")
    if step < _LEAST_MAGIC:
        raise ConfigError(
            f"magic sampling needs an acceleration of at least {_LEAST_MAGIC}, got {acceleration:g}: below, one side "
            "mirrors the other. Raise it, or take 'equispaced'"
        )
    return _offset_sides(space, step, rng)


def magic_fraction(space: Space, acceleration: float, rng: np.random.Generator) -> Mask:
    """What fastMRI calls ``magic_fraction``: ``magic`` with lines ``round(n / (round(n / R) - c))`` apart.

    R counts the centre. It is met roughly, as the distance is rounded and lines within the centre are there already.
    """
    missing = space.missing(acceleration)
    if not missing:
        return space.block.copy()
    step = round(space.n_places / missing)
    if step < _LEAST_MAGIC:
        raise ConfigError(
            f"an acceleration of {acceleration:g} leaves lines {step} apart beside the centre, and magic sampling "
            f"needs {_LEAST_MAGIC}: raise the acceleration or acs, or take 'equispaced-fraction'"
        )
    return _offset_sides(space, step, rng)


def _offset_sides(space: Space, step: int, rng: np.random.Generator) -> Mask:
    offset = draw_whole(step, rng)
    above, below = (offset + 1, offset + 3) if offset % 2 == 0 else (offset + 2, offset)
    (k,) = offsets(space.shape)
    on_grid = np.where(k >= 0, (k - above) % step == 0, (-k - below) % step == 0)
    mask: Mask = on_grid & space.region | space.block
    return mask


def _whole(acceleration: float, name: str) -> int:
    if acceleration != int(acceleration):
        raise ConfigError(
            f"{name} lines need a whole acceleration, got {acceleration:g}: round it, or take '{name}-fraction'"
        )
    return int(acceleration)
