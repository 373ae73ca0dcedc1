"""The classical reconstruction beside a learned one: what its image is when the network's cannot be used."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, model_validator

from scanside.items import Image
from scanside.stage import Stage, describe_settings
from scanside.stages.fourier import Fourier
from scanside.stages.sense import Sense

__all__ = ["Classical"]


class Classical(BaseModel):
    """One stage from k-space to images, by its name, with its settings.

    Attributes:
        sense: settings of CG-SENSE.
        fourier: settings of a Fourier reconstruction.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, json_schema_extra=describe_settings)

    sense: Sense.Config | None = None
    fourier: Fourier.Config | None = None

    @model_validator(mode="after")
    def _one(self) -> Classical:
        if (self.sense is None) == (self.fourier is None):
            raise ValueError("name one classical stage with its settings: {sense: {}} or {fourier: {}}")
        return self

    @property
    def name(self) -> str:
        """The stage's name."""
        return "fourier" if self.sense is None else "sense"

    def stage(self) -> Stage[Any, Image]:
        """The stage."""
        return Fourier(self.fourier) if self.sense is None else Sense(self.sense)
