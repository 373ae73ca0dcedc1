"""Every candidate against one of them, subject by subject, and whether it is worse by more than a margin.

What is not worse is shown by a lower bound, not by a test that finds no difference: Piaggio et al., *Reporting of
noninferiority and equivalence randomized trials*, JAMA 308:2594-2604 (2012).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from pydantic import Field

from scanside_training.data.settings import Settings
from scanside_training.evaluation.paired import (
    LEAST_SUBJECTS,
    PairedDifference,
    holm,
    lower_bound,
    paired_difference,
)
from scanside_training.evaluation.scores import ALL, Score, divisions, is_error, region_measures

__all__ = [
    "COMPARED",
    "Comparison",
    "NonInferiority",
    "NonInferiorityConfig",
    "comparisons",
    "non_inferiority",
    "unpaired",
]

COMPARED = ("psnr", "ssim", "nmse", "psnr_inside", "ssim_inside", "sharpness")
"""Measures whose differences are told, beside those of regions."""

_BY_STRATUM = ("psnr", "ssim")
"""The same within strata."""


class NonInferiorityConfig(Settings):
    """What is settled before anything is measured: which difference would not matter."""

    against: str
    """Name of the candidate that the others must not be worse than."""
    measure: Literal["psnr", "ssim", "nmse", "psnr_inside", "ssim_inside", "nmse_inside", "sharpness"] = (
        "psnr"
    )
    margin: float = Field(gt=0)
    """By how much they may be worse, in the measure's unit; a distance, and so above zero for every measure."""
    level: float = Field(default=0.975, ge=0.95, le=0.995)
    """Confidence of the one-sided bound; 0.975 is the lower end of a 95 % interval."""


@dataclass(frozen=True)
class Comparison:
    """One measure of a candidate less that of the reference.

    Attributes:
        candidate: whose.
        against: the reference.
        measure: which.
        stratum: what the images have in common, ``all`` for nothing.
        value: of the stratum.
        people: the difference over the subjects.
        share: of the images on which the candidate is better.
        p: corrected by Holm's method over all candidates, by this measure and in this stratum's value; None of too
            few subjects.
    """

    candidate: str
    against: str
    measure: str
    stratum: str
    value: str
    people: PairedDifference
    share: float
    p: float | None = None


@dataclass(frozen=True)
class NonInferiority:
    """Whether a candidate is worse than another by no more than a margin.

    Attributes:
        candidate: which.
        mean: difference over the subjects, positive where the candidate is better, whatever the measure.
        bound: what it lies above with the confidence that was settled; None of too few subjects.
        n_subjects: subjects.
        n_images: their images.
        shown: whether the bound lies above the margin; None of too few subjects.
    """

    candidate: str
    mean: float
    bound: float | None
    n_subjects: int
    n_images: int
    shown: bool | None

    @property
    def verdict(self) -> str:
        """In words."""
        if self.shown is None:
            return f"{self.n_subjects} subjects: no verdict"
        return "not inferior" if self.shown else "not shown"


def comparisons(scores: Sequence[Score], reference: str) -> list[Comparison]:
    """Measures of all candidates less those of the reference, over all images, and PSNR and SSIM by stratum.

    Only images that both made count. A measure that no image has is left out.

    Args:
        scores: of images, or of volumes.
        reference: name of the candidate that others are compared with.
    """
    found: list[Comparison] = []
    for stratum, value in [(ALL, ""), *divisions(scores)]:
        measures = [*COMPARED, *region_measures(scores)] if stratum == ALL else _BY_STRATUM
        chosen = [one for one in scores if stratum == ALL or one.strata.get(stratum) == value]
        for measure in measures:
            of_all = [
                Comparison(
                    name,
                    reference,
                    measure,
                    stratum,
                    value,
                    paired_difference(by_subject),
                    _share(by_subject, measure),
                )
                for name in _others(chosen, reference)
                if (by_subject := _differences(chosen, name, reference, measure))
            ]
            found += _corrected(of_all)
    return found


def non_inferiority(scores: Sequence[Score], config: NonInferiorityConfig) -> list[NonInferiority]:
    """The verdict on every candidate that shares images of known people with the one it must not be worse than."""
    found = []
    sign = -1.0 if is_error(config.measure) else 1.0
    for name in _others(scores, config.against):
        by_subject = _differences(scores, name, config.against, config.measure)
        if not by_subject:
            continue
        gains = {subject: [sign * value for value in values] for subject, values in by_subject.items()}
        people, bound = paired_difference(gains), lower_bound(gains, config.level)
        shown = None if bound is None else bound > -config.margin
        found.append(NonInferiority(name, people.mean, bound, people.n_subjects, people.n_images, shown))
    return found


def unpaired(scores: Sequence[Score], reference: str) -> list[str]:
    """What keeps candidates from being compared with the reference on all images, in words."""
    made: dict[str, set[str]] = {}
    for one in scores:
        made.setdefault(one.candidate, set()).add(one.case)
    if reference not in made:
        return [
            f"{reference}, with which the others should be compared, made no image: there are no differences"
        ]
    told = []
    for name, cases in made.items():
        shared = cases & made[reference]
        if name != reference and cases != made[reference]:
            what = (
                f"on the {len(shared)} that both made" if shared else "on none, as both made none of the same"
            )
            told.append(
                f"{name} made {len(cases)} images, and {reference} {len(made[reference])}: they are compared {what}"
            )
    if any(one.subject is None for one in scores):
        told.append("The data do not say whose some images are: these are in no difference over subjects")
    subjects = {one.subject for one in scores} - {None}
    if 0 < len(subjects) < LEAST_SUBJECTS:
        told.append(
            f"{len(subjects)} subject(s): no interval and no test, for which {LEAST_SUBJECTS} are needed"
        )
    return told


def _others(scores: Iterable[Score], reference: str) -> list[str]:
    return [name for name in dict.fromkeys(one.candidate for one in scores) if name != reference]


def _differences(scores: Iterable[Score], name: str, reference: str, measure: str) -> dict[str, list[float]]:
    """By subject, of the images that both made; equal images have an infinite PSNR and no difference."""
    values: dict[str, dict[str, Score]] = {name: {}, reference: {}}
    for one in scores:
        if one.candidate in values and one.subject is not None and measure in one.values:
            values[one.candidate][one.case] = one
    found: dict[str, list[float]] = {}
    for case, one in values[name].items():
        other = values[reference].get(case)
        if other is not None and one.subject is not None:
            difference = one.values[measure] - other.values[measure]
            if math.isfinite(difference):
                found.setdefault(one.subject, []).append(difference)
    return found


def _share(by_subject: dict[str, list[float]], measure: str) -> float:
    sign = -1.0 if is_error(measure) else 1.0
    won = [sign * value > 0 for values in by_subject.values() for value in values]
    return sum(won) / len(won)


def _corrected(found: list[Comparison]) -> list[Comparison]:
    tested = [(place, one.people.p) for place, one in enumerate(found) if one.people.p is not None]
    made = list(found)
    for (place, _), p in zip(tested, holm([p for _, p in tested]), strict=True):
        made[place] = replace(made[place], p=p)
    return made
