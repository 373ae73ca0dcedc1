"""What networks and engines get of a measured scan, and the sizes that their pooling can halve."""

from __future__ import annotations

from functools import partial
from typing import Literal

import torch

from scanside.engines.columns import column_inputs, column_weight
from scanside.engines.manifest import ColumnsForm
from scanside.engines.manifest import Lowering as AnyLowering
from scanside.engines.roles import Known
from scanside.recon.columns import factorise
from scanside.recon.scaling import image_scale
from scanside_training.evaluation.case import Case
from scanside_training.evaluation.problem import Problem

__all__ = ["image_input", "known_by_image", "known_of", "padded_size"]


def padded_size(size: tuple[int, int], multiple_of: int) -> tuple[int, int]:
    """The smallest size ``(y, x)`` of multiples that holds an image."""
    n1, n0 = (-(-n // multiple_of) * multiple_of for n in size)
    return n1, n0


def known_of(
    problem: Problem, lowering: AnyLowering, scale: torch.Tensor, form: ColumnsForm | None = None
) -> Known:
    """What is known of a scan, in its own size, for a network with data consistency.

    Args:
        problem: the scan.
        lowering: of the network.
        scale: that the image is divided by.
        form: of a network whose data consistency is solved for it.
    """
    image, noise = problem.adjoint / scale, problem.noise / scale
    exact = None
    if form is not None:
        system = factorise(problem.maps, problem.mask, column_weight(form, noise))
        exact = partial(column_inputs, image, problem.maps, system)
    return Known(
        lowering,
        image=image[None],
        maps=problem.maps[None],
        mask=problem.mask[None, :, None],
        noise=noise,
        exact=exact,
    )


def known_by_image(case: Case, image: torch.Tensor) -> Known:
    """What is known of a scan for a network without data consistency.

    Args:
        case: the scan.
        image: ``(1, 1 or 2, k1, k0)`` that goes in.
    """
    mask = case.sample.get("mask") if case.problem is None else case.problem.mask[:, None]
    return Known("none", mask=None if mask is None else mask[None], at_hand={"image": image})


def image_input(
    problem: Problem, kind: Literal["zero-filled", "cg-sense"], l2: float, iterations: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """The image ``(y, x)`` complex64 that an image network gets, divided by its scale, and the scale."""
    image = problem.adjoint if kind == "zero-filled" else problem.cg_sense(l2, iterations)
    scale = image_scale(image)
    return image / scale, scale
