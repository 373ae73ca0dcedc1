"""The configuration of an evaluation, and how it is read from YAML."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, model_validator

from scanside_training.config import read_settings, read_yaml
from scanside_training.data.settings import Settings
from scanside_training.evaluation.candidates import AnyCandidate, candidate_of
from scanside_training.evaluation.floor import FloorConfig
from scanside_training.evaluation.measured import CflData, MrdData
from scanside_training.evaluation.perturbation.config import PerturbationConfig
from scanside_training.evaluation.simulated import SimulatedData
from scanside_training.evaluation.sites import OtherSitesData

__all__ = ["AnyData", "EvaluationConfig", "SpeedConfig", "load_evaluation"]

AnyData = Annotated[SimulatedData | CflData | MrdData | OtherSitesData, Field(discriminator="kind")]


class SpeedConfig(Settings):
    """Timing of one image, its inputs being ready. Candidates take turns, so that all see the same machine."""

    repeats: int = Field(default=9, ge=1)
    """Images of each candidate; the median is told."""
    reference: str | None = None
    """Candidate to which size and time of the others are related."""


class EvaluationConfig(Settings):
    """``scanside evaluate`` reads it from a YAML file."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    """Title of the report; the folder is ``evaluations/<name>`` unless told otherwise."""
    data: AnyData
    candidates: tuple[AnyCandidate, ...] = ()
    """What is compared, in this order."""
    speed: SpeedConfig | None = None
    """Time the candidates too."""
    pictures: int = Field(default=3, ge=0)
    """Cases that are shown, spread evenly."""
    floor: FloorConfig | None = None
    """Hold learned candidates against classical ones, scan by scan."""
    perturbation: PerturbationConfig | None = None
    """Add small structures to some of the scans, and look for changes that mislead candidates most."""

    @model_validator(mode="after")
    def _names_differ(self) -> EvaluationConfig:
        names = [one.name or one.label for one in self.candidates]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(
                f"candidates of the same name: {', '.join(twice)}; give each a 'name' of its own"
            )
        if self.speed and self.speed.reference is not None and self.speed.reference not in names:
            raise ValueError(
                f"speed.reference is '{self.speed.reference}', and candidates are {', '.join(names)}"
            )
        if self.floor and (unknown := sorted(set(self.floor.names) - set(names))):
            raise ValueError(f"floor names {', '.join(unknown)}, and candidates are {', '.join(names)}")
        return self


def load_evaluation(
    path: Path,
    settings: Mapping[str, Any] | None = None,
    candidates: Sequence[str] = (),
    *,
    only: bool = False,
) -> EvaluationConfig:
    """Read a configuration file.

    Args:
        path: a YAML file.
        settings: nested settings that replace those of the file.
        candidates: more of them, each in the short form of `candidate_of`.
        only: leave the candidates of the file out.

    Raises:
        ConfigError: no such file, not YAML, a setting is unknown, missing or wrong, or a candidate is not there.
    """
    document = read_yaml(path, settings, "configuration of an evaluation")
    more = [candidate_of(text).model_dump() for text in candidates]
    if only:
        document["candidates"] = more
    elif more:
        document["candidates"] = [*document.get("candidates", ()), *more]
    return read_settings(EvaluationConfig, document, str(path), "the configuration of an evaluation")
