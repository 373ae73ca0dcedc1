"""What networks and engines get of a measured scan, and the sizes that their pooling can halve."""

from __future__ import annotations

from functools import lru_cache, partial
from typing import Literal

import torch

from scanside.engines.columns import column_inputs, column_weight
from scanside.engines.manifest import ColumnsForm
from scanside.engines.manifest import Lowering as AnyLowering
from scanside.engines.parameters import Parameter
from scanside.engines.roles import Known
from scanside.recon.columns import ColumnSystem, factorise
from scanside.recon.scaling import image_scale
from scanside_training.evaluation.case import Case
from scanside_training.evaluation.problem import Problem
from scanside_training.models import known_in

__all__ = ["image_input", "known_of", "known_of_image", "padded_size"]


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
        system = _factorised(problem.maps, problem.mask, column_weight(form, noise))
        exact = partial(column_inputs, image, problem.maps, system)
    return Known(
        lowering,
        image=image[None],
        maps=problem.maps[None],
        mask=problem.mask[None, :, None],
        noise=noise,
        exact=exact,
    )


@lru_cache(maxsize=2)
def _factorised(maps: torch.Tensor, mask: torch.Tensor, weight: float) -> ColumnSystem:
    """The last systems are kept: a perturbed scan has the maps and the mask that it had."""
    return factorise(maps, mask, weight)


def known_of_image(case: Case, image: torch.Tensor, parameters: tuple[Parameter, ...]) -> Known:
    """What is known of a scan for a network that gets an image of it.

    Args:
        case: a simulated one knows its sequence, a measured one its mask alone.
        image: ``(1 or 2, y, x)`` as the network takes it.
        parameters: numbers of the scan that the network takes.
    """
    batch = {name: one[None] for name, one in case.sample.items()}
    if case.problem is not None:
        batch["mask"] = case.problem.mask[None, :, None]
    return known_in(batch | {"image": image[None]}, "none", parameters)


def image_input(
    problem: Problem, kind: Literal["zero-filled", "cg-sense"], l2: float, iterations: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """The image ``(y, x)`` complex64 that an image network gets, divided by its scale, and the scale."""
    image = problem.adjoint if kind == "zero-filled" else problem.cg_sense(l2, iterations)
    scale = image_scale(image.detach())
    return image / scale, scale
