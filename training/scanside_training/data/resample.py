"""Interpolation on other grids, for images and for smooth fields."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import grid_sample

from scanside.recon.fourier import to_image, to_kspace

__all__ = ["Placement", "band_limited", "cubic", "sample_at", "smooth_field"]


@dataclass(frozen=True)
class Placement:
    """How an image lies in the field of view: turned, stretched, mirrored and moved about its middle.

    Attributes:
        pixels: pixels of the source per pixel of the result, along (y, x) of the result; negative where the result
            is mirrored.
        angle: rotation in radians, in the sense of `numpy.rot90`.
        center: point (y, x) of the source, in its pixels, that comes to lie on the middle of the result.
        offset: pixels (y, x) of the result by which that point is then moved.
    """

    pixels: tuple[float, float]
    angle: float = 0.0
    center: tuple[float, float] = (0.0, 0.0)
    offset: tuple[float, float] = (0.0, 0.0)

    def points(self, shape: tuple[int, int], oversampling: int = 1) -> Tensor:
        """Where the pixels of a result ``(y, x)`` lie in the source, ``(y, x, 2)``, in its pixels as (y, x).

        Pixel ``n // 2`` is the middle, also of the finer grid that oversampling gives.
        """
        y, x = (
            ((torch.arange(n * oversampling) - n * oversampling // 2) / oversampling - moved) * step
            for n, moved, step in zip(shape, self.offset, self.pixels, strict=True)
        )
        cos, sin = torch.cos(torch.tensor(self.angle)), torch.sin(torch.tensor(self.angle))
        turned_y = cos * y[:, None] + sin * x
        turned_x = -sin * y[:, None] + cos * x
        return torch.stack([turned_y + self.center[0], turned_x + self.center[1]], -1)


def sample_at(image: Tensor, points: Tensor, *, beyond: str = "zeros", mode: str = "bicubic") -> Tensor:
    """Values of an image between its pixels.

    Args:
        image: ``(channel, y, x)``, real or complex.
        points: ``(*grid, 2)`` with two grid axes, positions (y, x) in pixels.
        beyond: what lies outside of the image: ``zeros`` or ``border``.
        mode: ``bicubic``, ``bilinear`` or ``nearest``.

    Returns:
        ``(channel, *grid)``.
    """
    if image.is_complex():
        parts = sample_at(torch.cat([image.real, image.imag]), points, beyond=beyond, mode=mode)
        return torch.complex(parts[: len(image)], parts[len(image) :])
    height, width = image.shape[-2:]
    last = torch.tensor([max(width - 1, 1), max(height - 1, 1)])
    grid = points.flip(-1) / last * 2 - 1
    sampled: Tensor = grid_sample(image[None], grid[None], mode=mode, padding_mode=beyond, align_corners=True)
    return sampled[0]


def band_limited(image: Tensor, shape: tuple[int, int], oversampling: int) -> Tensor:
    """What a scan of a matrix ``shape`` makes of an object on a finer grid: the middle of its k-space.

    Args:
        image: complex ``(*, y, x)``, ``oversampling`` times as many pixels as the matrix.
        shape: matrix (k1, k0).
        oversampling: object points per pixel along each axis.

    Returns:
        Complex ``(*, *shape)``, the values of the object with the ringing of a cut k-space.
    """
    kspace = to_kspace(image)
    for axis, n in zip((-2, -1), shape, strict=True):
        kspace = kspace.narrow(axis, n * oversampling // 2 - n // 2, n)
    return to_image(kspace) / oversampling


def smooth_field(coarse: Tensor, shape: tuple[int, int]) -> Tensor:
    """A field on the pixels of an image, from a few values that span it.

    Args:
        coarse: ``(channel, y, x)``, real or complex; its outermost values lie on the outermost pixels.
        shape: pixels (y, x) of the result.

    Returns:
        ``(channel, *shape)``.
    """
    rows, columns = (torch.linspace(0, last - 1, n) for last, n in zip(coarse.shape[-2:], shape, strict=True))
    return cubic(coarse, rows, columns)


def cubic(coarse: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Catmull-Rom interpolation at the points of a grid; beyond its ends the field goes on straight.

    It is two small matrix products, a fraction of the cost of interpolation at scattered points.

    Args:
        coarse: ``(channel, y, x)``, real or complex.
        rows: ``(n,)`` positions along y, in pixels of `coarse`.
        columns: ``(m,)`` positions along x.

    Returns:
        ``(channel, n, m)``.
    """
    if coarse.is_complex():
        # Weights are real: complex products would take twice as long.
        parts = cubic(torch.cat([coarse.real, coarse.imag]), rows, columns)
        return torch.complex(parts[: len(coarse)], parts[len(coarse) :])
    to_rows, to_columns = (
        _cubic_weights(position, n).to(coarse.dtype)
        for position, n in zip((rows, columns), coarse.shape[-2:], strict=True)
    )
    field: Tensor = to_rows @ coarse @ to_columns.mT
    return field


def _cubic_weights(position: Tensor, n_coarse: int) -> Tensor:
    """Weights ``(n, n_coarse)`` of positions ``(n,)``."""
    if n_coarse == 1:
        return torch.ones(len(position), 1)
    cell = position.floor().clamp(0, n_coarse - 2).long()
    t = position - cell
    weights = torch.zeros(len(position), n_coarse + 2)
    row = torch.arange(len(position))
    weights[row, cell] = 0.5 * (-t + 2 * t**2 - t**3)
    weights[row, cell + 1] = 0.5 * (2 - 5 * t**2 + 3 * t**3)
    weights[row, cell + 2] = 0.5 * (t + 4 * t**2 - 3 * t**3)
    weights[row, cell + 3] = 0.5 * (-(t**2) + t**3)
    # The first and the last column stand for points beyond the ends, where the field goes on straight.
    inner = weights[:, 1:-1].clone()
    inner[:, :2] += weights[:, :1] * torch.tensor([2.0, -1.0])
    inner[:, -2:] += weights[:, -1:] * torch.tensor([-1.0, 2.0])
    return inner
