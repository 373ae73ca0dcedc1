"""How sharp edges are, beside those of the reference.

A sigmoid is fitted to the profile across every strong edge, and its 10-90 % width is told: Ahmad et al., *Edge
sharpness assessment by parametric modeling: application to magnetic resonance imaging*, Concepts Magn Reson Part A
44:138-149 (2015). Where edges are, and which way they run, is found in the reference alone, so that all images are
looked at in the same places.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from scanside.metrics import Real

__all__ = ["Edges", "edges_of", "sharpness"]

_SIGMA = 1.0
"""Pixels of the Gaussian whose derivatives tell where edges are."""
_REACH = 5.0
_STEP = 0.5
"""Pixels of a profile to either side, and from one of its points to the next."""
_AT_MOST = 100
_LEAST = 8
"""Edges that an image must have for a figure."""
_STRONG = 0.25
"""Of the strongest gradient; weaker ones are no edges."""
_EXPLAINED = 0.95
"""Share of a profile's variance that a sigmoid must explain for it to be one edge that stands alone."""
_STILL_THERE = 0.8
"""The same for an image, in which an edge may be lost in noise or ghosts."""
_TO_WIDTH = 2 * float(np.log(9))
"""10-90 % width of a sigmoid ``1 / (1 + exp(-t / w))`` over ``w``."""
_NARROWEST, _WIDEST = 0.15, 4.0
"""Pixels that ``w`` may have: beyond, a profile of this length tells nothing."""
_ITERATIONS = 40

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Edges:
    """Where the reference has edges that stand alone.

    Attributes:
        points: ``(n, 2)`` row and column.
        directions: ``(n, 2)`` unit vectors across them, from dark to bright.
        widths: ``(n,)`` 10-90 % widths in the reference, in pixels.
    """

    points: Floats
    directions: Floats
    widths: Floats


def edges_of(reference: Real) -> Edges | None:
    """The strong edges of a reference ``(y, x)``; None where there are fewer than eight that stand alone."""
    reach = int(_REACH) + 1
    if min(reference.shape) <= 2 * reach + 2:
        return None
    gradient = np.stack([ndimage.gaussian_filter(reference, _SIGMA, order) for order in ((1, 0), (0, 1))], -1)
    strength = np.linalg.norm(gradient, axis=-1)
    across = gradient / np.where(strength > 0, strength, 1)[..., None]
    rows, columns = np.indices(reference.shape)
    here = np.stack([rows, columns], -1)
    beside = [
        ndimage.map_coordinates(strength, np.moveaxis(here + side * across, -1, 0), order=1, mode="nearest")
        for side in (-1, 1)
    ]
    crest = (strength >= beside[0]) & (strength > beside[1]) & (strength > _STRONG * strength.max())
    inner = np.zeros_like(crest)
    inner[reach:-reach, reach:-reach] = True
    points = np.argwhere(crest & inner)
    if not len(points):
        return None
    strongest = np.argsort(-strength[tuple(points.T)], kind="stable")
    points = points[strongest[: 4 * _AT_MOST]]
    directions = across[tuple(points.T)]
    widths, explained = _fitted(_profiles(reference, points.astype(np.float64), directions))
    alone = np.flatnonzero(explained > _EXPLAINED)[:_AT_MOST]
    if len(alone) < _LEAST:
        return None
    return Edges(points[alone].astype(np.float64), directions[alone], widths[alone])


def sharpness(image: Real, reference: Real) -> float | None:
    """Median over the edges of the reference's width over the image's: 1 for equal images, less for softer edges.

    Args:
        image: ``(y, x)`` magnitudes, of any scale.
        reference: the same shape.

    Returns:
        None where the reference has fewer than eight strong edges that stand alone, or the image has fewer left of
        them: of noise, a width tells nothing.
    """
    edges = edges_of(reference)
    if edges is None:
        return None
    widths, explained = _fitted(_profiles(image, edges.points, edges.directions))
    found = explained > _STILL_THERE
    if found.sum() < _LEAST:
        return None
    return float(np.median(edges.widths[found] / widths[found]))


def _profiles(image: Real, points: Floats, directions: Floats) -> Floats:
    """``(n, point)``, across every edge, between pixels by cubic splines."""
    places = points[:, None] + _offsets()[:, None] * directions[:, None]
    return np.asarray(ndimage.map_coordinates(image, np.moveaxis(places, -1, 0), order=3, mode="nearest"))


def _offsets() -> Floats:
    return np.arange(-_REACH, _REACH + _STEP / 2, _STEP)


def _fitted(profiles: Floats) -> tuple[Floats, Floats]:
    """10-90 % widths of the sigmoids that fit profiles best, and the share of the variance that they explain.

    ``low + height / (1 + exp(-(t - middle) / w))`` by Levenberg and Marquardt, all profiles at once.
    """
    t, n = _offsets(), len(profiles)
    spread = np.ptp(profiles, axis=1)
    scaled = (profiles - profiles.min(1, keepdims=True)) / np.where(spread > 0, spread, 1)[:, None]
    found = np.tile([0.0, 1.0, 0.0, np.log(0.7)], (n, 1))
    damping = np.full(n, 1e-2)
    error = _residuals(found, t, scaled)[0]
    for _ in range(_ITERATIONS):
        residuals, slopes = _linearised(found, t, scaled)
        normal = np.einsum("npi,npj->nij", slopes, slopes)
        pull = np.einsum("npi,np->ni", slopes, residuals)
        diagonal = np.einsum("nii->ni", normal)
        damped = normal + np.einsum("ni,ij->nij", damping[:, None] * diagonal + 1e-12, np.eye(4))
        tried = found + np.linalg.solve(damped, pull[..., None])[..., 0]
        tried[:, 2] = np.clip(tried[:, 2], -_REACH / 2, _REACH / 2)
        tried[:, 3] = np.clip(tried[:, 3], np.log(_NARROWEST), np.log(_WIDEST))
        new, _ = _residuals(tried, t, scaled)
        better = new < error
        found, error = np.where(better[:, None], tried, found), np.where(better, new, error)
        damping = np.clip(np.where(better, damping / 4, damping * 4), 1e-9, 1e9)
    variance = ((scaled - scaled.mean(1, keepdims=True)) ** 2).sum(1)
    explained = 1 - error / np.where(variance > 0, variance, 1)
    rises = found[:, 1] > 0
    explained = np.where((variance > 0) & rises, explained, 0.0)
    return np.where(rises, _TO_WIDTH * np.exp(found[:, 3]), _TO_WIDTH * _WIDEST), explained


def _residuals(found: Floats, t: Floats, profiles: Floats) -> tuple[Floats, Floats]:
    """Sum of squares of what is left over, and the sigmoids ``(n, point)``."""
    low, height, middle, width = (column[:, None] for column in found.T)
    rise = 1 / (1 + np.exp(np.clip(-(t - middle) / np.exp(width), -60, 60)))
    return ((profiles - low - height * rise) ** 2).sum(1), rise


def _linearised(found: Floats, t: Floats, profiles: Floats) -> tuple[Floats, Floats]:
    """What is left over ``(n, point)``, and how the sigmoids change with their four parameters."""
    low, height, middle, width = (column[:, None] for column in found.T)
    _, rise = _residuals(found, t, profiles)
    steep = height * rise * (1 - rise) / np.exp(width)
    slopes = np.stack([np.ones_like(rise), rise, -steep, -steep * (t - middle)], -1)
    return profiles - low - height * rise, slopes
