"""``Fᴴ W F`` without samples: a convolution, which is a product on twice the grid.

Fessler, Lee, Olafsson, Shi, Noll: *Toeplitz-based iterative image reconstruction for MRI with correction for magnetic
field inhomogeneity*, IEEE Trans Signal Process 53:3393-3402 (2005).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch

from scanside.recon.noncartesian.nufft import Nufft

__all__ = ["toeplitz_kernel", "toeplitz_normal"]


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
