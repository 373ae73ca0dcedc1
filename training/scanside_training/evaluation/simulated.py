"""Simulated scans, as in training, of subjects that no network has seen."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from pydantic import Field

from scanside_training.data import DataConfig, ReconstructionData, SampleKey
from scanside_training.data.settings import Settings
from scanside_training.evaluation.case import Case
from scanside_training.evaluation.problem import Problem
from scanside_training.losses import magnitude

__all__ = ["SimulatedCases", "SimulatedData"]


class SimulatedData(Settings):
    """Samples of the part for validation or test of training data."""

    kind: Literal["simulated"] = "simulated"
    data: DataConfig
    """Sources, splits and simulation; ``validation_samples`` is how many images are made."""
    part: Literal["test", "validation"] = "test"
    first: int | None = Field(default=None, ge=1)
    """Take this many samples only, from the first on."""

    def open(self) -> SimulatedCases:
        """The cases.

        Raises:
            ConfigError: no source has a slice in this part, or a file is not there.
        """
        return SimulatedCases(self)

    @property
    def title(self) -> str:
        """In words."""
        kinds = ", ".join(source.kind for source in self.data.sources)
        return f"simulated from {kinds}, {self.part}"


class SimulatedCases:
    """Makes samples one by one.

    Args:
        config: which.
    """

    def __init__(self, config: SimulatedData) -> None:
        self._samples = ReconstructionData(config.data).samples(config.part)
        n_samples = config.data.validation_samples
        self._n = min(config.first or n_samples, n_samples)

    def __len__(self) -> int:
        return self._n

    def __iter__(self) -> Iterator[Case]:
        for index in range(self._n):
            key = SampleKey(0, 0, index)
            sample = self._samples[key]
            target = magnitude(sample["target"][None].double())[0, 0].numpy()
            mask = sample["mask"][:, 0] > 0
            strata = {
                "acceleration": f"{len(mask) / int(mask.sum()):.0f}",
                "subject": self._samples.subject(key),
            }
            if "maps" in sample:
                strata["n_coils"] = str(len(sample["maps"]))
            yield Case(
                name=f"{index:03d}",
                strata=strata,
                whole=target,
                inside=target,
                roi=sample["roi"][0].numpy() > 0,
                problem=Problem.from_sample(sample),
                sample=sample,
            )
