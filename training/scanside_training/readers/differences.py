"""Differences between methods over readers and subjects, both of whom stand for others.

The mean difference of R readers and S subjects has the variance ``(MS_R + MS_S − MS_E) / (R S)`` in a model with both
at random, with the degrees of freedom of Satterthwaite, *An approximate distribution of estimates of variance
components*, Biometrics Bulletin 2:110-114 (1946). Beside it stands the bootstrap over readers and subjects, which is
too narrow for few readers. Non-inferiority: Walker & Nowacki, *Understanding equivalence and noninferiority testing*,
J Gen Intern Med 26:192-196 (2011).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import stats

__all__ = ["LEVEL", "MeanDifference", "mean_difference", "resampled", "standard_error"]

LEVEL = 0.025
"""One-sided level of tests of non-inferiority, that of a two-sided 95 % interval."""

Differences = npt.NDArray[np.float64]
"""``(..., reader, subject)``; of one reader the subjects alone are at random."""

_RESAMPLES = 4999


@dataclass(frozen=True)
class MeanDifference:
    """A mean over readers and subjects.

    Attributes:
        mean: of all.
        low: lower end of the 95 % interval; None of fewer than two subjects.
        high: its upper end.
        boot_low: lower end of the bootstrap's interval.
        boot_high: its upper end.
        error: standard error.
        freedom: its degrees of freedom.
        n_readers: readers.
        n_subjects: subjects.
    """

    mean: float
    low: float | None
    high: float | None
    boot_low: float | None
    boot_high: float | None
    error: float | None
    freedom: float | None
    n_readers: int
    n_subjects: int

    def worse_by_less(self, margin: float) -> float | None:
        """P value, one-sided, against a mean of ``−margin`` or lower; None where there is no interval."""
        if self.error is None or self.freedom is None:
            return None
        distance = self.mean + margin
        if self.error == 0:
            return 0.0 if distance > 0 else 1.0
        return float(stats.t.sf(distance / self.error, self.freedom))


def mean_difference(differences: Differences) -> MeanDifference:
    """Mean and intervals.

    Args:
        differences: ``(reader, subject)``, none missing.

    Raises:
        ValueError: there is no difference.
    """
    if not differences.size:
        raise ValueError("there is no subject that all readers have read with both methods")
    n_readers, n_subjects = differences.shape
    mean = float(differences.mean())
    if n_subjects < 2:
        return MeanDifference(mean, None, None, None, None, None, None, n_readers, n_subjects)
    errors, freedoms = standard_error(differences[None])
    error, freedom = float(errors[0]), float(freedoms[0])
    half = float(stats.t.ppf(1 - LEVEL, freedom)) * error
    drawn = resampled(differences)
    low, high = (float(one) for one in np.percentile(drawn, [100 * LEVEL, 100 * (1 - LEVEL)]))
    return MeanDifference(mean, mean - half, mean + half, low, high, error, freedom, n_readers, n_subjects)


def standard_error(differences: Differences) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Standard errors of means over readers and subjects, and their degrees of freedom.

    Args:
        differences: ``(study, reader, subject)``, two subjects or more.
    """
    _, r, s = differences.shape
    grand = differences.mean((1, 2))
    if r == 1:
        return differences[:, 0].std(1, ddof=1) / np.sqrt(s), np.full(len(grand), s - 1.0)
    readers = differences.mean(2) - grand[:, None]
    subjects = differences.mean(1) - grand[:, None]
    rest = differences - grand[:, None, None] - readers[:, :, None] - subjects[:, None, :]
    of_readers = s * (readers**2).sum(1) / (r - 1)
    of_subjects = r * (subjects**2).sum(1) / (s - 1)
    of_rest = (rest**2).sum((1, 2)) / ((r - 1) * (s - 1))
    # Where less is left than one source alone tells, by chance, that one is believed.
    total = np.maximum(of_readers + of_subjects - of_rest, np.maximum(of_readers, of_subjects))
    squares = of_readers**2 / (r - 1) + of_subjects**2 / (s - 1) + of_rest**2 / ((r - 1) * (s - 1))
    freedom = np.divide(total**2, squares, out=np.full(len(grand), float(s - 1)), where=squares > 0)
    return np.sqrt(total / (r * s)), np.maximum(freedom, min(r, s) - 1.0)


def resampled(differences: Differences) -> npt.NDArray[np.float64]:
    """Means of readers drawn anew, each with the same subjects drawn anew.

    Args:
        differences: ``(reader, subject)``.
    """
    lots = np.random.default_rng(0)
    r, s = differences.shape
    readers, subjects = (lots.multinomial(n, [1 / n] * n, size=_RESAMPLES) for n in (r, s))
    means: npt.NDArray[np.float64] = np.einsum(
        "br,rs,bs->b", readers, differences, subjects, optimize=True
    ) / (r * s)
    return means
