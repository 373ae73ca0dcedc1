"""The classical reconstruction beside a learned one: what its image is when the network's cannot be used."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, model_validator

from scanside.items import Image, KSpace
from scanside.stage import Stage
from scanside.stages.fourier import Fourier
from scanside.stages.sense import Sense

__all__ = ["Classical"]


class Classical(BaseModel):
    """One stage from k-space to images and its settings: ``sense``, or ``{sense: {l2: 0.01}}``."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    sense: Sense.Config | None = None
    fourier: Fourier.Config | None = None

    @model_validator(mode="before")
    @classmethod
    def _by_name(cls, value: Any) -> Any:
        if isinstance(value, str):
            return {value: {}}
        if isinstance(value, dict):
            # In a file, `sense:` with nothing behind it means its default settings.
            return {name: {} if one is None and len(value) == 1 else one for name, one in value.items()}
        return value

    @model_validator(mode="after")
    def _one(self) -> Classical:
        if (self.sense is None) == (self.fourier is None):
            raise ValueError("name one classical stage: sense or fourier")
        return self

    @property
    def name(self) -> str:
        """The stage's name."""
        return "fourier" if self.sense is None else "sense"

    def stage(self) -> Stage[KSpace, Image]:
        """The stage."""
        return Fourier(self.fourier) if self.sense is None else Sense(self.sense)
