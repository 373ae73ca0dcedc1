"""How far readers agree with each other, and with themselves.

Shrout & Fleiss, *Intraclass correlations: uses in assessing rater reliability*, Psychol Bull 86:420-428 (1979);
Fleiss, *Measuring nominal scale agreement among many raters*, Psychol Bull 76:378-382 (1971); Cohen, *Weighted
kappa: nominal scale agreement provision for scaled disagreement or partial credit*, Psychol Bull 70:213-220 (1968).
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import stats

__all__ = ["Estimate", "Icc", "fleiss_kappa", "intraclass", "over_targets", "weighted_kappa"]

Ratings = npt.NDArray[np.float64]
"""``(target, reader)``."""

_RESAMPLES = 1999
_TAIL = 0.975
_TINY = 1e-12


@dataclass(frozen=True)
class Estimate:
    """A figure with its 95 % interval; None where it cannot be told."""

    value: float | None
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Icc:
    """Intraclass correlations of n targets that k readers rated, in the names of Shrout & Fleiss.

    Attributes:
        single: ICC(2,1), absolute agreement of single readers who stand for others.
        mean: ICC(2,k), the same of the mean of all of them.
        single_consistency: ICC(3,1), consistency of just these readers, whose levels may differ.
        mean_consistency: ICC(3,k), the same of their mean.
        n_targets: n.
        n_readers: k.
    """

    single: Estimate
    mean: Estimate
    single_consistency: Estimate
    mean_consistency: Estimate
    n_targets: int
    n_readers: int


def intraclass(ratings: Ratings) -> Icc:
    """Agreement on a scale, by analysis of variance, with intervals from the F distribution.

    Args:
        ratings: ``(target, reader)``, none missing.

    Raises:
        ValueError: there are fewer than two targets or two readers.
    """
    n, k = ratings.shape
    if n < 2 or k < 2:
        raise ValueError(f"agreement needs two readers and two targets, and there are {k} and {n}")
    targets, readers, error = _mean_squares(ratings)
    scale = max(targets, readers, error)
    if scale < _TINY:
        none = Estimate(None)
        return Icc(none, none, none, none, n, k)
    if (
        error < _TINY * scale
    ):  # up to the readers' levels they agree wholly: the F distribution says nothing then
        single, mean = (targets / (targets + k * readers / n), targets / (targets + readers / n))
        whole = Estimate(1.0 if targets > _TINY * scale else None)
        return Icc(Estimate(single), Estimate(mean), whole, whole, n, k)
    single = _absolute(targets, readers, error, n, k)
    consistent = _consistency(targets / error, n, k)
    mean = Estimate((targets - error) / (targets + (readers - error) / n), *_of_mean(single, k))
    mean_consistent = (
        Estimate((targets - error) / targets, *_of_mean(consistent, k)) if targets else Estimate(None)
    )
    return Icc(single, mean, consistent, mean_consistent, n, k)


def _mean_squares(ratings: Ratings) -> tuple[float, float, float]:
    """Between targets, between readers, and of the rest."""
    n, k = ratings.shape
    grand = ratings.mean()
    rows, columns = ratings.mean(1) - grand, ratings.mean(0) - grand
    rest = ratings - grand - rows[:, None] - columns
    return (
        float(k * (rows**2).sum() / (n - 1)),
        float(n * (columns**2).sum() / (k - 1)),
        float((rest**2).sum() / ((n - 1) * (k - 1))),
    )


def _absolute(targets: float, readers: float, error: float, n: int, k: int) -> Estimate:
    value = (targets - error) / (targets + (k - 1) * error + k * (readers - error) / n)
    ratio = readers / error
    spread = n * (1 + (k - 1) * value) - k * value
    freedom = (
        (k - 1)
        * (n - 1)
        * (k * value * ratio + spread) ** 2
        / ((n - 1) * (k * value * ratio) ** 2 + spread**2)
    )
    upper, lower = stats.f.ppf(_TAIL, n - 1, freedom), stats.f.ppf(_TAIL, freedom, n - 1)
    rest = k * readers + (k * n - k - n) * error
    low = n * (targets - upper * error) / (upper * rest + n * targets)
    high = n * (lower * targets - error) / (rest + n * lower * targets)
    return Estimate(value, float(low), float(high))


def _consistency(ratio: float, n: int, k: int) -> Estimate:
    freedom = (n - 1) * (k - 1)
    low, high = ratio / stats.f.ppf(_TAIL, n - 1, freedom), ratio * stats.f.ppf(_TAIL, freedom, n - 1)
    return Estimate(*(float((one - 1) / (one + k - 1)) for one in (ratio, low, high)))


def _of_mean(single: Estimate, k: int) -> tuple[float, ...]:
    """Ends of the interval of a mean of k, by the formula of Spearman and Brown."""
    assert single.low is not None
    assert single.high is not None
    return tuple(k * one / (1 + (k - 1) * one) for one in (single.low, single.high))


def fleiss_kappa(counts: npt.NDArray[np.int64]) -> float | None:
    """Agreement of several readers on classes, beyond chance; None where all chose one class throughout.

    Args:
        counts: ``(target, class)``, how many readers chose each; of every target equally many.

    Raises:
        ValueError: there is no target, a target has fewer than two readers, or targets have differently many.
    """
    n_readers = counts.sum(1)
    if not len(counts) or n_readers.min() < 2 or np.ptp(n_readers):
        raise ValueError("every target needs the same number of readers, two or more")
    k = int(n_readers[0])
    agreed = float(((counts**2).sum(1) - k).mean() / (k * (k - 1)))
    chance = float(((counts.sum(0) / counts.sum()) ** 2).sum())
    return (agreed - chance) / (1 - chance) if chance < 1 - _TINY else None


def weighted_kappa(first: Sequence[int], second: Sequence[int], *, ordered: bool) -> float | None:
    """Agreement of two readings on classes, beyond chance; None where chance allows no disagreement.

    Args:
        first: number of the class of each target.
        second: the same of the other reading.
        ordered: disagreements count by the square of their distance; else all alike.

    Raises:
        ValueError: there is no target, or the readings are of differently many.
    """
    a, b = np.asarray(first), np.asarray(second)
    if not len(a) or len(a) != len(b):
        raise ValueError(
            f"two readings of the same targets are compared, and these are of {len(a)} and {len(b)}"
        )
    distance = a[:, None] - b[None, :]
    weights = distance**2 if ordered else distance != 0
    expected = float(weights.mean())
    return 1 - float(np.diagonal(weights).mean()) / expected if expected > _TINY else None


def over_targets(
    measure: Callable[[Sequence[int]], float | None], groups: Sequence[Hashable], *, seed: int = 0
) -> Estimate:
    """A measure of targets with its interval, by the bootstrap over what they belong to (percentiles).

    Args:
        measure: takes numbers of targets, some perhaps twice.
        groups: of each target, such as its subject; targets of one group are drawn together.
        seed: of what is drawn.
    """
    value = measure(range(len(groups)))
    members: dict[Hashable, list[int]] = {}
    for number, group in enumerate(groups):
        members.setdefault(group, []).append(number)
    if value is None or len(members) < 2:
        return Estimate(value)
    pools = list(members.values())
    lots = np.random.default_rng(seed)
    drawn = []
    for _ in range(_RESAMPLES):
        chosen = lots.integers(len(pools), size=len(pools))
        one = measure([number for pool in chosen for number in pools[pool]])
        if one is not None:
            drawn.append(one)
    low, high = np.percentile(drawn, [2.5, 97.5]) if drawn else (None, None)
    return Estimate(value, None if low is None else float(low), None if high is None else float(high))
