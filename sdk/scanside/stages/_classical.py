"""The classical reconstruction beside a learned one: what its image is when the network's cannot be used."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, model_validator

from scanside.context import Context
from scanside.items import Image, KSpace
from scanside.scan import Scan
from scanside.stage import Stage, describe_settings
from scanside.stages.fourier import Fourier
from scanside.stages.low_rank_sparse import ReconstructLowRankSparse
from scanside.stages.pics import Pics
from scanside.stages.sense import Sense
from scanside.stages.view_sharing import ShareViews

__all__ = ["Classical"]


class Classical(BaseModel):
    """One stage from k-space to images, by its name, with its settings.

    Attributes:
        sense: settings of CG-SENSE.
        pics: settings of compressed sensing.
        fourier: settings of a Fourier reconstruction.
        low_rank_sparse: settings of low-rank plus sparse reconstruction, of windows of frames.
        view_sharing: settings of view sharing, of windows of frames; coils are then combined with their maps.
    """

    model_config = ConfigDict(
        extra="forbid", frozen=True, json_schema_extra=describe_settings, populate_by_name=True
    )

    sense: Sense.Config | None = None
    pics: Pics.Config | None = None
    fourier: Fourier.Config | None = None
    low_rank_sparse: ReconstructLowRankSparse.Config | None = Field(None, alias="low-rank-sparse")
    view_sharing: ShareViews.Config | None = Field(None, alias="view-sharing")

    @model_validator(mode="after")
    def _one(self) -> Classical:
        if len(self._named) != 1:
            names = " or ".join(f"{{{name}: {{}}}}" for name in self._names())
            raise ValueError(f"name one classical stage with its settings: {names}")
        return self

    @property
    def name(self) -> str:
        """The stage's name."""
        (name,) = self._named
        return name

    @property
    def of_films(self) -> bool:
        """Whether it reconstructs windows of frames, and nothing else."""
        together = self.pics is not None and self.pics.frames == "together"
        return together or self.low_rank_sparse is not None or self.view_sharing is not None

    def stage(self) -> Stage[Any, Image]:
        """The stage."""
        if self.low_rank_sparse is not None:
            return ReconstructLowRankSparse(self.low_rank_sparse)
        if self.view_sharing is not None:
            return _SharedViews(self.view_sharing)
        if self.pics is not None:
            return Pics(self.pics)
        return Fourier(self.fourier) if self.sense is None else Sense(self.sense)

    @property
    def _named(self) -> list[str]:
        return [
            name
            for field, name in zip(type(self).model_fields, self._names(), strict=True)
            if getattr(self, field)
        ]

    @classmethod
    def _names(cls) -> list[str]:
        return [field.alias or name for name, field in cls.model_fields.items()]


class _SharedViews(Stage[KSpace, Image]):
    """View sharing, and what makes images of it."""

    Config = ShareViews.Config
    config: ShareViews.Config

    def prepare(self, context: Context) -> None:
        """Prepare both stages."""
        self._share, self._transform = ShareViews(self.config), Fourier(combine="maps")
        for stage in (self._share, self._transform):
            stage.prepare(context)

    def open(self, scan: Scan) -> None:
        """A new scan."""
        for stage in (self._share, self._transform):
            stage.open(scan)

    def process(self, item: KSpace) -> Iterator[Image]:
        """The wanted images of one window."""
        for shared in self._share.process(item):
            yield from self._transform.process(shared)
