"""Paired differences over subjects: closed forms, and intervals that hold what they promise."""

from __future__ import annotations

import numpy as np
import pytest

from scanside_training.evaluation.paired import LEAST_SUBJECTS, holm, lower_bound, paired_difference


def by_subject(values: np.ndarray[tuple[int], np.dtype[np.float64]]) -> dict[str, list[float]]:
    return {str(number): [float(value)] for number, value in enumerate(values)}


def test_subjects_count_and_not_their_images() -> None:
    found = paired_difference({"a": [1.0] * 99, "b": [3.0]})
    assert found.mean == 2
    assert (found.n_subjects, found.n_images) == (2, 100)
    assert found.low is None
    assert found.p is None


def test_a_difference_that_all_share() -> None:
    """The smallest p of six is 2 / 2⁶."""
    found = paired_difference(by_subject(np.arange(1.0, 7)))
    assert found.p == pytest.approx(2 / 2**6)
    assert found.effect == 1
    assert found.low is not None
    assert found.high is not None
    assert 1 < found.low < found.mean == 3.5 < found.high < 6


def test_signed_ranks_by_hand() -> None:
    """Ranks 1 and 2 are against. Of 2⁸ ways to sign, five sum to no more: none, 1, 2, 3, and 1 with 2."""
    found = paired_difference(by_subject(np.array([-1.0, -2, 3, 4, 5, 6, 7, 8])))
    assert found.p == pytest.approx(2 * 5 / 2**8)
    assert found.effect == pytest.approx((36 - 2 * 3) / 36)


def test_no_difference() -> None:
    found = paired_difference(by_subject(np.zeros(8)))
    assert (found.mean, found.low, found.high, found.p, found.effect) == (0, 0, 0, 1, 0)


def test_one_value_for_all_has_no_spread() -> None:
    found = paired_difference(by_subject(np.full(8, 0.5)))
    assert found.low == found.high == 0.5


def test_few_subjects_have_no_interval() -> None:
    assert paired_difference(by_subject(np.arange(1.0, LEAST_SUBJECTS))).low is None


def test_one_sided_bounds_are_ends_of_two_sided_intervals() -> None:
    differences = by_subject(np.array([0.1, 0.3, -0.2, 0.4, 0.2, 0.6, 0.1]))
    assert lower_bound(differences, 0.975) == paired_difference(differences).low
    loose = lower_bound(differences, 0.95)
    assert loose is not None
    assert loose > lower_bound(differences, 0.975)  # type: ignore[operator]
    assert lower_bound(by_subject(np.arange(1.0, LEAST_SUBJECTS)), 0.975) is None


def test_nobody() -> None:
    with pytest.raises(ValueError, match="there is no subject"):
        paired_difference({})


def test_holm() -> None:
    """The example of his correction that textbooks have."""
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.9, 0.8]) == [1, 1]
    assert holm([]) == []


@pytest.mark.slow
@pytest.mark.parametrize("skewed", [False, True])
def test_intervals_hold_what_they_promise(skewed: bool) -> None:
    """Of 95 % intervals of 40 subjects, 93 to 97 % hold the truth; of a skewed distribution a little fewer."""
    rng = np.random.default_rng(4)
    hits, n = 0, 1500
    for _ in range(n):
        drawn = rng.exponential(1, 40) if skewed else rng.normal(1, 2, 40)
        found = paired_difference(by_subject(drawn))
        assert found.low is not None
        assert found.high is not None
        hits += found.low <= 1 <= found.high
    assert (0.92 if skewed else 0.93) <= hits / n <= 0.97
