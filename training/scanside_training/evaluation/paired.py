"""Whether one method is better than another on people who were not measured.

Images of one subject are alike, so that subjects are counted, not images: the differences of a subject's images are
averaged first.

Efron, *Better bootstrap confidence intervals*, J Am Stat Assoc 82:171-185 (1987); Wilcoxon, *Individual comparisons
by ranking methods*, Biometrics Bulletin 1:80-83 (1945); Kerby, *The simple difference formula*, Compr Psychol
3:11.IT.3.1 (2014); Holm, *A simple sequentially rejective multiple test procedure*, Scand J Stat 6:65-70 (1979).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import stats

__all__ = ["LEAST_SUBJECTS", "PairedDifference", "holm", "lower_bound", "paired_difference"]

LEAST_SUBJECTS = 6
"""Of fewer subjects no interval is given: with five even a difference that all of them share has p = 0.06."""

_RESAMPLES = 4999


@dataclass(frozen=True)
class PairedDifference:
    """Mean difference of two methods over subjects.

    Attributes:
        mean: over the subjects.
        low: lower end of the 95 % interval (bootstrap over subjects, BCa); None of too few subjects.
        high: its upper end.
        p: of Wilcoxon's signed-rank test over the subjects, two-sided; None of too few subjects.
        effect: matched-pairs rank-biserial correlation, -1 to 1: share of the ranks in favour less share against.
        n_subjects: subjects.
        n_images: their images.
    """

    mean: float
    low: float | None
    high: float | None
    p: float | None
    effect: float
    n_subjects: int
    n_images: int


def paired_difference(differences: Mapping[str, Sequence[float]]) -> PairedDifference:
    """Mean, interval and test of differences.

    Args:
        differences: of every image, by subject; none is empty.

    Raises:
        ValueError: there is no subject.
    """
    if not differences:
        raise ValueError("there is no subject whose images could be compared")
    means = _means(differences)
    n_images = sum(map(len, differences.values()))
    low = high = p = None
    if len(means) >= LEAST_SUBJECTS:
        low, high = _interval(means)
        p = float(stats.wilcoxon(means).pvalue) if means.any() else 1.0
    return PairedDifference(float(means.mean()), low, high, p, _effect(means), len(means), n_images)


def lower_bound(differences: Mapping[str, Sequence[float]], level: float) -> float | None:
    """What the mean difference over subjects lies above, with some confidence: the end of a one-sided BCa interval.

    Args:
        differences: of every image, by subject; none is empty.
        level: of confidence, such as 0.975.

    Returns:
        None of too few subjects.
    """
    means = _means(differences)
    return _interval(means, 2 * level - 1)[0] if len(means) >= LEAST_SUBJECTS else None


def holm(ps: Sequence[float]) -> list[float]:
    """P values of several comparisons, corrected so that all conclusions hold at once."""
    order = np.argsort(ps)
    corrected, largest = [1.0] * len(ps), 0.0
    for place, index in enumerate(order):
        largest = max(largest, min(1.0, (len(ps) - place) * ps[index]))
        corrected[index] = largest
    return corrected


def _means(differences: Mapping[str, Sequence[float]]) -> npt.NDArray[np.float64]:
    return np.array([np.mean(values) for values in differences.values()])


def _interval(means: npt.NDArray[np.float64], level: float = 0.95) -> tuple[float, float]:
    """Both ends of a two-sided interval, each of which leaves out half of what is left out."""
    if np.ptp(means) == 0:
        return float(means[0]), float(means[0])
    found = stats.bootstrap(
        (means,),
        np.mean,
        n_resamples=_RESAMPLES,
        confidence_level=level,
        method="BCa",
        rng=np.random.default_rng(0),
    ).confidence_interval
    return float(found.low), float(found.high)


def _effect(means: npt.NDArray[np.float64]) -> float:
    kept = means[means != 0]
    if not len(kept):
        return 0.0
    ranks = stats.rankdata(np.abs(kept))
    return float((ranks * np.sign(kept)).sum() / ranks.sum())
