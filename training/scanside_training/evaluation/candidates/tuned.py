"""A reconstruction whose setting is the best for each image, as a patient user would find it who knew the truth."""

from __future__ import annotations

from typing import Annotated, Literal

import torch
from pydantic import Field, model_validator

from scanside_training.evaluation.candidates.bart import BartPics
from scanside_training.evaluation.candidates.base import Candidate, CandidateConfig, Job, Told
from scanside_training.evaluation.candidates.classical import CgSense, GrappaFill, SparseSense
from scanside_training.evaluation.case import Case
from scanside_training.measures import measure

__all__ = ["Tuned"]


class Tuned(CandidateConfig):
    """Tries values of a setting from the middle one on, up and down, as long as PSNR over the whole image grows."""

    kind: Literal["tuned"] = "tuned"
    of: Annotated[CgSense | GrappaFill | SparseSense | BartPics, Field(discriminator="kind")]
    """The reconstruction."""
    setting: str
    """Which of its settings."""
    values: tuple[float, ...] = Field(min_length=2)
    """That it may have, rising."""

    @model_validator(mode="after")
    def _possible(self) -> Tuned:
        if self.setting not in type(self.of).model_fields:
            raise ValueError(f"'{self.of.kind}' has no setting '{self.setting}'")
        if list(self.values) != sorted(set(self.values)):
            raise ValueError(f"values are not rising: {self.values}")
        return self

    @property
    def label(self) -> str:
        """Name where none is given."""
        return f"{self.of.label}, tuned"

    def open(self) -> _Tuned:
        """The candidate.

        Raises:
            ConfigError: the program that reconstructs is not installed.
        """
        return _Tuned(self)


class _Tuned:
    n_parameters = None
    timed = False

    def __init__(self, config: Tuned) -> None:
        self._config = config
        self._candidates: list[Candidate] = [
            config.of.model_copy(update={config.setting: value}).open() for value in config.values
        ]
        self.facts = dict(self._candidates[0].facts)
        self.told: Told = {}

    def job(self, case: Case) -> Job:
        jobs = [candidate.job(case) for candidate in self._candidates]

        def run() -> torch.Tensor:
            best = len(jobs) // 2
            images = {best: jobs[best]()}
            psnr = {best: measure(images[best], case.whole).psnr}
            for step in (1, -1):
                while 0 <= (place := best + step) < len(jobs) and place not in psnr:
                    images[place] = jobs[place]()
                    psnr[place] = measure(images[place], case.whole).psnr
                    if psnr[place] <= psnr[best]:
                        break
                    best = place
            self.told = {"chosen": (f"{self._config.setting} {self._config.values[best]:g}",)}
            return images[best]

        return run
