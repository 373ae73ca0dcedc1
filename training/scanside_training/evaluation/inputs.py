"""What networks and engines get of a measured scan, and the sizes that their pooling can halve."""

from __future__ import annotations

from typing import Literal

import torch

from scanside.recon.consistency import Lowering, sampling_inputs
from scanside.recon.scaling import image_scale
from scanside_training.evaluation.problem import Problem

__all__ = ["image_input", "padded_size", "unrolled_inputs"]


def padded_size(size: tuple[int, int], multiple_of: int) -> tuple[int, int]:
    """The smallest size ``(y, x)`` of multiples that holds an image."""
    n1, n0 = (-(-n // multiple_of) * multiple_of for n in size)
    return n1, n0


def unrolled_inputs(problem: Problem, lowering: Lowering, scale: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """Inputs of the task ``unrolled`` for one scan, in its own size.

    Args:
        problem: the scan.
        lowering: that the network was built with.
        scale: that the image is divided by.

    Returns:
        Image ``(1, 2, y, x)``, maps ``(1, coil, 2, y, x)``, noise ``(1, 1, 1, 1)`` and the lowering's
        inputs, float32.
    """
    image, maps = _pairs(problem.adjoint / scale)[None], _pairs(problem.maps)[None]
    noise = (problem.noise / scale).reshape(1, 1, 1, 1).float()
    return image, maps, noise, *sampling_inputs(lowering, problem.mask[None, :, None].float())


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
