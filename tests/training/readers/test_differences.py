"""Intervals that cover, and tests that err as often as they say."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from scanside_training.readers.differences import mean_difference, resampled, standard_error


def played(
    lots: np.random.Generator, n: int, readers: int, subjects: int, sds: tuple[float, float, float]
) -> np.ndarray:
    of_readers, of_subjects, rest = sds
    return (
        of_readers * lots.standard_normal((n, readers, 1))
        + of_subjects * lots.standard_normal((n, 1, subjects))
        + rest * lots.standard_normal((n, readers, subjects))
    )


@pytest.mark.parametrize("sds", [(0.3, 0.3, 0.6), (0.3, 0.0, 0.6), (0.0, 0.4, 0.6), (0.4, 0.4, 0.4)])
@pytest.mark.parametrize(("readers", "subjects"), [(2, 12), (3, 20), (6, 12)])
def test_interval_covers_the_truth(sds: tuple[float, float, float], readers: int, subjects: int) -> None:
    drawn = played(np.random.default_rng(1), 4000, readers, subjects, sds)
    error, freedom = standard_error(drawn)
    covered = (np.abs(drawn.mean((1, 2))) <= stats.t.ppf(0.975, freedom) * error).mean()
    assert 0.91 < covered < 0.995
    # Taking all readings as independent, as a plain t test does, is what this guards against.
    naive = drawn.reshape(4000, -1).std(1, ddof=1) / (readers * subjects) ** 0.5
    if min(sds) > 0:
        assert (np.abs(drawn.mean((1, 2))) <= 2 * naive).mean() < 0.9


def test_one_reader_is_a_paired_t_test() -> None:
    drawn = np.random.default_rng(2).standard_normal((1, 15)) + 0.3
    found = mean_difference(drawn)
    expected = stats.ttest_1samp(drawn[0], 0).confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high))
    worse = stats.ttest_1samp(drawn[0], -0.5, alternative="greater")
    assert found.worse_by_less(0.5) == pytest.approx(worse.pvalue)


def test_variance_by_hand() -> None:
    """Two readers and three subjects: mean squares worked out on paper."""
    differences = np.array([[1.0, 2, 3], [3, 4, 8]])
    # means: readers 2 and 5, subjects 2, 3, 5.5, all 3.5; MS_R = 13.5, MS_S = 6.5, MS_E = 1.5
    error, freedom = standard_error(differences[None])
    assert error[0] == pytest.approx(((13.5 + 6.5 - 1.5) / 6) ** 0.5)
    assert freedom[0] == pytest.approx(18.5**2 / (13.5**2 + 6.5**2 / 2 + 1.5**2 / 2))


def test_bootstrap_draws_readers_and_subjects() -> None:
    lots = np.random.default_rng(4)
    differences = played(lots, 1, 8, 30, (0.5, 0.3, 0.5))[0]
    drawn = resampled(differences)
    assert drawn.mean() == pytest.approx(differences.mean(), abs=0.02)
    columns_only = differences.mean(0).std() / 30**0.5
    assert drawn.std() > 1.5 * columns_only
    expected = [
        differences[lots.integers(8, size=8)][:, lots.integers(30, size=30)].mean() for _ in range(3000)
    ]
    assert drawn.std() == pytest.approx(np.std(expected), rel=0.05)


def test_differences_without_spread_or_interval() -> None:
    same = mean_difference(np.full((2, 5), 1.0))
    assert (same.mean, same.low, same.high, same.boot_low) == pytest.approx((1, 1, 1, 1))
    assert same.worse_by_less(0.5) == 0.0
    assert mean_difference(np.full((2, 5), -1.0)).worse_by_less(0.5) == 1.0
    alone = mean_difference(np.ones((2, 1)))
    assert alone.low is None
    assert alone.worse_by_less(0.5) is None
    with pytest.raises(ValueError, match="no subject that all readers have read"):
        mean_difference(np.zeros((2, 0)))
