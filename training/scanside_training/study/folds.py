"""Cross-validation: the splits of a study's folds, and what was measured on each fold put together.

Every subject is in the test of one fold, and is measured by the networks that were trained on the others (out of
fold). Stone, *Cross-validatory choice and assessment of statistical predictions*, J R Stat Soc B 36:111-147 (1974).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from scanside.errors import ConfigError
from scanside_training.data import DataConfig, LeaveOneOut, ReconstructionData, SampleKey, SubjectFolds
from scanside_training.data.splits import fold_count
from scanside_training.evaluation.run import Evaluation
from scanside_training.evaluation.scores import Score

__all__ = ["check_same_folds", "check_samples", "count_folds", "of_fold", "pooled"]


def count_folds(data: DataConfig, asked: int | str) -> int:
    """How many folds the data have.

    Args:
        data: of the study's base.
        asked: how many the study wants, or ``leave-one-out``.

    Raises:
        ConfigError: no source is split by folds, their numbers differ, or a source has a test of its own.
    """
    found: dict[int, str] = {}
    for number, source in enumerate(data.sources):
        where = f"data.sources[{number}] ({source.kind})"
        slices = source.open(data.drawn_from)
        n_folds = fold_count(source.split, slices.subjects, source.kind)
        if n_folds is not None:
            found[n_folds] = where
        elif source.members("test", slices):
            raise ConfigError(
                f"the study has folds, and {where} of its base has a test that is no fold: split it by folds too "
                "(split: {folds: …}), or name subjects for training alone (split: {train: […]})"
            )
    if not found:
        raise ConfigError(
            "the study has folds, and no source of its base is split by folds: give data.sources a "
            "'split: {folds: …}' or 'split: {leave_out: one}'"
        )
    if len(found) > 1 or (asked != "leave-one-out" and asked not in found):
        told = ", ".join(f"{where} has {n}" for n, where in found.items())
        raise ConfigError(f"the study asks for folds: {asked}, and {told}: the numbers must be the same")
    splits = _fold_splits(data)
    if asked == "leave-one-out" and not all(isinstance(split, LeaveOneOut) for split in splits):
        raise ConfigError(
            "the study asks for folds: leave-one-out, and its base is split by a number of folds: write "
            "'split: {leave_out: one}', or give the study that number"
        )
    return next(iter(found))


def check_same_folds(data: DataConfig, base: DataConfig, name: str) -> None:
    """Refuse data that part their subjects otherwise than the base, whose tests all are measured on.

    Raises:
        ConfigError: they do.
    """
    if _fold_splits(data) != _fold_splits(base):
        raise ConfigError(
            f"'{name}' has other splits than the base, and would be measured on what it was trained on: vary "
            "anything but the splits in a study with folds"
        )


def check_samples(data: DataConfig, n_samples: int, n_folds: int) -> None:
    """Refuse to leave somebody out: images are spread over a fold's slices, and few may miss a subject.

    Raises:
        ConfigError: names the fold, and who would not be measured.
    """
    for fold in range(n_folds):
        settings = of_fold(data, fold).model_copy(update={"validation_samples": n_samples})
        samples = ReconstructionData(settings).samples("test")
        there = {name for one in samples.provenance for name in one.subjects}
        missed = there - {samples.subject(SampleKey(0, 0, number)) for number in range(n_samples)}
        if missed:
            raise ConfigError(
                f"samples: {n_samples} images of fold {fold} would leave out {len(missed)} of its {len(there)} "
                f"subjects ({', '.join(sorted(missed)[:5])}): raise samples, up to the {samples.n_slices} slices"
            )


def of_fold(data: DataConfig, fold: int) -> DataConfig:
    """The same data with another fold for the test."""
    sources = tuple(
        source.model_copy(update={"split": source.split.model_copy(update={"fold": fold})})
        if isinstance(source.split, SubjectFolds | LeaveOneOut)
        else source
        for source in data.sources
    )
    return data.model_copy(update={"sources": sources})


def pooled(folds: Sequence[Evaluation]) -> Evaluation:
    """What was measured on all folds, as if it were one test; times and pictures are those of the first.

    Args:
        folds: of each, the same candidates: of networks those that were trained on its other folds.
    """
    first = folds[0]
    together = replace(first, scores=[], failures=[], shown=[])
    for number, one in enumerate(folds):
        together.scores += [_of_fold(score, number) for score in one.scores]
        for failure in one.failures:
            told = replace(failure, cases=tuple(f"fold{number}-{case}" for case in failure.cases))
            if told not in together.failures:  # who cannot be opened, cannot in any fold
                together.failures.append(told)
        together.shown += [
            replace(shown, case=replace(shown.case, name=f"fold{number}-{shown.case.name}"))
            for shown in one.shown
        ]
    return together


def _of_fold(score: Score, fold: int) -> Score:
    return replace(score, case=f"fold{fold}-{score.case}", strata={**score.strata, "fold": str(fold)})


def _fold_splits(data: DataConfig) -> list[SubjectFolds | LeaveOneOut]:
    """Different splits by folds, whatever fold they are at."""
    found: list[SubjectFolds | LeaveOneOut] = []
    for source in of_fold(data, 0).sources:
        split = source.split
        if isinstance(split, SubjectFolds | LeaveOneOut) and split not in found:
            found.append(split)
    return found
