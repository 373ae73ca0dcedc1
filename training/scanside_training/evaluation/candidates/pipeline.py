"""Whole pipelines, as they run at the scanner, on recorded files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal, NamedTuple

import torch
from pydantic import Field

from scanside.context import Context
from scanside.errors import ConfigError
from scanside.items import Image
from scanside.noise_store import NoiseStore
from scanside.pipeline import Pipeline
from scanside.replay import replay
from scanside_training.evaluation.candidates.base import CandidateConfig, Job, Told
from scanside_training.evaluation.case import Case, Recorded

__all__ = ["PipelineRun", "ReplayedPipeline"]

_TOLD = {"fallback": "ScansideFallback", "fitness": "ScansideFitness", "check": "ScansideCheck"}
"""Attributes of an image that tell of its network, by kind."""


class PipelineRun(CandidateConfig):
    """A pipeline by its name or file. Its own stages find coil maps and scale images."""

    kind: Literal["pipeline"] = "pipeline"
    pipeline: str
    settings: dict[str, Any] = Field(default_factory=dict)
    """Changed settings, as ``stage.setting: value``."""

    @property
    def label(self) -> str:
        """Name where none is given."""
        return f"pipeline {self.pipeline}"

    def open(self) -> ReplayedPipeline:
        """The pipeline, checked.

        Raises:
            PipelineError: there is none, or its stages do not fit.
        """
        return ReplayedPipeline(self)


class ReplayedPipeline:
    """A pipeline that reads the files of cases.

    Args:
        config: which, with what settings.
    """

    n_parameters = None
    timed = False

    def __init__(self, config: PipelineRun) -> None:
        self._pipeline = Pipeline.load(config.pipeline, config.settings)
        self._context: Context | None = None
        self.facts: dict[str, str] = {}
        self.told: Told = {}
        self._done: tuple[object, list[_Made]] = (None, [])

    def job(self, case: Case) -> Job:
        """See `Candidate.job`."""
        place = case.recorded
        if place is None:
            raise ConfigError("pipelines run over ISMRMRD files, and these data are none")

        def run() -> torch.Tensor:
            found = [one for one in self._images(place) if one.slice == place.slice]
            if len(found) <= place.index:
                raise ConfigError(f"the pipeline gave {len(found)} image(s) of slice {place.slice}")
            self.told = found[place.index].told
            return found[place.index].pixels

        return run

    def _images(self, place: Recorded) -> list[_Made]:
        """Every image of the file with these lines; those of the last file are kept."""
        key = (place.path, None if place.lines is None else place.lines.tobytes())
        if self._done[0] != key:
            if self._context is None:
                # Each scan stands for itself. Engines are loaded when its size is known.
                self._context = Context("cpu", NoiseStore(capacity=0))
                self._pipeline.prepare(replace(self._context, builds_engines=False))
            result = replay(
                place.path,
                self._pipeline,
                undersample=place.lines,
                device="cpu",
                threads=False,
                prepared=self._context,
            )
            self._done = key, [_made(image, result.warnings) for image in result.images]
        return self._done[1]


class _Made(NamedTuple):
    """An image of a pipeline: its slice, magnitudes ``(y, x)``, and what was told of it."""

    slice: int
    pixels: torch.Tensor
    told: Told


def _made(image: Image, warnings: Sequence[str]) -> _Made:
    pixels = image.data[0, 0]
    pixels = pixels if pixels.is_complex() else pixels.to(torch.float32)
    told = {kind: tuple(image.meta.get(name, ())) for kind, name in _TOLD.items()} | {
        "warning": tuple(warnings)
    }
    return _Made(
        int(image.header["slice"]), pixels.abs(), {kind: texts for kind, texts in told.items() if texts}
    )
