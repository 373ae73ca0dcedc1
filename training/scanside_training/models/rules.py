"""How cascades make an image fit the data: hard, by gradient steps, or by conjugate gradients."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import nn

from scanside_training.models.base import PartConfig
from scanside_training.models.consistency import NormalOperator, ProximalSolver

__all__ = [
    "WEIGHT_LIMITS",
    "Consistency",
    "GradientConfig",
    "HardConfig",
    "ProximalConfig",
    "consistency_steps",
    "initial_weights",
]


WEIGHT_LIMITS = (2e-3, 1.0)
"""Smallest and largest λ: what conjugate gradients solve in a few steps, and what still lets the data count."""


class HardConfig(PartConfig):
    """Acquired samples replace those of the image."""

    kind: Literal["hard"] = "hard"


class GradientConfig(PartConfig):
    """One gradient step on the misfit, its length learned for each cascade.

    Attributes:
        step: where learning starts.
    """

    kind: Literal["gradient"] = "gradient"
    step: float = Field(1.0, gt=0)


class ProximalConfig(PartConfig):
    """The image nearest to the network's that explains the data as well as their noise allows.

    The weight λ of the network's image against the data, one for all cascades, is in units of the noise's variance:
    the noisier the data, the less they count. A weight that is the same for all scans is an order of magnitude too
    large for quiet ones, and leaves aliasing that their data would have resolved. One that is learned is as large as
    the network's errors in training are small; for scans unlike those, which it corrects less well, it is too large.

    Attributes:
        iterations: conjugate-gradient steps in each cascade, in use; for training see
            `scanside_training.models.consistency.ProximalSolver`.
        weight: λ / noise², which is 1 / the squared error that the network's image has.
        learned: whether that is only where learning starts.
        initial_iterations: steps from zero to the image that the first network sees.
    """

    kind: Literal["cg"] = "cg"
    iterations: int = Field(8, ge=1)
    weight: float = Field(60.0, gt=0)
    learned: bool = True
    initial_iterations: int = Field(10, ge=1)


Consistency = Annotated[HardConfig | GradientConfig | ProximalConfig, Field(discriminator="kind")]
"""Any of them, told apart by ``kind``."""


def initial_weights(rule: HardConfig | GradientConfig | ProximalConfig, n_cascades: int) -> nn.Parameter:
    """The logarithms of what is learned: step lengths of the cascades, or one λ; they stay positive."""
    start = {"hard": 1.0, "gradient": getattr(rule, "step", 1.0), "cg": getattr(rule, "weight", 1.0)}[
        rule.kind
    ]
    return nn.Parameter(
        torch.full((1 if rule.kind == "cg" else n_cascades,), start).log(),
        requires_grad=rule.kind == "gradient" or (rule.kind == "cg" and rule.learned),
    )


def consistency_steps(
    rule: HardConfig | GradientConfig | ProximalConfig,
    normal: NormalOperator,
    image: torch.Tensor,
    weights: torch.Tensor,
    noise: torch.Tensor,
    n_cascades: int,
) -> tuple[torch.Tensor, list[Callable[[torch.Tensor], torch.Tensor]]]:
    """The image that the first network sees, and what each cascade adds for a misfit ``Aᴴ y − Aᴴ A x``.

    Args:
        rule: which.
        normal: ``Aᴴ A``.
        image: ``(B, 2, k1, k0)`` ``Aᴴ y``.
        weights: exponentials of `initial_weights`, as they are now.
        noise: ``(B, 1, 1, 1)`` standard deviation of the noise.
        n_cascades: number of steps.
    """
    if not isinstance(rule, ProximalConfig):
        return image, [partial(torch.mul, weight) for weight in weights]
    solve = ProximalSolver(normal, (weights * noise.square()).clamp(*WEIGHT_LIMITS))
    step = partial(solve, iterations=rule.iterations)
    return solve(image, rule.initial_iterations), [step] * n_cascades
