"""What a network needs to know of the sampling to evaluate ``Aᴴ A`` with real numbers only.

Networks that check their image against the data apply the normal operator ``Aᴴ A x = Σ_c conj(S_c) Fᴴ m F S_c x``
of coil sensitivities S, Fourier transform F and sampling mask m. No engine format has it, and some have neither
Fourier transforms nor complex numbers, so it comes in three forms (*lowerings*), each with inputs of its own:

``fft``
    the mask with its centre at index 0, as ``torch.fft`` has it: for machines with a good FFT, any mask.
``pmatrix``
    ``P = Fᴴ diag(m) F`` along k1, for masks over one axis: a matrix product, the same engine for every mask.
``dft_matmul``
    the mask and the matrices of both transforms: matrix products, any mask.

The sampling is an input in all of them: an engine is built once for all masks.
"""

from __future__ import annotations

import math
from typing import Literal, get_args

import torch

from scanside.errors import ShapeError

__all__ = ["LOWERINGS", "Lowering", "dft_matrix", "film_sampling_inputs", "pmatrix", "sampling_inputs"]

Lowering = Literal["fft", "pmatrix", "dft_matmul"]
LOWERINGS: tuple[Lowering, ...] = get_args(Lowering)


def sampling_inputs(lowering: Lowering, mask: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """The inputs that follow image and maps.

    Args:
        lowering: the form of the normal operator.
        mask: ``(batch, k1, 1)``, or ``(batch, k1, k0)`` where samples differ along the readout; centre of k-space
            at ``n // 2``.

    Returns:
        Real float32 tensors: for ``fft`` the shifted mask, of the mask's shape; for ``pmatrix`` the matrix
        ``(batch, 2, k1, k1)``, real and imaginary part; for ``dft_matmul`` the mask and the transforms
        ``(2, k1, k1)`` and, for a mask over both axes, ``(2, k0, k0)``.

    Raises:
        ShapeError: no such mask, or one over two axes for ``pmatrix``.
    """
    if mask.ndim != 3:
        raise ShapeError(
            f"a sampling mask (batch, k1, 1 or k0) was expected, got the shape {tuple(mask.shape)}"
        )
    mask = mask.to(torch.float32)
    if lowering == "pmatrix":
        if mask.shape[-1] != 1:
            raise ShapeError(
                f"'pmatrix' holds for masks over k1 alone, (batch, k1, 1), but this one is {tuple(mask.shape)}: "
                "use 'fft' or 'dft_matmul' where samples differ along the readout"
            )
        return (pmatrix(mask[..., 0]),)
    if lowering == "dft_matmul":
        sizes = mask.shape[-2:] if mask.shape[-1] > 1 else mask.shape[-2:-1]
        return (mask, *(dft_matrix(n, device=mask.device) for n in sizes))
    dims = (-2, -1) if mask.shape[-1] > 1 else (-2,)
    return (torch.fft.ifftshift(mask, dim=dims),)


def film_sampling_inputs(lowering: Lowering, mask: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """The inputs that follow image and maps of a film, each frame of which has a mask of its own.

    Args:
        lowering: the form of the normal operator.
        mask: ``(batch, time, k1, 1)``; centre of k-space at ``n // 2``.

    Returns:
        What `sampling_inputs` gives, with the axis of time behind that of the batch: for ``fft`` the shifted mask
        ``(batch, time, k1, 1)``; for ``pmatrix`` the matrices ``(batch, time, 2, k1, k1)``; for ``dft_matmul`` the
        mask, and the transform ``(2, k1, k1)``, which all frames share.

    Raises:
        ShapeError: no such mask.
    """
    if mask.ndim != 4 or mask.shape[-1] != 1:
        raise ShapeError(f"masks (batch, time, k1, 1) were expected, got the shape {tuple(mask.shape)}")
    frames, *transforms = sampling_inputs(lowering, mask.flatten(0, 1))
    return (frames.reshape(*mask.shape[:2], *frames.shape[1:]), *transforms)


def pmatrix(mask: torch.Tensor) -> torch.Tensor:
    """``P = Fᴴ diag(m) F``, a circulant matrix whose first column is the point spread function of the sampling.

    Args:
        mask: ``(batch, n)`` real, centre of k-space at ``n // 2``.

    Returns:
        ``(batch, 2, n, n)`` float32, real and imaginary part.
    """
    n = mask.shape[-1]
    spread = torch.fft.ifft(torch.fft.ifftshift(mask, dim=-1), dim=-1)
    index = torch.arange(n, device=mask.device)
    matrix = spread[:, (index[:, None] - index[None, :]) % n]
    return torch.stack((matrix.real, matrix.imag), dim=1).contiguous()


def dft_matrix(n: int, device: torch.device | None = None) -> torch.Tensor:
    """The centred orthonormal Fourier transform from image to k-space, ``(2, n, n)`` float32."""
    index = torch.arange(n, dtype=torch.float64, device=device) - n // 2
    # The product is taken modulo n before it becomes an angle: large angles lose digits.
    angle = -2 * math.pi * torch.remainder(index[:, None] * index[None, :], n) / n
    return (torch.stack((angle.cos(), angle.sin())) / math.sqrt(n)).to(torch.float32)
