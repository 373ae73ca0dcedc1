"""Densities of random patterns, over one or two phase encodings."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

__all__ = ["FLOOR", "GAUSSIAN_SHARE", "edge_distance", "gaussian_density", "line_density", "offsets"]

Weights = npt.NDArray[np.float64]

GAUSSIAN_SHARE = 0.2
"""How far the Gaussian density is from the even one: 0 to below 1. CMRxRecon 2025 has 0.2, that of 2024 had 0.28."""

FLOOR = 0.1
"""What the Gaussian density has everywhere, before the bell is added."""


def offsets(shape: tuple[int, ...]) -> list[npt.NDArray[np.int64]]:
    """Distance of every place from the centre of k-space, ``n // 2``, along each axis; they broadcast to `shape`."""
    return [place - n // 2 for place, n in zip(np.ogrid[tuple(map(slice, shape))], shape, strict=True)]


def edge_distance(shape: tuple[int, ...]) -> Weights:
    """Distance from the centre of k-space: 1 at the edge along every axis, √2 in the corner of a plane."""
    squares = [(k / max(n / 2, 1)) ** 2 for k, n in zip(offsets(shape), shape, strict=True)]
    distance: Weights = np.sqrt(sum(squares[1:], squares[0]))
    return distance


def line_density(radius: Weights, power: float) -> Weights:
    """Weight of lines at a distance `radius` from the centre, 1 at the edge, where it stays a little above zero."""
    weight: Weights = np.maximum(1 - radius, 0.01) ** power
    return weight


def gaussian_density(shape: tuple[int, ...], share: float = GAUSSIAN_SHARE) -> Weights:
    """``0.1 + share / (1 - share) · exp(-(5 k / n)²)``, for two axes with the sum of both squares.

    As CMRxRecon has it for lines: the bell is ``n / 5`` wide (Wang et al., Radiol Artif Intell 7(2), 2025).

    Args:
        shape: of the matrix.
        share: 0 for an even density, and the more towards the centre the nearer it is to 1.
    """
    density: Weights = FLOOR + share / (1 - share) * np.exp(-((2.5 * edge_distance(shape)) ** 2))
    return density
