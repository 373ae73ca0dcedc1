"""SENSE: the image that explains the k-space of all coils, by conjugate gradients.

Pruessmann et al., *Advances in sensitivity encoding with arbitrary k-space trajectories*, MRM 46:638-651 (2001).
"""

from __future__ import annotations

import torch

from scanside.errors import ShapeError
from scanside.recon.cg import CgResult, conjugate_gradient
from scanside.recon.fourier import spatial_dims, to_image, to_kspace

__all__ = ["SenseOperator", "cg_sense"]


class SenseOperator:
    """``A``: image -> coil images -> k-space -> acquired samples.

    The Fourier transform is orthonormal. ``other`` axes of maps, mask, images and k-space broadcast against each
    other.

    Args:
        maps: ``(*other, coil, z, y, x)`` coil sensitivities.
        mask: ``(*other, k2, k1)`` bool, which lines were acquired.
        readout: which samples of a line were acquired, as an asymmetric echo leaves some out; by default all.

    Raises:
        ShapeError: maps, mask and readout do not fit.
    """

    def __init__(self, maps: torch.Tensor, mask: torch.Tensor, readout: slice | None = None) -> None:
        if maps.ndim < 4 or mask.ndim < 2 or mask.shape[-2:] != maps.shape[-3:-1]:
            raise ShapeError(
                f"SENSE needs maps (*other, coil, z, y, x) and a mask (*other, k2, k1) of the same grid, "
                f"got {tuple(maps.shape)} and {tuple(mask.shape)}"
            )
        self._maps = maps
        self._dims = spatial_dims(maps)
        self._mask = mask.to(maps.device)[..., None, :, :, None].to(maps.real.dtype)
        # Transforms along the readout cancel in the normal operator where whole lines were acquired.
        self._normal_dims = self._dims[:-1]
        n = maps.shape[-1]
        samples = torch.zeros(n, dtype=self._mask.dtype, device=maps.device)
        samples[slice(None) if readout is None else readout] = 1
        if not bool(samples.any()):
            raise ShapeError(f"SENSE with the samples {readout} of a readout of {n}: none was acquired")
        if not bool(samples.all()):
            self._mask = self._mask * samples
            self._normal_dims = self._dims
        self._shifted_mask = torch.fft.ifftshift(self._mask, dim=self._normal_dims)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """From image ``(*other, z, y, x)`` to k-space ``(*other, coil, k2, k1, k0)``, 0 where not acquired."""
        return to_kspace(self._maps * image.unsqueeze(-4), self._dims) * self._mask

    def adjoint(self, kspace: torch.Tensor) -> torch.Tensor:
        """From k-space ``(*other, coil, k2, k1, k0)`` to image ``(*other, z, y, x)``."""
        return (self._maps.conj() * to_image(kspace * self._mask, self._dims)).sum(-4)

    def normal(self, image: torch.Tensor) -> torch.Tensor:
        """``Aᴴ A`` on an image ``(*other, z, y, x)``, for less than half the cost of forward and adjoint.

        It is a circular convolution, which does not care where the centre lies; and where whole lines were
        acquired, the transforms along the readout cancel.
        """
        coils: torch.Tensor = torch.fft.fftn(self._maps * image.unsqueeze(-4), dim=self._normal_dims)
        coils = torch.fft.ifftn(coils * self._shifted_mask, dim=self._normal_dims)
        return (self._maps.conj() * coils).sum(-4)


def cg_sense(
    kspace: torch.Tensor,
    maps: torch.Tensor,
    mask: torch.Tensor,
    *,
    readout: slice | None = None,
    l2: float = 0.0,
    tolerance: float = 1e-5,
    max_iterations: int = 50,
) -> CgResult:
    """Minimise ``|A x - kspace|² + l2 |x|²``.

    With maps of ``Σ_coil |map|² = 1`` the largest eigenvalue of ``Aᴴ A`` is at most 1, whatever the matrix size
    or the scaling of the data: ``l2`` is relative to it. It is BART's ``pics -l2 -r l2``: there, too, transforms
    are orthonormal and data are divided by a scale that the solution gets back.

    Args:
        kspace: ``(*other, coil, k2, k1, k0)`` complex64; what was not acquired is ignored.
        maps: ``(*other, coil, z, y, x)`` coil sensitivities.
        mask: ``(*other, k2, k1)`` bool, which lines were acquired.
        readout: which samples of a line were acquired; by default all.
        l2: Tikhonov weight.
        tolerance: of the residual of the normal equations, relative to ``Aᴴ kspace``.
        max_iterations: of conjugate gradients.

    Returns:
        Its solution is the image ``(*other, z, y, x)``; every member of ``other`` is a system of its own.

    Raises:
        ShapeError: k-space, maps, mask and readout do not fit.
    """
    if kspace.ndim < 4 or kspace.shape[-4:] != maps.shape[-4:]:
        raise ShapeError(
            f"CG-SENSE needs k-space (*other, coil, k2, k1, k0) on the grid of the maps, "
            f"got {tuple(kspace.shape)} and maps {tuple(maps.shape)}"
        )
    operator = SenseOperator(maps, mask, readout)
    return conjugate_gradient(
        lambda image: operator.normal(image) + l2 * image,
        operator.adjoint(kspace),
        tolerance=tolerance,
        max_iterations=max_iterations,
        dims=(-3, -2, -1),
    )
