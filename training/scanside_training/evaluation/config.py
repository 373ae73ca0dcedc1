"""The configuration of an evaluation, and how it is read from YAML."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from scanside_training.config import read_settings, read_yaml
from scanside_training.data.settings import Settings
from scanside_training.evaluation.candidates import AnyCandidate, candidate_of
from scanside_training.evaluation.comparisons import NonInferiorityConfig
from scanside_training.evaluation.definitions import DEFINITIONS, DefinitionName
from scanside_training.evaluation.floor import FloorConfig
from scanside_training.evaluation.leaks import is_classical
from scanside_training.evaluation.measured import CflData, MrdData
from scanside_training.evaluation.perturbation.config import PerturbationConfig
from scanside_training.evaluation.regions import AnyRegion, Contrast
from scanside_training.evaluation.scores import Measuring
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
    worst: int = Field(default=5, ge=0)
    """The worst cases of each candidate that are shown, by PSNR over the whole image."""
    floor: FloorConfig | None = None
    """Hold learned candidates against classical ones, scan by scan."""
    perturbation: PerturbationConfig | None = None
    """Add small structures to some of the scans, and look for changes that mislead candidates most."""
    definition: DefinitionName = "scanside"
    """What PSNR, SSIM and NMSE mean: ``scanside``, ``fastmri`` (of volumes), or ``wang``."""
    by: tuple[Literal["slice", "volume", "subject"], ...] = ("slice",)
    """What tables count. Differences are those of volumes where these are measured, else of slices."""
    regions: dict[str, AnyRegion] = Field(default_factory=dict)
    """Where images are measured, too."""
    contrasts: dict[str, Contrast] = Field(default_factory=dict)
    """Between which regions contrast is measured."""
    reference: str | None = None
    """Candidate that all others are compared with, subject by subject; by default the first classical one."""
    non_inferiority: NonInferiorityConfig | None = None
    """Tell which candidates are not worse than another by more than a margin."""
    curves: tuple[str, ...] | None = None
    """Numbers of the scan that measures are drawn over, such as ``snr`` or ``acceleration``; by default all that have
    three values or more."""

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
        against = self.non_inferiority.against if self.non_inferiority else None
        for setting, named in (("reference", self.reference), ("non_inferiority.against", against)):
            if named is not None and named not in names:
                raise ValueError(f"{setting} is '{named}', and candidates are {', '.join(names) or 'none'}")
        return self

    @model_validator(mode="after")
    def _measurable(self) -> EvaluationConfig:
        if not self.by or len(set(self.by)) < len(self.by):
            raise ValueError(f"by is {list(self.by)}: name slice, volume or subject, each once")
        if self.definition == "fastmri" and "volume" not in self.by:
            raise ValueError(
                "the definition 'fastmri' is one of volumes: set by: [volume], or [slice, volume]"
            )
        if wrong := sorted(name for name in (*self.regions, *self.contrasts) if not name.isidentifier()):
            raise ValueError(f"names of regions are letters, digits and underscores, not {', '.join(wrong)}")
        used = {name for one in self.contrasts.values() for name in (one.of, one.against) if name is not None}
        if unknown := sorted(used - set(self.regions)):
            raise ValueError(
                f"contrasts name {', '.join(unknown)}, and regions are {', '.join(self.regions) or 'none'}"
            )
        return self

    @property
    def measuring(self) -> Measuring:
        """How and where images are measured."""
        return Measuring(DEFINITIONS[self.definition], self.regions, self.contrasts)

    @property
    def compared_with(self) -> str | None:
        """Name of the candidate that the others are compared with; None where there is nothing to compare."""
        if self.reference is not None or len(self.candidates) < 2:
            return self.reference
        return next((one.name or one.label for one in self.candidates if is_classical(one)), None)


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
