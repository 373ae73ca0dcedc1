"""What is added to scans, and how worst changes are looked for."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, model_validator

from scanside_training.data.settings import Settings
from scanside_training.evaluation.perturbation.structures import StructuresConfig

__all__ = ["PerturbationConfig", "WorstCaseConfig"]

_Positive = Annotated[float, Field(gt=0)]


class WorstCaseConfig(Settings):
    """Changes of the acquired samples that change an image most, and random ones of the same norm."""

    epsilon: float = Field(default=1.0, gt=0)
    """Norm of a change, relative to that of the scan's noise in all acquired samples."""
    steps: int = Field(default=20, ge=1)
    """Of the ascent, for each start."""
    restarts: int = Field(default=2, ge=1)
    """Random starts, which are the random changes, too."""
    step: float = Field(default=1.0, gt=0)
    """Length of the first step, relative to the bound; it is halved where it leads down."""
    region: tuple[float, float, _Positive] | None = None
    """Centre (y, x) and diameter of a disc in pixels, in which changes of the image count; the object by default."""
    l2: float = Field(default=0.002, ge=0)
    """Of the CG-SENSE that candidates are held against, as that candidate has it."""
    iterations: int = Field(default=50, ge=1)
    """The same: most steps of conjugate gradients."""


class PerturbationConfig(Settings):
    """Perturbation analysis of all candidates of an evaluation."""

    structures: StructuresConfig | None = None
    """Small structures that are added to scans."""
    worst_case: WorstCaseConfig | None = None
    """Changes that are looked for."""
    cases: int = Field(default=1, ge=1)
    """How many of the data's cases are perturbed, spread evenly."""
    seed: int = Field(default=0, ge=0)
    """Of the noise, and of where the search for worst changes starts."""

    @model_validator(mode="after")
    def _something(self) -> PerturbationConfig:
        if self.structures is None and self.worst_case is None:
            raise ValueError("give 'structures', 'worst_case' or both: there is nothing to perturb with")
        return self
