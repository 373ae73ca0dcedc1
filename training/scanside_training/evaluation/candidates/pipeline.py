"""Whole pipelines, as they run at the scanner, on recorded files."""

from __future__ import annotations

from typing import Any, Literal

import torch
from pydantic import Field

from scanside.errors import ConfigError
from scanside.pipeline import Pipeline
from scanside.replay import replay
from scanside_training.evaluation.candidates.base import CandidateConfig, Job
from scanside_training.evaluation.case import Case

__all__ = ["PipelineRun"]


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

    def open(self) -> _Pipeline:
        """The pipeline, checked.

        Raises:
            PipelineError: there is none, or its stages do not fit.
        """
        Pipeline.load(self.pipeline)
        return _Pipeline(self)


class _Pipeline:
    n_parameters = None
    timed = False

    def __init__(self, config: PipelineRun) -> None:
        self._config = config
        self.facts: dict[str, str] = {}
        self._done: tuple[object, list[tuple[int, torch.Tensor]]] = (None, [])

    def job(self, case: Case) -> Job:
        place = case.recorded
        if place is None:
            raise ConfigError(
                "pipelines run over ISMRMRD files (data of kind 'mrd'), and these data are none"
            )

        def run() -> torch.Tensor:
            found = [image for number, image in self._images(case) if number == place.slice]
            if len(found) <= place.index:
                raise ConfigError(f"the pipeline gave {len(found)} image(s) of slice {place.slice}")
            return found[place.index]

        return run

    def _images(self, case: Case) -> list[tuple[int, torch.Tensor]]:
        """Slice and magnitudes of every image of the file with these lines; those of the last file are kept."""
        place = case.recorded
        assert place is not None
        key = (place.path, place.lines.tobytes())
        if self._done[0] != key:
            result = replay(
                place.path,
                self._config.pipeline,
                settings=self._config.settings,
                undersample=place.lines,
                device="cpu",
                threads=False,
            )
            images = [
                (int(image.header["slice"]), image.data[0, 0].to(torch.float32).abs())
                if not image.data.is_complex()
                else (int(image.header["slice"]), image.data[0, 0].abs())
                for image in result.images
            ]
            self._done = (key, images)
        return self._done[1]
