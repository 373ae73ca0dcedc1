"""The tables of a study: one row for each variation, with the spread over seeds; and who is better than whom."""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import dataclass, replace
from statistics import mean, median, stdev

import numpy as np

from scanside_training.evaluation.paired import PairedDifference, holm, paired_difference
from scanside_training.evaluation.scores import Score
from scanside_training.study.run import Study
from scanside_training.study.seeds import SeedsInterval, over_seeds_and_subjects

__all__ = [
    "MEASURES",
    "Difference",
    "Row",
    "corrected",
    "differences",
    "over_both",
    "over_subjects",
    "rows",
]

MEASURES = (
    "mse",
    "nmse",
    "psnr",
    "ssim",
    "psnr_inside",
    "ssim_inside",
    "hfen",
    "haarpsi",
    "kept",
    "invented",
)
"""In the order of tables; of images that are too small for them, some are missing."""


@dataclass(frozen=True)
class Row:
    """One variation.

    Attributes:
        variation: its name; ``zero-filled`` for what the networks begin with.
        labels: its columns.
        n_seeds: trained networks.
        n_images: on which each was measured.
        means: over all images and seeds, by measure, of those that its images have.
        spread: standard deviation of the means of the seeds; for a single network that of its images.
        n_parameters: of the network.
        seconds: of training, mean over the seeds; None where that is not known.
        epochs: of training, the same.
        memory: bytes of a training step, at most; None where that was not measured.
        median_ms: time of one image; None where it was not measured.
    """

    variation: str
    labels: dict[str, str]
    n_seeds: int
    n_images: int
    means: dict[str, float]
    spread: dict[str, float]
    n_parameters: int | None = None
    seconds: float | None = None
    epochs: float | None = None
    memory: int | None = None
    median_ms: float | None = None


@dataclass(frozen=True)
class Difference:
    """One measure of a variation beside the one that it is compared with.

    Attributes:
        variation: the one that should be better.
        against: the other.
        measure: which.
        first: mean of each seed of the one.
        second: mean of each seed of the other.
        images: share of the images on which the one is better, both averaged over their seeds.
        people: the same difference over the subjects of the images; None where these are not known.
        p: of all comparisons of a study by this measure, corrected by Holm's method; None of too few subjects.
        both: the difference over subjects and seeds; None of one seed, of too few subjects or unknown ones.
    """

    variation: str
    against: str
    measure: str
    first: tuple[float, ...]
    second: tuple[float, ...]
    images: float
    people: PairedDifference | None = None
    p: float | None = None
    both: SeedsInterval | None = None

    @property
    def mean(self) -> float:
        """Mean of the one less mean of the other."""
        return mean(self.first) - mean(self.second)

    @property
    def spread(self) -> float:
        """Standard deviation of this difference over seeds drawn anew, from the spread of both; 0 for one seed."""
        parts = [_spread(side) ** 2 / len(side) for side in (self.first, self.second)]
        return math.sqrt(sum(parts))

    @property
    def better(self) -> bool:
        """Whether the mean is better: higher, or for errors lower."""
        return self.mean < 0 if self.measure.startswith(("mse", "nmse")) else self.mean > 0

    @property
    def verdict(self) -> str:
        """Whether the mean is better, and what keeps that from meaning much."""
        said = "better" if self.better else "not better"
        if min(len(self.first), len(self.second)) < 2:
            return f"{said}, one seed"
        if self.both is not None and self.both.low <= 0 <= self.both.high:
            return f"{said}, within the interval"
        return f"{said}, within the spread" if abs(self.mean) <= self.spread else said


def rows(study: Study) -> list[Row]:
    """Zero-filled and the other candidates, and every variation of which a network was measured."""
    evaluation = study.evaluation
    others = ["zero-filled", *(one.name or one.label for one in study.config.candidates)]
    found = [
        _row(name, {}, [scores], median_ms=evaluation.milliseconds.get(name))
        for name in others
        if (scores := _scores(study, name))
    ]
    for variation in study.config.variations:
        names = [name for name in study.measured(variation.name) if _scores(study, name)]
        if not names:
            continue
        runs = [one.name for one in study.of(variation.name) if one.measured in names]
        records = [study.records[name] for name in runs if name in study.records]
        epochs = [one.epochs for one in records if one.epochs is not None]
        times = [evaluation.milliseconds[name] for name in names if name in evaluation.milliseconds]
        found.append(
            _row(
                variation.name,
                {key: str(value) for key, value in variation.labels.items()},
                [_scores(study, name) for name in names],
                n_parameters=evaluation.parameters[names[0]],
                seconds=mean(one.seconds for one in records) if records else None,
                epochs=mean(epochs) if epochs else None,
                memory=study.memory.get(study.of(variation.name)[0].name),
                median_ms=median(times) if times else None,
            )
        )
    return found


