"""Trains the networks of a study one after the other, goes on where it was interrupted, and compares them."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from scanside.errors import ConfigError, ScansideError
from scanside_training.checkpoint import CONFIG, load_model
from scanside_training.config import load_config
from scanside_training.data import DataConfig, ReconstructionData, SampleKeys
from scanside_training.evaluation.candidates import Run, ZeroFilled
from scanside_training.evaluation.config import EvaluationConfig
from scanside_training.evaluation.run import Evaluation, Progress, compare
from scanside_training.evaluation.simulated import SimulatedData
from scanside_training.memory import training_memory
from scanside_training.record import TrainingRecord, read_record
from scanside_training.similarity import Similarity, layer_similarity
from scanside_training.study.config import Planned, SimilarityConfig, StudyConfig
from scanside_training.study.folds import check_same_folds, check_samples, count_folds, of_fold, pooled
from scanside_training.study.training import check_settings, is_finished, time_left, trained

logger = logging.getLogger(__name__)

__all__ = ["Study", "plan", "run_study"]


@dataclass
class Study:
    """What came of a study.

    Attributes:
        config: what was asked for.
        networks: all that were planned.
        evaluation: their images on the same data, under their names; over folds, all images of those of one seed
            under one name.
        records: of their trainings, by name.
        failures: why a network could not be trained, by name.
        similarities: of the teacher's blocks with those of each student.
        memory: bytes of a training step, by name.
        n_folds: of the cross-validation; None where there is one split.
    """

    config: StudyConfig
    networks: list[Planned]
    evaluation: Evaluation
    records: dict[str, TrainingRecord] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)
    similarities: dict[str, Similarity] = field(default_factory=dict)
    memory: dict[str, int] = field(default_factory=dict)
    n_folds: int | None = None

    @property
    def cautions(self) -> list[str]:
        """What people must be told of the networks, with their names."""
        return [
            f"{name}: {caution}"
            for name, record in self.records.items()
            for caution in (*record.cautions, *(record.lineage.cautions if record.lineage else ()))
        ]

    def of(self, variation: str) -> list[Planned]:
        """The networks of one variation."""
        return [one for one in self.networks if one.variation.name == variation]

    def measured(self, variation: str) -> list[str]:
        """The names of one variation in the evaluation, one for each seed."""
        return list(dict.fromkeys(one.measured for one in self.of(variation)))


def plan(study: StudyConfig, base: dict[str, Any], folder: Path, n_folds: int | None = None) -> list[Planned]:
    """All networks, in the order in which they are trained.

    Args:
        study: what is varied.
        base: the training configuration, as it stands in its file.
        folder: of the study.
        n_folds: of the cross-validation; None where there is one split.

    Raises:
        ConfigError: a variation's settings are wrong, or what an ablation leaves out changes nothing.
    """
    networks = [
        Planned(study, base, variation, seed, folder / "runs", fold)
        for variation in study.variations
        for seed in ((0,) if variation.run else variation.seeds or study.seeds)
        for fold in ((None,) if n_folds is None else range(n_folds))
    ]
    if study.ablation is not None:
        full = networks[0]
        for one in networks[1:]:
            if (one.seed, one.fold) == (full.seed, full.fold) and one.variation is not full.variation:
                _check_ablation(one, full)
    return networks


def _check_ablation(one: Planned, full: Planned) -> None:
    assert one.config is not None
    assert full.config is not None
    if one.config.model_copy(update={"name": full.config.name}) == full.config:
        raise ConfigError(
            f"ablation '{one.variation.name}' changes nothing: the full network has these settings already"
        )


def run_study(
    study: StudyConfig,
    base: dict[str, Any],
    data: DataConfig,
    folder: Path,
    *,
    console: Console | None = None,
    on_step: Callable[[str], None] = lambda step: None,  # noqa: ARG005
    on_progress: Progress = lambda done, total: None,  # noqa: ARG005
) -> Study:
    """Train what is missing, and compare all.

    A training that fails is reported, and the others go on.

    Args:
        study: what is varied.
        base: the training configuration, as it stands in its file.
        data: of the base.
        folder: of the study; finished runs in it are kept, interrupted ones resumed.
        console: where trainings draw their progress.
        on_step: told what is about to happen.
        on_progress: told how many images were compared.

    Raises:
        ConfigError: settings are wrong, a finished run in the folder was made with others, or folds do not fit
            the data.
    """
    n_folds = None
    if study.folds is not None:
        n_folds = count_folds(data, study.folds)
        check_samples(data, study.samples, n_folds)
    networks = plan(study, base, folder, n_folds)
    for one in networks:
        if one.config is None:
            load_config(one.folder / CONFIG)
            continue
        check_settings(one.config, one.folder)
        if n_folds is not None:
            check_same_folds(one.config.data, data, one.variation.name)
    for variation in study.variations:
        of_seeds = [one.config for one in networks if one.variation is variation and one.config is not None]
        if len(of_seeds) > 1 and of_seeds[0].data.seed is not None:
            logger.warning(
                "all seeds of '%s' see the same samples, as data.seed is %d: the spread over them is that of the "
                "initial weights alone; leave data.seed out to have both",
                variation.name,
                of_seeds[0].data.seed,
            )
    failures: dict[str, str] = {}
    records: dict[str, TrainingRecord] = {}
    for number, one in enumerate(networks):
        seconds = sum(record.seconds for record in records.values())
        n_left = sum(
            each.config is not None and not is_finished(each.config, each.folder)
            for each in networks[number:]
        )
        left = time_left(seconds, len(records), n_left)
        on_step(f"{number + 1} of {len(networks)}: {one.name}{left}")
        try:
            record = (
                read_record(one.folder) if one.config is None else trained(one.config, one.folder, console)
            )
        except (ScansideError, OSError, RuntimeError) as error:
            logger.warning("%s was not trained: %s", one.name, error)
            failures[one.name] = str(error) or type(error).__name__
            continue
        if record is not None:
            records[one.name] = record
    on_step("comparing")
    if n_folds is None:
        evaluation = compare(_evaluation(study, networks, failures, data), on_progress=on_progress)
    else:
        evaluation = _over_folds(study, networks, failures, data, n_folds, on_progress)
    result = Study(study, networks, evaluation, records, failures, n_folds=n_folds)
    on_step("measuring memory")
    for variation in study.variations:
        first = result.of(variation.name)[0]
        if first.config is not None and first.name not in failures:
            result.memory[first.name] = training_memory(first.config)
    if study.similarity is not None:
        on_step("comparing layers")
        result.similarities = _similarities(
            result, study.similarity, data if n_folds is None else of_fold(data, 0)
        )
    return result


def _over_folds(
    study: StudyConfig,
    networks: list[Planned],
    failures: dict[str, str],
    data: DataConfig,
    n_folds: int,
    on_progress: Progress,
) -> Evaluation:
    """All folds, each measured by the networks that were trained without it."""
    made = []
    for fold in range(n_folds):
        own = [one for one in networks if one.fold == fold]
        config = _evaluation(study, own, failures, of_fold(data, fold))
        if fold:  # the first is enough to time and to look at
            config = config.model_copy(update={"speed": None, "pictures": 0})
        made.append(compare(config, on_progress=on_progress))
    return pooled(made)


def _evaluation(
    study: StudyConfig, networks: list[Planned], failures: dict[str, str], data: DataConfig
) -> EvaluationConfig:
    # Over folds a network counts that has all of them: others would be compared on other subjects.
    failed = {name.rpartition("-fold")[0] if study.folds is not None else name for name in failures}
    runs = [Run(name=one.measured, folder=one.folder) for one in networks if one.measured not in failed]
    speed = study.speed
    if speed is not None and speed.reference is not None:
        first = next(one for one in networks if one.variation.name == speed.reference)
        reference = None if first.measured in failed else first.measured
        speed = speed.model_copy(update={"reference": reference})
    return EvaluationConfig(
        name=study.name,
        data=SimulatedData(data=data, part=study.part, samples=study.samples),
        candidates=(ZeroFilled(), *study.candidates, *runs),
        speed=speed,
        pictures=study.pictures,
        worst=study.worst,
    )


def _similarities(study: Study, config: SimilarityConfig, data: DataConfig) -> dict[str, Similarity]:
    """CKA of the first network of each variation, on whole batches of the images."""
    part, n_samples = study.config.part, study.config.samples
    batch_size = min(config.batch_size, n_samples)
    settings = data.model_copy(
        update={"batch_size": batch_size, "validation_samples": n_samples, "num_workers": 0}
    )
    keys = SampleKeys(n_samples - n_samples % batch_size, batch_size)
    batches = list(ReconstructionData(settings).loader(part, keys))
    found = {}
    teacher = study.of(config.teacher)[0]
    for name in config.students:
        student = study.of(name)[0]
        if {teacher.name, student.name} & set(study.failures):
            continue
        large, small = (load_model(one.folder)[0] for one in (teacher, student))
        found[student.name] = layer_similarity(large, small, batches, _blocks(large), _blocks(small))
    return found


def _blocks(network: torch.nn.Module) -> list[str]:
    """Names of a U-Net's blocks, from its input to its output."""
    encoder, decoder = (
        [f"{path}.{name}" for name, _ in network.get_submodule(path).named_children()]
        for path in ("body.encoder", "body.decoder")
    )
    return [*encoder, "body.bottleneck", *decoder]
