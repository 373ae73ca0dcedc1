"""What networks and engines get of a measured scan, at sizes that their pooling can halve."""

from __future__ import annotations

from typing import Literal

import torch
from torch.nn.functional import pad

from scanside.errors import ConfigError
from scanside.recon.consistency import Lowering, sampling_inputs
from scanside.recon.scaling import image_scale
from scanside_training.evaluation.problem import Problem

__all__ = ["image_input", "next_multiple", "unrolled_inputs"]


def next_multiple(n: int, multiple: int) -> int:
    """The smallest multiple that is not smaller than n."""
    return -(-n // multiple) * multiple


def unrolled_inputs(
    problem: Problem, lowering: Lowering, multiple_of: int, scale: torch.Tensor
) -> tuple[torch.Tensor, ...]:
    """Inputs of the task ``unrolled`` for one scan.

    Where a size is no multiple, image and maps get zeros at their ends, and the matrices of the Fourier transform
    stand in a larger matrix of zeros. With maps of zero nothing there is part of the normal operator, which so stays
    exactly that of the scan's own size; a Fourier transform of the larger size would not be.

    Args:
        problem: the scan.
        lowering: that the network was built with; where sizes have to grow, not ``fft``.
        multiple_of: what sizes must be multiples of.
        scale: that the image is divided by.

    Returns:
        Image ``(1, 2, y, x)``, maps ``(1, coil, 2, y, x)`` and the lowering's inputs, float32.

    Raises:
        ConfigError: a size is no multiple and the lowering is ``fft``.
    """
    n1, n0 = problem.adjoint.shape
    grow1, grow0 = (next_multiple(n, multiple_of) - n for n in (n1, n0))
    if lowering == "fft" and (grow1 or grow0):
        raise ConfigError(
            f"images of {n1}×{n0} must become multiples of {multiple_of}, which is exact with the lowerings "
            "'pmatrix' and 'dft_matmul' only, and this network was built with 'fft'"
        )
    image = pad(_pairs(problem.adjoint / scale)[None], (0, grow0, 0, grow1))
    maps = pad(_pairs(problem.maps)[None], (0, grow0, 0, grow1))
    sampling = sampling_inputs(lowering, problem.mask[None, :, None].float())
    return image, maps, *(_grown(one, n1, grow1) for one in sampling)


def _grown(sampling: torch.Tensor, n: int, grow: int) -> torch.Tensor:
    """Zeros at the end of every axis that runs along k1, be it in a mask or in a matrix."""
    if not grow:
        return sampling
    return pad(sampling, (0, grow if sampling.shape[-1] == n else 0, 0, grow))


def image_input(
    problem: Problem, kind: Literal["zero-filled", "cg-sense"], l2: float, iterations: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """The image ``(y, x)`` complex64 that an image network gets, divided by its scale, and the scale."""
    image = problem.adjoint if kind == "zero-filled" else problem.cg_sense(l2, iterations)
    scale = image_scale(image)
    return image / scale, scale


def _pairs(values: torch.Tensor) -> torch.Tensor:
    """Complex ``(*, y, x)`` as float32 ``(*, 2, y, x)``."""
    return torch.stack((values.real, values.imag), -3).float()
