"""What networks and engines get of a measured scan, at sizes that their pooling can halve."""

from __future__ import annotations

from typing import Literal

import torch
from torch.nn.functional import pad

from scanside.errors import ConfigError
from scanside.recon.consistency import Lowering, sampling_inputs
from scanside.recon.scaling import image_scale
from scanside_training.evaluation.problem import Problem

__all__ = ["image_input", "padded_size", "unrolled_inputs"]


def padded_size(size: tuple[int, int], multiple_of: int) -> tuple[int, int]:
    """The smallest size ``(y, x)`` of multiples that holds an image."""
    n1, n0 = (-(-n // multiple_of) * multiple_of for n in size)
    return n1, n0


def unrolled_inputs(
    problem: Problem, lowering: Lowering, size: tuple[int, int], scale: torch.Tensor
) -> tuple[torch.Tensor, ...]:
    """Inputs of the task ``unrolled`` for one scan.

    Where a network computes at a larger size, image and maps get zeros at their ends, and the matrices of the Fourier
    transform stand in a larger matrix of zeros. With maps of zero nothing there is part of the normal operator,
    which so stays exactly that of the scan's own size; a Fourier transform of the larger size would not be.

    Args:
        problem: the scan.
        lowering: that the network was built with; where the size is larger, not ``fft``.
        size: ``(y, x)`` at which the network computes, not smaller than the scan's.
        scale: that the image is divided by.

    Returns:
        Image ``(1, 2, y, x)``, maps ``(1, coil, 2, y, x)``, noise ``(1, 1, 1, 1)`` and the lowering's
        inputs, float32.

    Raises:
        ConfigError: the size is larger and the lowering is ``fft``.
    """
    n1, n0 = problem.adjoint.shape
    grow1, grow0 = size[0] - n1, size[1] - n0
    if lowering == "fft" and (grow1 or grow0):
        raise ConfigError(
            f"images of {n1}×{n0} must be padded to {size[0]}×{size[1]}, which is exact with the lowerings 'pmatrix' "
            "and 'dft_matmul' only, and this network was built with 'fft'"
        )
    image = pad(_pairs(problem.adjoint / scale)[None], (0, grow0, 0, grow1))
    maps = pad(_pairs(problem.maps)[None], (0, grow0, 0, grow1))
    sampling = sampling_inputs(lowering, problem.mask[None, :, None].float())
    noise = (problem.noise / scale).reshape(1, 1, 1, 1).float()
    return image, maps, noise, *(_grown(one, n1, grow1) for one in sampling)


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
