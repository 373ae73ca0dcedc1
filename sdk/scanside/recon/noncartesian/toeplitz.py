"""``Fᴴ W F`` without samples: a convolution, which is a product on twice the grid.

Fessler, Lee, Olafsson, Shi, Noll: *Toeplitz-based iterative image reconstruction for MRI with correction for magnetic
field inhomogeneity*, IEEE Trans Signal Process 53:3393-3402 (2005).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch

from scanside.recon.noncartesian.nufft import Nufft

__all__ = ["doubled_dft", "split_kernel", "toeplitz_kernel", "toeplitz_normal"]


def toeplitz_kernel(
    points: torch.Tensor, shape: Sequence[int], weights: torch.Tensor | None = None
) -> torch.Tensor:
    """What the spectrum of an image on twice the grid is multiplied with.

    Args:
        points: ``(n, dimension)`` as `Nufft` takes them.
        shape: of the image along these axes.
        weights: ``(n,)`` real, W; 1 by default.

    Returns:
        Real, ``(2 n for n in shape)``, in the precision of `points`, in the order of `torch.fft`.
    """
    double = [2 * n for n in shape]
    ones = torch.ones(len(points), dtype=torch.float64, device=points.device)
    weights = ones if weights is None else weights.to(torch.float64)
    spread = Nufft(points, double).adjoint(torch.complex(weights, torch.zeros_like(weights)))
    # Both transforms are scaled by 1 / √N, N being that of the image; this one by that of twice the grid.
    response = torch.fft.ifftshift(spread) * (2 ** len(shape) / math.sqrt(math.prod(double)))
    kernel: torch.Tensor = torch.fft.fftn(response).real
    return kernel.to(points.dtype)


def toeplitz_normal(image: torch.Tensor, kernel: torch.Tensor) -> torch.Tensor:
    """``Fᴴ W F`` on images ``(*batch, *shape)``.

    Args:
        image: complex.
        kernel: from `toeplitz_kernel`.
    """
    axes = tuple(range(-kernel.ndim, 0))
    shape = image.shape[-kernel.ndim :]
    spectrum: torch.Tensor = torch.fft.fftn(image, s=kernel.shape, dim=axes)
    whole: torch.Tensor = torch.fft.ifftn(spectrum * kernel, dim=axes)
    for axis, n in zip(axes, shape, strict=True):
        whole = whole.narrow(axis, 0, n)
    return whole


def split_kernel(kernel: torch.Tensor) -> torch.Tensor:
    """A kernel in four parts of the image's size, as `doubled_dft` has the spectrum.

    Args:
        kernel: ``(*batch, 2 k1, 2 k0)``, from `toeplitz_kernel`.

    Returns:
        ``(*batch, 2, 2, k1, k0)``: frequencies that are even and odd multiples of half a step, along k1 and k0.
    """
    rows = torch.stack((kernel[..., 0::2, :], kernel[..., 1::2, :]), dim=-3)
    return torch.stack((rows[..., 0::2], rows[..., 1::2]), dim=-3)


def doubled_dft(n: int, device: torch.device | None = None) -> torch.Tensor:
    """The orthonormal Fourier transform of n voxels on a grid of 2 n, zeros behind them, as matrices.

    With one along each axis ``toeplitz_normal(x, kernel)`` is ``E1ᴴ (kernel · (E1 x E0ᵀ)) E0*``: products of matrices
    and nothing else, the same for all trajectories.

    Returns:
        ``(2, 2, n, n)`` float32: real and imaginary part, frequencies that are even and odd multiples of half a step,
        frequency, voxel.
    """
    voxel = torch.arange(n, dtype=torch.float64, device=device)
    parity = torch.arange(2, device=device)[:, None]
    frequency = (2 * voxel + parity)[:, :, None]  # (parity, frequency, 1), in half steps
    # The product is taken modulo 2 n before it becomes an angle: large angles lose digits.
    angle = -math.pi * torch.remainder(frequency * voxel, 2 * n) / n
    return (torch.stack((angle.cos(), angle.sin())) / math.sqrt(2 * n)).to(torch.float32)
