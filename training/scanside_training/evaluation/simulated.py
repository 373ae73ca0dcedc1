"""Simulated scans, as in training, of subjects that no network has seen."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import torch
from pydantic import Field, model_validator

from scanside.recon.scaling import image_scale
from scanside_training.config import load_config
from scanside_training.data import DataConfig, ReconstructionData, SampleKey
from scanside_training.data.settings import Settings
from scanside_training.evaluation.case import Case
from scanside_training.evaluation.problem import Problem, line_conditions
from scanside_training.losses import magnitude

__all__ = ["SimulatedCases", "SimulatedData"]


class SimulatedData(Settings):
    """Samples of the part for validation or test of training data: images or films."""

    kind: Literal["simulated"] = "simulated"
    data: DataConfig | None = None
    """Sources, splits and simulation."""
    config: Path | None = None
    """The same, from this training configuration."""
    part: Literal["test", "validation"] = "test"
    samples: int | None = Field(default=None, ge=1)
    """How many images, spread evenly over the slices; by default the data's ``validation_samples``."""

    @model_validator(mode="after")
    def _one_source(self) -> SimulatedData:
        if (self.data is None) == (self.config is None):
            raise ValueError(
                "give the data once: as 'data', or as those of a training configuration, 'config'"
            )
        return self

    def resolved(self) -> DataConfig:
        """The data's settings.

        Raises:
            ConfigError: the training configuration cannot be read.
        """
        if self.config is not None:
            data = load_config(self.config).data
        else:
            assert self.data is not None
            data = self.data
        return data.model_copy(
            update={
                "validation_samples": self.samples or data.validation_samples,
                "seed": data.drawn_from,
            }
        )

    def open(self) -> SimulatedCases:
        """The cases.

        Raises:
            ConfigError: no source has a slice in this part, or a file is not there.
        """
        return SimulatedCases(self.resolved(), self.part)

    @property
    def title(self) -> str:
        """In words."""
        kinds = ", ".join(source.kind for source in self.resolved().sources)
        return f"simulated from {kinds}, {self.part}"


class SimulatedCases:
    """Makes samples one by one.

    Args:
        data: sources, splits and simulation.
        part: whose slices.
    """

    def __init__(self, data: DataConfig, part: Literal["test", "validation"]) -> None:
        self._samples = ReconstructionData(data).samples(part)
        self._n = data.validation_samples

    def __len__(self) -> int:
        return self._n

    def __iter__(self) -> Iterator[Case]:
        return (self[number] for number in range(self._n))

    def __getitem__(self, number: int) -> Case:
        key = SampleKey(0, 0, number)
        sample = self._samples[key]
        target = magnitude(sample["target"][None].double())[0, 0].numpy()
        mask = sample["mask"] > 0
        strata = {
            "acceleration": f"{mask.numel() / int(mask.sum()):.0f}",
            "subject": self._samples.subject(key),
        }
        if "te" in sample:
            strata["te_ms"] = f"{float(sample['te']):.0f}"
        if "maps" in sample:
            strata["n_coils"] = str(len(sample["maps"]))
        # A film's lines differ from frame to frame: only their number says something.
        lines = mask.reshape(-1, mask.shape[-2])
        conditions: dict[str, float] = (
            line_conditions(lines[0]) if len(lines) == 1 else {"lines": lines.shape[1]}
        )
        conditions |= {"acceleration": mask.numel() / max(int(mask.sum()), 1), "columns": target.shape[-1]}
        if "te" in sample:
            conditions["te_ms"] = float(sample["te"])
        if "maps" in sample:
            conditions["n_coils"] = len(sample["maps"])
        if "noise" in sample and float(sample["noise"]) > 0:
            bright = float(image_scale(torch.from_numpy(target.reshape(-1, target.shape[-1]))))
            conditions["snr"] = bright / float(sample["noise"])
        volume = "" if target.ndim == 3 else self._samples.volume(key)
        return Case(
            name=f"{number:03d}",
            strata=strata,
            whole=target,
            inside=target,
            roi=sample["roi"][0].numpy() > 0,
            identities=self._samples.identities(key),
            problem=None if target.ndim == 3 else Problem.from_sample(sample),
            sample=sample,
            conditions=conditions,
            volume=volume,
            scale=float(sample["scale"]) if "scale" in sample else 1.0,
        )
