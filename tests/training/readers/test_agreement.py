"""Agreement as in the papers that it comes from, and as scikit-learn has it."""

from __future__ import annotations

import numpy as np
import pytest

from scanside_training.readers.agreement import (
    Estimate,
    fleiss_kappa,
    intraclass,
    over_targets,
    weighted_kappa,
)

SHROUT_FLEISS = np.array(
    [[9.0, 2, 5, 8], [6, 1, 3, 2], [8, 4, 6, 8], [7, 1, 2, 6], [10, 5, 6, 9], [6, 2, 4, 7]]
)
"""Table 2 of Shrout & Fleiss (1979): six targets, four judges."""

FOURTEEN_RATERS = np.array(
    [
        *([0, 0, 0, 0, 14], [0, 2, 6, 4, 2], [0, 0, 3, 5, 6], [0, 3, 9, 2, 0], [2, 2, 8, 1, 1]),
        *([7, 7, 0, 0, 0], [3, 2, 6, 3, 0], [2, 5, 3, 2, 2], [6, 5, 2, 1, 0], [0, 2, 2, 3, 7]),
    ]
)
"""Ten targets in five classes, a common worked example of Fleiss' kappa: 0.210."""


def test_worked_example_of_shrout_and_fleiss() -> None:
    found = intraclass(SHROUT_FLEISS)
    values = [found.single, found.mean, found.single_consistency, found.mean_consistency]
    assert [round(one.value or 0, 2) for one in values] == [0.29, 0.62, 0.71, 0.91]
    # As R's package psych has them for the same table.
    assert (found.single.low, found.single.high) == pytest.approx((0.019, 0.761), abs=5e-4)
    assert (found.mean.low, found.mean.high) == pytest.approx((0.071, 0.927), abs=5e-4)
    assert (found.single_consistency.low, found.single_consistency.high) == pytest.approx(
        (0.342, 0.946), abs=5e-4
    )
    assert (found.mean_consistency.low, found.mean_consistency.high) == pytest.approx(
        (0.676, 0.986), abs=5e-4
    )


def test_agreement_that_is_whole_or_none() -> None:
    whole = np.array([[1.0, 1], [3, 3], [5, 5]])
    assert intraclass(whole).single == Estimate(1.0)
    shifted = intraclass(whole + np.array([0, 1]))
    assert shifted.single_consistency == Estimate(1.0)
    assert shifted.single.value == pytest.approx(8 / (8 + 2 * 1.5 / 3))
    assert intraclass(np.full((4, 2), 3.0)).single == Estimate(None)
    only_readers = intraclass(np.array([[1.0, 2], [1, 2], [1, 2]]))
    assert only_readers.single.value == 0
    assert only_readers.single_consistency.value is None
    with pytest.raises(ValueError, match="two readers and two targets, and there are 2 and 1"):
        intraclass(np.ones((1, 2)))


def test_interval_covers_the_truth() -> None:
    """Of 400 drawn studies with an agreement of one half, about 95 % have it in their interval."""
    lots = np.random.default_rng(5)
    inside = 0
    for _ in range(400):
        ratings = (
            lots.standard_normal((15, 1))
            + 0.5 * lots.standard_normal(3)
            + 0.75**0.5 * lots.standard_normal((15, 3))
        )
        found = intraclass(ratings).single
        assert found.low is not None
        assert found.high is not None
        inside += found.low <= 0.5 <= found.high
    assert 0.92 < inside / 400 < 0.98


def test_fleiss_kappa() -> None:
    assert fleiss_kappa(FOURTEEN_RATERS) == pytest.approx(0.210, abs=5e-4)
    assert fleiss_kappa(np.array([[3, 0], [0, 3]])) == pytest.approx(1)
    assert fleiss_kappa(np.array([[3, 0], [3, 0]])) is None
    for wrong in (np.array([[3, 0], [0, 2]]), np.array([[1, 0]]), np.zeros((0, 2), int)):
        with pytest.raises(ValueError, match="same number of readers"):
            fleiss_kappa(wrong)


@pytest.mark.parametrize("ordered", [True, False])
def test_weighted_kappa_is_that_of_scikit_learn(ordered: bool) -> None:
    metrics = pytest.importorskip("sklearn.metrics")
    lots = np.random.default_rng(3)
    a = lots.integers(5, size=60)
    b = np.clip(a + lots.integers(-1, 2, size=60), 0, 4)
    expected = metrics.cohen_kappa_score(a, b, weights="quadratic" if ordered else None)
    assert weighted_kappa(a.tolist(), b.tolist(), ordered=ordered) == pytest.approx(expected)


def test_weighted_kappa_by_hand() -> None:
    assert weighted_kappa([0, 0, 1, 1], [0, 1, 1, 1], ordered=False) == pytest.approx(0.5)
    assert weighted_kappa([2, 2], [2, 2], ordered=True) is None
    with pytest.raises(ValueError, match="of 1 and 2"):
        weighted_kappa([1], [1, 2], ordered=True)


def test_bootstrap_draws_groups_whole() -> None:
    values = np.arange(40.0)

    def mean(chosen: object) -> float:
        return float(values[list(chosen)].mean())  # type: ignore[call-overload]

    alone = over_targets(mean, list(range(40)))
    together = over_targets(mean, [i // 10 for i in range(40)])
    assert alone.value == together.value == 19.5
    width = values.std() / 40**0.5
    assert (alone.low, alone.high) == pytest.approx((19.5 - 1.96 * width, 19.5 + 1.96 * width), abs=0.6)
    assert together.low is not None
    assert alone.low is not None
    assert together.low < alone.low - 2  # groups of neighbours say less
    assert over_targets(mean, [1] * 40) == Estimate(19.5)
