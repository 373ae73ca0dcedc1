"""Whether one variation is better than another for other subjects and other seeds than those that were drawn.

All networks are measured on the same subjects: subjects and seeds are crossed, and both are samples. The variance of
a difference of means is that of the subjects' differences over their number, and for each side that of its seeds'
means over their number, less the interaction of both, which the subjects' differences hold already. Ends of the
interval are those of a t distribution whose degrees of freedom follow from these parts: Satterthwaite, *An
approximate distribution of estimates of variance components*, Biometrics Bulletin 2:110-114 (1946).

A bootstrap over both (Owen, *The pigeonhole bootstrap*, Ann Appl Stat 1:386-411, 2007) was tried beside it. Of two to
five seeds it sees only a part of their variance, as two values that are drawn anew are the same one half of the time:
of its 95 % intervals 69 to 94 % hold the truth in simulated studies of 12 subjects, of these 94 to 96 %.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import stats

from scanside_training.evaluation.paired import LEAST_SUBJECTS

__all__ = ["SeedsInterval", "over_seeds_and_subjects"]

Values = npt.NDArray[np.float64]
"""``(seed, subject)``."""


@dataclass(frozen=True)
class SeedsInterval:
    """Difference of two variations for subjects and seeds that were not drawn.

    Attributes:
        mean: over both.
        low: lower end of the 95 % interval.
        high: its upper end.
        p: of the difference being zero, two-sided.
        freedom: degrees of freedom.
    """

    mean: float
    low: float
    high: float
    p: float
    freedom: float


def over_seeds_and_subjects(first: Values, second: Values) -> SeedsInterval | None:
    """Interval of the difference of means.

    Args:
        first: mean of each subject by each network of the one variation, ``(seed, subject)``.
        second: of the other, of the same subjects.

    Returns:
        None where one side has one seed only, or there are fewer than six subjects.
    """
    n_subjects = first.shape[1]
    if min(len(first), len(second)) < 2 or n_subjects < LEAST_SUBJECTS:
        return None
    differences = first.mean(0) - second.mean(0)
    mean = float(differences.mean())
    parts = [(float(differences.var(ddof=1)) / n_subjects, n_subjects - 1)]
    parts += [(_of_seeds(side), len(side) - 1) for side in (first, second)]
    variance = sum(part for part, _ in parts)
    if not variance:
        return SeedsInterval(mean, mean, mean, 1.0 if mean == 0 else 0.0, math.inf)
    freedom = variance**2 / sum(part**2 / degrees for part, degrees in parts)
    error = math.sqrt(variance)
    reach = float(stats.t.ppf(0.975, freedom)) * error
    p = float(2 * stats.t.sf(abs(mean) / error, freedom))
    return SeedsInterval(mean, mean - reach, mean + reach, p, freedom)


def _of_seeds(side: Values) -> float:
    """Variance of a side's mean that its seeds bring, beyond the interaction with the subjects."""
    n_seeds, n_subjects = len(side), int(side.shape[1])
    seeds = side.mean(1)
    left = side - seeds[:, None] - side.mean(0) + side.mean()
    interaction = float((left**2).sum()) / ((n_seeds - 1) * (n_subjects - 1)) / n_subjects
    return max(float(seeds.var(ddof=1)) - interaction, 0.0) / n_seeds
