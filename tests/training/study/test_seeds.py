"""Differences over subjects and seeds: a closed form, and intervals that hold what they promise."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from scanside_training.study.seeds import over_seeds_and_subjects


def drawn(
    rng: np.random.Generator, n_seeds: int, base: np.ndarray, mean: float, spread: tuple[float, float, float]
) -> np.ndarray:
    """Means of subjects by seed: what seeds, subjects and both together bring."""
    n_subjects = len(base)
    seeds, subjects, both = spread
    return (
        mean
        + base
        + subjects * rng.normal(size=n_subjects)
        + seeds * rng.normal(size=(n_seeds, 1))
        + both * rng.normal(size=(n_seeds, n_subjects))
    )


def test_without_spread_of_seeds_it_is_the_paired_t_interval() -> None:
    rng = np.random.default_rng(0)
    one, other = rng.normal(1, 1, 10), rng.normal(0, 1, 10)
    found = over_seeds_and_subjects(np.stack([one, one]), np.stack([other, other]))
    expected = stats.ttest_rel(one, other)
    assert found is not None
    interval = expected.confidence_interval()
    assert (found.low, found.high, found.p) == pytest.approx((interval.low, interval.high, expected.pvalue))


def test_seeds_that_differ_widen_it() -> None:
    rng = np.random.default_rng(1)
    base = rng.normal(size=12)
    same = drawn(rng, 3, base, 0.5, (0, 0.1, 0.05))
    other = drawn(rng, 3, base, 0, (0, 0.1, 0.05))
    narrow = over_seeds_and_subjects(same, other)
    wide = over_seeds_and_subjects(same + np.array([[-0.5], [0], [0.5]]), other)
    assert narrow is not None
    assert wide is not None
    assert narrow.mean == pytest.approx(wide.mean)
    assert wide.high - wide.low > 3 * (narrow.high - narrow.low)
    assert wide.freedom < narrow.freedom


def test_one_seed_or_few_subjects_say_nothing() -> None:
    two = np.random.default_rng(2).normal(size=(2, 8))
    assert over_seeds_and_subjects(two[:1], two) is None
    assert over_seeds_and_subjects(two[:, :5], two[:, :5]) is None


def test_no_difference_at_all() -> None:
    same = np.ones((2, 6))
    found = over_seeds_and_subjects(same, same)
    assert found is not None
    assert (found.mean, found.low, found.high, found.p) == (0, 0, 0, 1)


@pytest.mark.slow
@pytest.mark.parametrize("n_seeds", [2, 3, 5])
@pytest.mark.parametrize("spread", [(0.1, 0.2, 0.1), (0.3, 0.1, 0.1), (0.0, 0.2, 0.1)])
def test_intervals_hold_what_they_promise(n_seeds: int, spread: tuple[float, float, float]) -> None:
    """Of 95 % intervals of 12 subjects, 93 to 97 % hold the truth."""
    rng = np.random.default_rng(7)
    hits, n = 0, 3000
    for _ in range(n):
        base = rng.normal(size=12)
        found = over_seeds_and_subjects(
            drawn(rng, n_seeds, base, 0.3, spread), drawn(rng, n_seeds, base, 0.0, spread)
        )
        assert found is not None
        hits += found.low <= 0.3 <= found.high
    assert 0.93 <= hits / n <= 0.97