def differences(study: Study) -> list[Difference]:
    """All measures of all comparisons that were asked for and of which both sides were measured."""
    found = []
    for pair in study.config.comparisons:
        sides = [
            [scores for one in study.measured(name) if (scores := _scores(study, one))]
            for name in (pair.variation, pair.against)
        ]
        if not all(sides):
            continue
        for measure in ("psnr", "ssim", "nmse"):
            first, second = (tuple(_mean(scores, measure) for scores in side) for side in sides)
            images = [
                [
                    mean(values)
                    for values in zip(*([one.values[measure] for one in s] for s in side), strict=True)
                ]
                for side in sides
            ]
            sign = -1 if measure == "nmse" else 1
            won = [sign * a > sign * b for a, b in zip(*images, strict=True)]
            people, both = over_subjects(sides[0][0], images), over_both(sides, measure)
            share = sum(won) / len(won)
            found.append(
                Difference(pair.variation, pair.against, measure, first, second, share, people, both=both)
            )
    return corrected(found)


def over_subjects(scores: list[Score], images: list[list[float]]) -> PairedDifference | None:
    """The difference of two sides' images by their subjects."""
    by_subject: dict[str, list[float]] = defaultdict(list)
    for score, first, second in zip(scores, *images, strict=True):
        if score.subject is None:
            return None
        by_subject[score.subject].append(first - second)
    return paired_difference(by_subject)


def over_both(sides: list[list[list[Score]]], measure: str) -> SeedsInterval | None:
    """The difference of two sides over the subjects of their images and over their seeds.

    Args:
        sides: scores of every network of both, on the same images.
        measure: which.
    """
    if any(one.subject is None for one in sides[0][0]):
        return None
    return over_seeds_and_subjects(*(np.array([_by_subject(one, measure) for one in side]) for side in sides))


def _by_subject(scores: list[Score], measure: str) -> list[float]:
    """Mean of each subject, in the order in which they come first."""
    found: dict[str | None, list[float]] = {}
    for one in scores:
        found.setdefault(one.subject, []).append(one.values[measure])
    return [mean(values) for values in found.values()]


def corrected(found: list[Difference]) -> list[Difference]:
    """With the p values of all comparisons by one measure corrected together."""
    made = list(found)
    for measure in {one.measure for one in found}:
        tested = [
            (place, one.people.p)
            for place, one in enumerate(found)
            if one.measure == measure and one.people is not None and one.people.p is not None
        ]
        for (place, _), p in zip(tested, holm([p for _, p in tested]), strict=True):
            made[place] = replace(made[place], p=p)
    return made


def _row(
    name: str,
    labels: dict[str, str],
    networks: list[list[Score]],
    n_parameters: int | None = None,
    seconds: float | None = None,
    epochs: float | None = None,
    memory: int | None = None,
    median_ms: float | None = None,
) -> Row:
    means, spread = {}, {}
    for measure in MEASURES:
        if not all(any(measure in one.values for one in scores) for scores in networks):
            continue
        of_seeds = [_mean(scores, measure) for scores in networks]
        means[measure] = mean(of_seeds)
        images = [one.values[measure] for one in networks[0] if measure in one.values]
        spread[measure] = _spread(of_seeds if len(of_seeds) > 1 else images)
    return Row(
        name,
        labels,
        len(networks),
        len(networks[0]),
        means,
        spread,
        n_parameters,
        seconds,
        epochs,
        memory,
        median_ms,
    )


def _scores(study: Study, candidate: str) -> list[Score]:
    return [one for one in study.evaluation.scores if one.candidate == candidate]


def _mean(scores: list[Score], measure: str) -> float:
    return mean(one.values[measure] for one in scores if measure in one.values)


def _spread(values: tuple[float, ...] | list[float]) -> float:
    return stdev(values) if len(values) > 1 else 0.0
