"""How an object lies in the field of view of an imaginary scan."""

from __future__ import annotations

import math
from dataclasses import dataclass
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

__all__ = ["PlacementConfig", "Pose", "random_pose", "random_scan_of"]

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


@dataclass(frozen=True)
class Pose:
    """How one object lies in the field of view of one scan.

    Attributes:
        matrix: (k1, k0) of the scan.
        transposed: whether phase encoding runs along x of the slice.
        taper: pixels over which the slice fades at its borders.
        placement: where its pixels come to lie; None where they are kept as they are.
        mirrored: axes that run backwards where they are kept.
    """

    matrix: tuple[int, int]
    transposed: bool
    taper: int
    placement: Placement | None
    mirrored: tuple[int, ...] = ()

    def scan_of(self, image: Tensor) -> Tensor:
        """The image that a noise-free, fully sampled scan gives.

        Args:
            image: complex ``(y, x)``, the object, or a film of it ``(t, y, x)``, all frames of which lie alike.

        Returns:
            Complex ``matrix``, or ``(t, *matrix)``.
        """
        image = image.mT if self.transposed else image
        if self.placement is None:
            return crop_or_pad(image.flip(self.mirrored), self.matrix)
        frames = _tapered(image if image.ndim == 3 else image[None], self.taper)
        fine = sample_at(frames, self.placement.points(self.matrix, _OVERSAMPLING))
        scan = band_limited(fine, self.matrix, _OVERSAMPLING)
        return scan if image.ndim == 3 else scan[0]

    def region_of(self, region: Tensor) -> Tensor:
        """Where a region ``(y, x)`` of the object lies in that image: booleans, of the nearest pixels."""
        values = (region.mT if self.transposed else region).float()
        if self.placement is None:
            return crop_or_pad(values.flip(self.mirrored), self.matrix) > 0
        return sample_at(values[None], self.placement.points(self.matrix), mode="nearest")[0] > 0


def random_scan_of(
    config: PlacementConfig, image: Tensor, matrix: tuple[int, int], rng: np.random.Generator
) -> Tensor:
    """The image that a noise-free, fully sampled scan gives of an object that lies anyhow.

    Args:
        config: what may be drawn.
        image: see `Pose.scan_of`.
        matrix: (k1, k0) of the scan.
        rng: draws the pose.
    """
    return random_pose(config, image, matrix, rng).scan_of(image)


def random_pose(
    config: PlacementConfig, image: Tensor, matrix: tuple[int, int], rng: np.random.Generator
) -> Pose:
    """Draw how an object lies in the field of view.

    Args:
        config: what may be drawn.
        image: the object, see `Pose.scan_of`.
        matrix: (k1, k0) of the scan.
        rng: draws it.
    """
    transposed = bool(rng.random() < config.transpose)
    image = image.mT if transposed else image
    if config.native and rng.random() < config.native:
        mirrored = tuple(axis for axis in (-2, -1) if rng.random() < config.flips)
        return Pose(matrix, transposed, config.taper, None, mirrored)
    image = _tapered(image, config.taper)
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
    return Pose(matrix, transposed, config.taper, placement)


def _tapered(image: Tensor, taper: int) -> Tensor:
    return image * _window(image.shape[-2], taper)[:, None] * _window(image.shape[-1], taper)


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
