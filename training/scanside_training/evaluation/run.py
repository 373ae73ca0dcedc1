"""Compares reconstructions: makes images, measures them, times them, and writes what came out."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from itertools import count
from statistics import median
from time import perf_counter
from typing import Any

import torch

from scanside._version import __version__
from scanside.bench.result import machine
from scanside.errors import ConfigError, ScansideError
from scanside.many.work import reason
from scanside_training.evaluation.candidates import Candidate, Job
from scanside_training.evaluation.case import Case, Cases, spread
from scanside_training.evaluation.comparisons import (
    Comparison,
    NonInferiority,
    comparisons,
    non_inferiority,
    unpaired,
)
from scanside_training.evaluation.config import EvaluationConfig, SpeedConfig
from scanside_training.evaluation.curves import Point, conditions_of, points
from scanside_training.evaluation.failures import UNUSABLE, Failure
from scanside_training.evaluation.floor import verdicts, worst_cases
from scanside_training.evaluation.floor_report import floor_json
from scanside_training.evaluation.leaks import seen_by
from scanside_training.evaluation.perturbation import Perturbed, perturb
from scanside_training.evaluation.perturbation.run import n_units
from scanside_training.evaluation.pictures import Shown
from scanside_training.evaluation.provenance import provenance
from scanside_training.evaluation.scores import ALL, Score, Summary, score, subject_means, summaries
from scanside_training.evaluation.volumes import Volumes

logger = logging.getLogger(__name__)

__all__ = ["Evaluation", "Failure", "compare"]

Progress = Callable[[int, "int | None"], None]


@dataclass
class Evaluation:
    """What came out.

    Attributes:
        config: what was asked for.
        scores: of every image.
        failures: what could not be done, and why.
        parameters: trained numbers of each candidate that has any.
        milliseconds: median time of one image of each candidate that was timed.
        facts: by candidate, such as its backend.
        shown: cases with their images, for pictures.
        worst: the same of those that lie farthest below the floor.
        perturbation: what candidates made of perturbed scans; None where that was not asked for.
        worst_of: by candidate, its worst cases with its images, worst first.
        volumes: measures of volumes, where these were asked for.
        machine: what it was timed on.
    """

    config: EvaluationConfig
    scores: list[Score] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)
    parameters: dict[str, int] = field(default_factory=dict)
    milliseconds: dict[str, float] = field(default_factory=dict)
    facts: dict[str, dict[str, str]] = field(default_factory=dict)
    shown: list[Shown] = field(default_factory=list)
    worst: list[Shown] = field(default_factory=list)
    perturbation: Perturbed | None = None
    worst_of: dict[str, list[Shown]] = field(default_factory=dict)
    volumes: list[Score] = field(default_factory=list)
    machine: dict[str, Any] = field(default_factory=machine)

    @property
    def summaries(self) -> list[Summary]:
        """The rows of the table."""
        return summaries(self.scores)

    @property
    def candidates(self) -> list[str]:
        """Names of those that made an image, in the order of the configuration."""
        made = {one.candidate for one in self.scores}
        return [name for name in (one.name or one.label for one in self.config.candidates) if name in made]

    @property
    def learned(self) -> dict[str, int]:
        """Of candidates that were trained on some of these subjects or recordings, the number of such images."""
        found: dict[str, int] = {}
        for one in self.scores:
            if one.learned:
                found[one.candidate] = found.get(one.candidate, 0) + 1
        return found

    @property
    def leaks(self) -> list[str]:
        """The same in words."""
        made = {name: sum(one.candidate == name for one in self.scores) for name in self.learned}
        return [
            f"{name} was trained on subjects of {n} of these {made[name]} images: its figures tell what it "
            "remembers, and not how it does with others"
            for name, n in self.learned.items()
        ]

    @property
    def counted(self) -> list[Score]:
        """What differences are those of: volumes where they were measured, else single images."""
        return self.volumes if "volume" in self.config.by else self.scores

    @property
    def subjects(self) -> list[Summary]:
        """The rows of the table over subjects."""
        return [one for one in summaries(subject_means(self.counted)) if one.stratum == ALL]

    @property
    def rows(self) -> list[Summary]:
        """Of the first table that was asked for: over images, volumes or subjects."""
        if "slice" in self.config.by:
            return self.summaries
        return summaries(self.volumes) if "volume" in self.config.by else self.subjects

    # The following take seconds, and are asked for when nothing is added any more.

    @cached_property
    def comparisons(self) -> list[Comparison]:
        """All candidates against the reference, subject by subject."""
        reference = self.config.compared_with
        return [] if reference is None else comparisons(self.counted, reference)

    @cached_property
    def non_inferiority(self) -> list[NonInferiority]:
        """Who is not worse by more than the margin."""
        config = self.config.non_inferiority
        return [] if config is None else non_inferiority(self.counted, config)

    @cached_property
    def points(self) -> list[Point]:
        """Of the curves over numbers of the scan."""
        there = conditions_of(self.scores)
        asked = self.config.curves
        return points(self.scores, there if asked is None else [name for name in asked if name in there])

    @cached_property
    def provenance(self) -> dict[str, Any]:
        """What the figures hang on."""
        return provenance(self.config, self.scores, self.candidates)

    @property
    def remarks(self) -> list[str]:
        """What must be known beside the statistics, in words."""
        reference, asked = self.config.compared_with, self.config.curves
        told = [] if reference is None or not self.scores else unpaired(self.counted, reference)
        there = conditions_of(self.scores)
        return told + [
            f"No curve over {name}: images have no three values of it, but of {', '.join(there) or 'nothing'}"
            for name in asked or ()
            if name not in there
        ]

    def document(self) -> dict[str, Any]:
        """Everything but the pictures, as ``results.json`` has it."""
        document: dict[str, Any] = {
            "scanside": __version__,
            "notice": "Research use only",
            "config": self.config.model_dump(mode="json"),
            "machine": self.machine | {"torch_threads": torch.get_num_threads()},
            "candidates": {
                name: {
                    "n_parameters": self.parameters.get(name),
                    "median_ms": self.milliseconds.get(name),
                    "n_learned": self.learned.get(name, 0),
                    **self.facts.get(name, {}),
                }
                for name in self.candidates
            },
            "provenance": self.provenance,
            "summaries": [asdict(one) for one in self.summaries],
            "subjects": [asdict(one) for one in self.subjects],
            "volumes": [asdict(one) for one in summaries(self.volumes)],
            "comparisons": [asdict(one) for one in self.comparisons],
            "non_inferiority": [asdict(one) for one in self.non_inferiority],
            "curves": [asdict(one) for one in self.points],
            "remarks": self.remarks,
            "images": [asdict(one) for one in self.scores],
            "failures": [asdict(one) for one in self.failures],
        }
        if self.config.floor is not None:
            document["floor"] = floor_json(self.scores, self.config.floor)
        if self.perturbation is not None:
            document["perturbation"] = self.perturbation.as_json()
        return document

    def as_json(self) -> str:
        """The same as text."""
        return json.dumps(self.document(), indent=2, ensure_ascii=False) + "\n"


def compare(
    config: EvaluationConfig,
    *,
    on_progress: Progress = lambda done, total: None,  # noqa: ARG005
) -> Evaluation:
    """Reconstruct all cases with all candidates.

    A candidate that fails is listed with the reason and does not stop the others.

    Args:
        config: what is compared, on which data.
        on_progress: told how many images are made, and how many there are to make.

    Raises:
        ConfigError: no candidate was given, or the data are not there.
        ScansideError: the data cannot be read.
    """
    check_candidates(config)
    result = Evaluation(config)
    cases = config.data.open()
    candidates = opened(config, result)
    chosen_as = {one.name or one.label: one for one in config.candidates}
    n_perturbed = 0
    if config.perturbation is not None:
        n_perturbed = n_units(config.perturbation, len(cases), len(candidates))
    total = n_perturbed + len(cases) * len(candidates)
    chosen = spread(len(cases), config.pictures)
    refused: dict[str, list[tuple[str, str]]] = {}
    first: Case | None = None
    numbers: dict[str, int] = {}
    volumes = Volumes(config.measuring)
    on_progress(0, total)
    add_perturbation(result, cases, candidates, on_unit=_counting(on_progress, total))
    for number, case in enumerate(cases):
        first = first or case
        numbers[case.name] = number
        images: dict[str, torch.Tensor] = {}
        for place, (name, candidate) in enumerate(candidates.items()):
            try:
                image = candidate.job(case)()
                seen = seen_by(chosen_as[name])
                result.scores.append(score(name, case, image, seen, candidate.told, config.measuring))
                images[name] = image.detach().cpu()
            except UNUSABLE as error:
                logger.debug("%s, %s", name, case.name, exc_info=True)
                refused.setdefault(name, []).append((case.name, reason(error)))
            on_progress(n_perturbed + number * len(candidates) + place + 1, total)
        if number in chosen:
            result.shown.append(Shown(case, images))
        if "volume" in config.by:
            volumes.add(case, images)
    for name, which in refused.items():
        result.failures.append(Failure(name, tuple(case for case, _ in which), which[0][1]))
    measure_volumes(result, volumes)
    made = {}
    for name, wanted in to_show(result).items():
        case = cases[numbers[name]]
        made[name] = Shown(case, {one: candidates[one].job(case)().detach().cpu() for one in wanted})
    show_worst(result, made)
    result.facts = {name: dict(candidate.facts) for name, candidate in candidates.items()}
    if config.speed is not None and first is not None:
        time_candidates(result, candidates, first, config.speed)
    return result


def add_perturbation(
    result: Evaluation,
    cases: Cases,
    candidates: dict[str, Candidate],
    *,
    on_unit: Callable[[], None] = lambda: None,
) -> None:
    """Perturb scans where that was asked for.

    Raises:
        ConfigError: the data, or a structure, are not such as can be perturbed.
    """
    if result.config.perturbation is not None:
        result.perturbation = perturb(result.config.perturbation, cases, candidates, on_unit=on_unit)
        result.failures += result.perturbation.failures


def _counting(on_progress: Progress, total: int) -> Callable[[], None]:
    done = count(1)
    return lambda: on_progress(next(done), total)


def measure_volumes(result: Evaluation, volumes: Volumes) -> None:
    """Add the measures of what was collected; those of slices alone, such as sharpness, are means over the slices."""
    cases = volumes.cases()
    slices = {(one.candidate, one.case): one for one in result.scores}
    for volume in volumes.scores():
        own = [slices[volume.candidate, case] for case in cases[volume.case]]
        (means,) = subject_means(replace(one, strata={"subject": volume.case}) for one in own)
        values = {**means.values, **volume.values}
        result.volumes.append(replace(volume, values=values, learned=means.learned))
    result.failures += [
        Failure(
            name, tuple(which), "not all slices of these volumes were made: they are in no table of volumes"
        )
        for name, which in volumes.incomplete().items()
    ]


def to_show(result: Evaluation) -> dict[str, list[str]]:
    """Cases that are shown because an image of them is among the worst, and the candidates whose images are shown."""
    wanted: dict[str, list[str]] = {case: list(names) for case, names in _below_the_floor(result).items()}
    for name, cases in _worst_of_each(result).items():
        for case in cases:
            names = wanted.setdefault(case, [])
            names += [] if name in names else [name]
    return wanted


def show_worst(result: Evaluation, made: Mapping[str, Shown]) -> None:
    """Put images, made by `to_show`, where they are shown."""
    below = _below_the_floor(result)
    result.worst = [_picked(made[case], names) for case, names in below.items()]
    result.worst_of = {
        name: [_picked(made[case], [name]) for case in cases]
        for name, cases in _worst_of_each(result).items()
    }


def _picked(shown: Shown, names: Sequence[str]) -> Shown:
    return Shown(shown.case, {name: shown.images[name] for name in names if name in shown.images})


def _worst_of_each(result: Evaluation) -> dict[str, list[str]]:
    """By candidate, its cases of lowest PSNR over the whole image, worst first."""
    n = result.config.worst
    found: dict[str, list[str]] = {}
    for name in result.candidates if n else ():
        own = [one for one in result.scores if one.candidate == name]
        found[name] = [one.case for one in sorted(own, key=lambda one: one.values["psnr"])[:n]]
    return found


def _below_the_floor(result: Evaluation) -> dict[str, list[str]]:
    """The cases that lie farthest below the floor, worst first, and the candidates whose images are shown."""
    floor = result.config.floor
    if floor is None:
        return {}
    made = {(one.case, one.candidate) for one in result.scores}
    worst = worst_cases(verdicts(result.scores, floor), floor)
    return {case: [name for name in names if (case, name) in made] for case, names in worst.items()}


def time_candidates(
    result: Evaluation, candidates: dict[str, Candidate], case: Case, config: SpeedConfig
) -> None:
    """Time those that made an image, on one case."""
    working = {name: candidates[name] for name in result.candidates if candidates[name].timed}
    result.milliseconds = _timed(working, case, config)


def check_candidates(config: EvaluationConfig) -> None:
    """Refuse to compare nothing.

    Raises:
        ConfigError: no candidate was given.
    """
    if not config.candidates:
        raise ConfigError(
            f"evaluation '{config.name}' has no candidates: name some in the file or with --candidate"
        )


def opened(config: EvaluationConfig, result: Evaluation) -> dict[str, Candidate]:
    """The candidates that can be opened, by name; the others are among the result's failures."""
    found: dict[str, Candidate] = {}
    for one in config.candidates:
        name = one.name or one.label
        try:
            candidate: Candidate = one.open()
        except UNUSABLE as error:
            result.failures.append(Failure(name, (), reason(error)))
            continue
        found[name] = candidate
        if candidate.n_parameters is not None:
            result.parameters[name] = candidate.n_parameters
    return found


def _timed(candidates: dict[str, Candidate], case: Case, config: SpeedConfig) -> dict[str, float]:
    """Median time of an image of a case in ms, of a film its time over its frames; candidates take turns."""
    jobs: dict[str, Job] = {}
    for name, candidate in candidates.items():
        try:
            jobs[name] = candidate.job(case)
        except ScansideError:
            logger.debug("%s is not timed", name, exc_info=True)
    times: dict[str, list[float]] = {name: [] for name in jobs}
    for turn in range(config.repeats + 1):
        for name, job in jobs.items():
            begun = perf_counter()
            job()
            if turn:  # the first one finds code and memory cold
                times[name].append(1e3 * (perf_counter() - begun) / case.n_images)
    return {name: median(values) for name, values in times.items()}
