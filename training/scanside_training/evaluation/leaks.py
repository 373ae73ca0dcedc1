"""Whether a network was trained on what it is measured on: then its figures tell what it remembers."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import yaml

from scanside.engines.bundle import Bundle
from scanside.engines.catalog import find_bundle
from scanside.engines.manifest import DataSource
from scanside.errors import ScansideError
from scanside.pipeline import Pipeline
from scanside.stages.engine import RunEngine
from scanside_training.ancestry import lineage_of
from scanside_training.checkpoint import CONFIG
from scanside_training.config import TrainConfig, load_config, read_config
from scanside_training.data.splits import SubjectLists
from scanside_training.evaluation.candidates import AnyCandidate
from scanside_training.evaluation.candidates.engine import EngineOf
from scanside_training.evaluation.candidates.network import Run
from scanside_training.evaluation.candidates.pipeline import PipelineRun
from scanside_training.record import identity, read_record

__all__ = ["bundles_of", "is_classical", "seen_by"]


def seen_by(candidate: AnyCandidate) -> frozenset[str]:
    """The subjects and recordings that a candidate's weights go back to, as `identity` and content hashes.

    Args:
        candidate: a run, a bundle, or a pipeline with bundles; all others have learned nothing.

    Raises:
        ScansideError: the run, a bundle or the pipeline is not there or damaged.
    """
    if isinstance(candidate, Run):
        return _of_run(candidate.folder)
    if isinstance(candidate, EngineOf):
        return _of_bundle(find_bundle(candidate.bundle))
    if isinstance(candidate, PipelineRun):
        return frozenset().union(*(_of_bundle(find_bundle(name)) for name in bundles_of(candidate)))
    return frozenset()


def is_classical(candidate: AnyCandidate) -> bool:
    """Whether nothing of a candidate was learned; of a pipeline that cannot be read that is not known."""
    if isinstance(candidate, (Run, EngineOf)):
        return False
    try:
        return not isinstance(candidate, PipelineRun) or not bundles_of(candidate)
    except ScansideError:
        return False


def bundles_of(candidate: PipelineRun) -> list[str]:
    """Names of the bundles that a pipeline's stages may use.

    Raises:
        PipelineError: there is no such pipeline, or its stages do not fit.
    """
    stages = Pipeline.load(candidate.pipeline, candidate.settings).stages
    return [name for stage in stages if isinstance(stage, RunEngine) for name in stage.config.bundles]


@cache
def _of_run(folder: Path) -> frozenset[str]:
    config, record = load_config(folder / CONFIG), read_record(folder)
    lineage = record.lineage if record is not None and record.lineage is not None else lineage_of(config)
    found = set(_of(lineage.data))
    for one in lineage.ancestors:
        if one.settings is not None and not any(source.seen for source in one.ancestor.trained_on):
            found |= _named_in(read_config(yaml.safe_load(one.settings), one.ancestor.name))
    seen = () if record is None else tuple(each for one in record.data for each in one.seen)
    return frozenset(found | (set(seen) or _named_in(config)))


@cache
def _of_bundle(folder: Path) -> frozenset[str]:
    manifest = Bundle.open(folder).manifest
    found = set(_of(manifest.trained_on))
    if not found and manifest.training is not None:
        found |= _named_in(load_config(folder / manifest.training.config))
    return frozenset(found)


def _of(sources: tuple[DataSource, ...]) -> frozenset[str]:
    return frozenset(seen for one in sources for seen in one.seen)


def _named_in(config: TrainConfig) -> set[str]:
    """Subjects that a configuration names for training, where no record tells who they were."""
    return {
        identity(source.origin(config.data.drawn_from), subject)
        for source in config.data.sources
        if source.weight and isinstance(source.split, SubjectLists)
        for subject in source.split.train
    }
