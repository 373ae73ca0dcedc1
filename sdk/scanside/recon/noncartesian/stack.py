"""Samples in planes of k-space that lie on a grid along their third axis, such as stacks of stars or spirals.

Along that axis a Fourier transform takes the image to its planes, and in each plane a NUFFT of two dimensions does
the rest: the same as one of three, in a part of the time.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from scanside.recon.fourier import to_image, to_kspace
from scanside.recon.noncartesian.nufft import Nufft
from scanside.recon.noncartesian.toeplitz import toeplitz_kernel, toeplitz_normal

__all__ = ["StackNufft", "normal_of", "planes_of", "transform_of"]

_ON_GRID = 1e-3  # of the distance of two planes
_ALONG = (-3,)


def planes_of(height: torch.Tensor, n: int) -> torch.Tensor | None:
    """Which of `n` planes of the grid points lie in, by their k in cycles per voxel; None where some lie in none."""
    position = height.double() * n + n // 2
    plane = position.round()
    return (plane.long() % n) if bool(((position - plane).abs() <= _ON_GRID).all()) else None


def transform_of(points: torch.Tensor, shape: Sequence[int]) -> Nufft | StackNufft:
    """The transform between an image and samples at points ``(n, dimension)``: the fastest that gives it.

    Raises:
        MissingExtra: the library is not installed.
        NonFiniteError: a point is NaN or infinite.
        ShapeError: points and shape do not fit, or points lie outside of ±0.5.
    """
    if len(shape) == 3 and points.shape[-1] == 3:
        planes = planes_of(points[:, 0], shape[0])
        if planes is not None:
            return StackNufft(points, shape, planes)
    return Nufft(points, shape)


def normal_of(
    transform: Nufft | StackNufft, weights: torch.Tensor | None
) -> Callable[[torch.Tensor], torch.Tensor]:
    """``Fᴴ W F`` on images ``(*batch, *shape)``, without samples.

    Args:
        transform: F.
        weights: ``(n,)`` real, W; 1 by default.
    """
    if isinstance(transform, StackNufft):
        return transform.normal(weights)
    kernel = toeplitz_kernel(transform.points, transform.shape, weights)
    return lambda image: toeplitz_normal(image, kernel)


@dataclass(frozen=True)
class _Planes:
    """Planes whose samples lie at the same points.

    Attributes:
        planes: their numbers.
        samples: ``(plane, n)`` which samples lie in each.
        transform: from a plane to its samples.
    """

    planes: list[int]
    samples: torch.Tensor
    transform: Nufft


class StackNufft:
    """`Nufft` of points in planes of a grid.

    Args:
        points: ``(n, 3)`` along (z, y, x), in cycles per voxel.
        shape: of the image (z, y, x).
        planes: ``(n)`` from `planes_of`.

    Raises:
        MissingExtra: the library is not installed.
        NonFiniteError: a point is NaN or infinite.
        ShapeError: points lie outside of ±0.5.
    """

    def __init__(self, points: torch.Tensor, shape: Sequence[int], planes: torch.Tensor) -> None:
        self.points, self.shape = points, tuple(shape)
        found: list[tuple[torch.Tensor, list[int], list[torch.Tensor]]] = []
        for plane in sorted(set(planes.tolist())):
            samples = torch.nonzero(planes == plane).flatten()
            in_plane = points[samples, 1:]
            alike = next((group for group in found if torch.equal(group[0], in_plane)), None)
            if alike is None:
                found.append((in_plane, [plane], [samples]))
            else:
                alike[1].append(plane)
                alike[2].append(samples)
        self._groups = [
            _Planes(numbers, torch.stack(samples), Nufft(in_plane, self.shape[1:]))
            for in_plane, numbers, samples in found
        ]

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """From images ``(*batch, z, y, x)`` to samples ``(*batch, n)``."""
        spectrum = to_kspace(image, _ALONG)
        result = spectrum.new_empty(*image.shape[:-3], len(self.points))
        for group in self._groups:
            result[..., group.samples] = group.transform.forward(spectrum[..., group.planes, :, :])
        return result

    def adjoint(self, samples: torch.Tensor) -> torch.Tensor:
        """From samples ``(*batch, n)`` to images ``(*batch, z, y, x)``."""
        spectrum = samples.new_zeros(*samples.shape[:-1], *self.shape)
        for group in self._groups:
            spectrum[..., group.planes, :, :] = group.transform.adjoint(samples[..., group.samples])
        return to_image(spectrum, _ALONG)

    def normal(self, weights: torch.Tensor | None) -> Callable[[torch.Tensor], torch.Tensor]:
        """``Fᴴ W F`` on images ``(*batch, z, y, x)``, without samples.

        Args:
            weights: ``(n,)`` real, W; 1 by default.
        """
        kernels = {
            plane: toeplitz_kernel(
                group.transform.points, self.shape[1:], None if weights is None else weights[samples]
            )
            for group in self._groups
            for plane, samples in zip(group.planes, group.samples, strict=True)
        }

        def apply(image: torch.Tensor) -> torch.Tensor:
            spectrum = to_kspace(image, _ALONG)
            made = torch.zeros_like(spectrum)
            for plane, kernel in kernels.items():
                made[..., plane, :, :] = toeplitz_normal(spectrum[..., plane, :, :], kernel)
            return to_image(made, _ALONG)

        return apply
