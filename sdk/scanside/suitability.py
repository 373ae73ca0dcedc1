"""Which pipelines can take a scan, best first, and why the others cannot.

Every shipped pipeline is asked, stage by stage (`Stage.foresee`). First come those that nothing speaks against, then
those whose images will be worse than they might be, then those that would refuse the scan; among equals those of a
higher rank (`PipelineConfig`) come first.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from scanside.errors import MissingExtra, ScansideError
from scanside.outline import Outline
from scanside.pipeline import Pipeline, pipeline_names

__all__ = ["VERDICTS", "Suitability", "Verdict", "by_reason", "pipelines_for"]

Verdict: TypeAlias = Literal["fits", "doubtful", "refuses"]

VERDICTS: dict[Verdict, str] = {"fits": "takes it", "doubtful": "with doubt", "refuses": "cannot"}
"""In words, for tables; the best first."""

_ORDER = tuple(VERDICTS)
_NO_IMAGE = "there are no readouts of an image whose encoding space the header describes"


@dataclass(frozen=True, slots=True)
class Suitability:
    """How far a pipeline can take a scan.

    Attributes:
        pipeline: its name.
        description: what it does.
        rank: see `PipelineConfig`.
        refusals: why it cannot; empty where it can.
        doubts: why its images will be worse than they might be.
    """

    pipeline: str
    description: str = ""
    rank: int = 0
    refusals: tuple[str, ...] = ()
    doubts: tuple[str, ...] = ()

    @property
    def verdict(self) -> Verdict:
        """``fits``, ``doubtful``: it makes images that will be worse than they might be, or ``refuses``."""
        return "refuses" if self.refusals else "doubtful" if self.doubts else "fits"

    @property
    def reasons(self) -> tuple[str, ...]:
        """What speaks against it: why it cannot, or else what makes its images worse."""
        return self.refusals or self.doubts

    @property
    def text(self) -> str:
        """What speaks against it, or what it does, for tables."""
        return "; ".join(self.reasons) or self.description

    def as_dict(self) -> dict[str, Any]:
        """As JSON-ready values."""
        return {
            "pipeline": self.pipeline,
            "verdict": self.verdict,
            "rank": self.rank,
            "refusals": list(self.refusals),
            "doubts": list(self.doubts),
        }


def pipelines_for(
    outline: Outline | None, broken: Sequence[str] = (), names: Iterable[str] | None = None
) -> list[Suitability]:
    """Ask pipelines about a scan; those that suit it best come first.

    What only samples tell is not known: whether channels have noise, an object is larger than the field of view, or a
    network is worse than what it competes with, which stages find out as they run.

    Args:
        outline: of the scan; None where it has no lines of an image.
        broken: what must be mended before any pipeline can take the scan (`Inspection.broken`).
        names: of pipelines, or paths of their files; by default all that come with Scanside.
    """
    asked = [_asked(name, outline, broken) for name in (pipeline_names() if names is None else names)]
    return sorted(
        asked, key=lambda one: (_ORDER.index(one.verdict), len(one.doubts), -one.rank, one.pipeline)
    )


def by_reason(suitable: Iterable[Suitability]) -> list[list[Suitability]]:
    """Rows of a table: a pipeline each, and together those that cannot take a scan for the same reasons.

    Args:
        suitable: in their order; the first of each row keeps its place.
    """
    rows: dict[tuple[str, ...], list[Suitability]] = {}
    for one in suitable:
        rows.setdefault(one.refusals or (one.pipeline,), []).append(one)
    return list(rows.values())


def _asked(name: str, outline: Outline | None, broken: Sequence[str]) -> Suitability:
    if broken or outline is None:
        return Suitability(name, refusals=tuple(broken[:1]) or (_NO_IMAGE,))
    try:
        pipeline = Pipeline.load(name)
        foreseen = pipeline.foresee(outline)
    except MissingExtra as error:
        return Suitability(name, refusals=(str(error),))
    except ScansideError as error:  # a stage of someone else may be broken, which the others need not suffer
        return Suitability(name, refusals=(f"it cannot be loaded: {error}",))
    return Suitability(name, pipeline.description, pipeline.rank, foreseen.refusals, foreseen.doubts)
