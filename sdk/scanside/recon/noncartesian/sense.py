"""SENSE of samples anywhere in k-space.

Pruessmann, Weiger, Börnert, Boesiger: *Advances in sensitivity encoding with arbitrary k-space trajectories*, Magn
Reson Med 46:638-651 (2001).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import torch

from scanside.errors import ShapeError
from scanside.recon.noncartesian.stack import StackNufft, transform_of
from scanside.recon.noncartesian.toeplitz import toeplitz_kernel, toeplitz_normal

__all__ = ["NonCartesianSense"]


class NonCartesianSense:
    """``A``: image -> coil images -> samples. Its normal operator is ``Aᴴ W A``, without samples.

    Args:
        maps: ``(coil, z, y, x)`` coil sensitivities.
        points: ``(n, dimension)`` as `Nufft` takes them, along the image's axes in their order: (y, x) or (z, y, x).
        weights: ``(n,)`` real, W; 1 by default. With the density compensation, eigenvalues are about 1 or less, and
            few iterations suffice.

    Raises:
        ShapeError: maps and points do not fit.

    Attributes:
        image_dims: the axes of one image.
        transform: ``F``.
    """

    image_dims: tuple[int, ...] = (-3, -2, -1)

    def __init__(self, maps: torch.Tensor, points: torch.Tensor, weights: torch.Tensor | None = None) -> None:
        self._shape: Sequence[int] = maps.shape[-points.shape[-1] :]
        if maps.ndim != 4 or (points.shape[-1] == 2 and maps.shape[1] != 1):
            raise ShapeError(
                f"SENSE needs maps (coil, z, y, x), of one slice where points have two dimensions; got "
                f"{tuple(maps.shape)} and points {tuple(points.shape)}"
            )
        self._maps, self._weights = maps, weights
        self.transform = transform_of(points, self._shape)
        self._by_planes = self.transform.normal(weights) if isinstance(self.transform, StackNufft) else None

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """From image ``(z, y, x)`` to samples ``(coil, n)``."""
        coils = self._maps * image
        return self.transform.forward(coils.reshape(-1, *self._shape))

    def adjoint(self, samples: torch.Tensor) -> torch.Tensor:
        """``Aᴴ W``: from samples ``(coil, n)`` to image ``(z, y, x)``."""
        weighted = samples if self._weights is None else samples * self._weights
        coils = self.transform.adjoint(weighted).reshape(self._maps.shape)
        return (self._maps.conj() * coils).sum(0)

    def normal(self, image: torch.Tensor) -> torch.Tensor:
        """``Aᴴ W A`` on an image ``(z, y, x)``."""
        coils = (self._maps * image).reshape(-1, *self._shape)
        seen = toeplitz_normal(coils, self.kernel) if self._by_planes is None else self._by_planes(coils)
        return (self._maps.conj() * seen.reshape(self._maps.shape)).sum(0)

    @cached_property
    def kernel(self) -> torch.Tensor:
        """Of ``Fᴴ W F``, see `scanside.recon.noncartesian.toeplitz`."""
        return toeplitz_kernel(self.transform.points, self._shape, self._weights)
