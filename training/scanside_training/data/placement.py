"""How an object lies in the field of view of an imaginary scan."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from pydantic import Field
from torch import Tensor

from scanside.recon.resize import crop_or_pad
from scanside.recon.scaling import image_scale
from scanside_training.data.resample import Placement, band_limited, sample_at
from scanside_training.data.settings import FloatRange, Probability, Settings

__all__ = ["PlacementConfig", "random_scan_of"]

Points = npt.NDArray[Any]

_OVERSAMPLING = 2
"""Object points per pixel along each axis, before k-space is cut to the matrix."""

_AIR = 0.1
"""Parts of an image below this share of its bright tissue do not count for the size of the object."""

_STRIDE = 2
"""Every second pixel is enough to tell the size of an object."""

_SPECK = 0.02
"""Lines across an object with fewer pixels, as a share of the widest one, are specks of noise."""


class PlacementConfig(Settings):
    """Size, position and orientation of objects."""

    fill: FloatRange = (0.65, 0.95)
    """Extent of the object along k1 over the field of view: the rest is the empty margin that a scan leaves."""
    aspect: FloatRange = (0.9, 1.1)
    """How much longer pixels are along k0 than along k1."""
    rotation_deg: FloatRange = (-15.0, 15.0)
    """Rotation in the plane."""
    transpose: Probability = 0.3
    """How often phase encoding runs along x of the slice instead of y."""
    flips: Probability = 0.5
    """How often each axis runs backwards."""
    native: Probability = 0.0
    """How often a slice keeps its pixels: it is put on the middle of the matrix as it is, neither interpolated nor
    rotated nor tapered; what lies beyond the matrix is cut off. Flips and transposition stay."""
    taper: int = Field(default=6, ge=0)
    """Pixels over which slices fade at their borders: where one cuts through the object there would be an edge."""


def random_scan_of(
    config: PlacementConfig, image: Tensor, matrix: tuple[int, int], rng: np.random.Generator
) -> Tensor:
    """The image that a noise-free, fully sampled scan gives of an object.

    Args:
        config: what may be drawn.
        image: complex ``(y, x)``, the object, or a film of it ``(t, y, x)``, all frames of which lie alike.
        matrix: (k1, k0) of the scan.
        rng: draws the placement.

    Returns:
        Complex ``matrix``, or ``(t, *matrix)``.
    """
    if rng.random() < config.transpose:
        image = image.mT
    if config.native and rng.random() < config.native:
        mirrored = [axis for axis in (-2, -1) if rng.random() < config.flips]
        return crop_or_pad(image.flip(mirrored), matrix)
    image = image * _window(image.shape[-2], config.taper)[:, None] * _window(image.shape[-1], config.taper)
    angle = math.radians(rng.uniform(*config.rotation_deg))
    low, high = _extent(image if image.ndim == 2 else image.abs().mean(0), angle)
    extent = np.maximum(high - low, 8.0)
    fill = rng.uniform(*config.fill)
    step = float(extent[0] / (fill * matrix[0]))
    center = _turned((low + high) / 2, -angle) + np.array(image.shape[-2:]) // 2
    # The object stays in the field of view along k1; along the readout it may reach out of it.
    room = (0.45 * (1 - fill) * matrix[0], 0.05 * matrix[1])
    steps = np.array([step, step * rng.uniform(*config.aspect)])
    steps *= [-1 if rng.random() < config.flips else 1 for _ in range(2)]
    placement = Placement(
        pixels=(float(steps[0]), float(steps[1])),
        angle=angle,
        center=(float(center[0]), float(center[1])),
        offset=(float(rng.uniform(-room[0], room[0])), float(rng.uniform(-room[1], room[1]))),
    )
    frames = image if image.ndim == 3 else image[None]
    fine = sample_at(frames, placement.points(matrix, _OVERSAMPLING))
    scan = band_limited(fine, matrix, _OVERSAMPLING)
    return scan if image.ndim == 3 else scan[0]


def _window(n: int, taper: int) -> Tensor:
    """1, falling to 0 within `taper` pixels of both ends as a squared sine does."""
    distance = torch.minimum(torch.arange(n), torch.arange(n).flip(0)) + 0.5
    return torch.sin(0.5 * math.pi * (distance / max(taper, 0.5)).clamp_max(1)) ** 2


def _extent(image: Tensor, angle: float) -> tuple[Points, Points]:
    """Lowest and highest (y, x) of the object about the middle of the image, seen along turned axes."""
    few = image[::_STRIDE, ::_STRIDE].abs()
    threshold = _AIR * image_scale(few)
    points = _STRIDE * torch.nonzero(few > threshold).numpy() - np.array(image.shape) // 2
    if not len(points):
        points = np.array([(0, 0), image.shape]) - np.array(image.shape) // 2
    low, high = zip(*(_occupied(positions) for positions in _turned(points.T, angle)), strict=True)
    return np.array(low), np.array(high)


def _occupied(positions: Points) -> tuple[float, float]:
    """Ends of what is occupied along an axis, in spite of single bright pixels of noise."""
    start = positions.min()
    counts = np.bincount(((positions - start) / _STRIDE).astype(int))
    occupied = np.flatnonzero(counts > _SPECK * counts.max())
    return start + _STRIDE * occupied[0], start + _STRIDE * (occupied[-1] + 1)


def _turned(points: Points, angle: float) -> Points:
    """Coordinates (y, x) of points along axes turned by an angle: the inverse of what `Placement` does."""
    y, x = points
    cos, sin = math.cos(angle), math.sin(angle)
    return np.array([cos * y - sin * x, sin * y + cos * x])
