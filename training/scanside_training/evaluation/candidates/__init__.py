"""What can be compared, chosen by ``kind``; and the short form of the command line."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

from pydantic import Field

from scanside.engines.catalog import available_bundles
from scanside.engines.manifest import MANIFEST_FILE
from scanside.errors import ConfigError
from scanside.pipeline import pipeline_names
from scanside_training.checkpoint import CONFIG
from scanside_training.evaluation.candidates.bart import BartPics
from scanside_training.evaluation.candidates.base import Candidate, Job, Told
from scanside_training.evaluation.candidates.classical import CgSense, GrappaFill, SparseSense, ZeroFilled
from scanside_training.evaluation.candidates.engine import EngineOf
from scanside_training.evaluation.candidates.films import LowRankSparseFilm, ViewSharing
from scanside_training.evaluation.candidates.network import Run
from scanside_training.evaluation.candidates.pipeline import PipelineRun
from scanside_training.evaluation.candidates.tuned import Tuned

__all__ = ["AnyCandidate", "Candidate", "Job", "Run", "Told", "ZeroFilled", "candidate_of"]

AnyCandidate = Annotated[
    Run
    | EngineOf
    | ZeroFilled
    | GrappaFill
    | CgSense
    | SparseSense
    | BartPics
    | ViewSharing
    | LowRankSparseFilm
    | PipelineRun
    | Tuned,
    Field(discriminator="kind"),
]

_Classical = ZeroFilled | GrappaFill | CgSense | SparseSense | BartPics | ViewSharing | LowRankSparseFilm
_CLASSICAL: dict[str, type[_Classical]] = {
    "zero-filled": ZeroFilled,
    "grappa": GrappaFill,
    "cg-sense": CgSense,
    "pics": SparseSense,
    "bart": BartPics,
    "view-sharing": ViewSharing,
    "low-rank-sparse": LowRankSparseFilm,
}


def candidate_of(text: str) -> Run | EngineOf | _Classical | PipelineRun:
    """A candidate from one word.

    Args:
        text: ``zero-filled``, ``grappa``, ``cg-sense``, ``pics`` or ``bart``; of films ``view-sharing`` or
            ``low-rank-sparse``; the folder of a run; the name or folder of a
            bundle, where wanted followed by ``@backend`` or ``@backend:precision``; ``pipeline:name``. A name may
            stand before it: ``mine=runs/x``.

    Raises:
        ConfigError: it is none of these.
    """
    name, sign, what = text.partition("=")
    label = name if sign else None
    what = what if sign else text
    if what in _CLASSICAL:
        return _CLASSICAL[what](name=label)
    if what.startswith("pipeline:"):
        return PipelineRun(name=label, pipeline=what.partition(":")[2])
    place, _, choice = what.partition("@")
    is_folder = (Path(place) / MANIFEST_FILE).is_file()
    if is_folder or place in available_bundles():
        backend, _, precision = choice.partition(":")
        bundle = place if os.sep in place or not is_folder else f".{os.sep}{place}"
        settings = {"bundle": bundle, "backend": backend or "auto", "precision": precision or "auto"}
        return EngineOf.model_validate({"name": label, **settings})
    if (Path(place) / CONFIG).is_file():
        return Run(name=label, folder=Path(place))
    raise ConfigError(
        f"candidate '{what}' is none of {', '.join(_CLASSICAL)}, no folder of a run (with {CONFIG}) or bundle "
        f"(with {MANIFEST_FILE}), no bundle's name ({', '.join(available_bundles()) or 'there are none'}), and no "
        f"'pipeline:' with a name ({', '.join(pipeline_names())})"
    )
