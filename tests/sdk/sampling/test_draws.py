"""Draws without a method of NumPy's that may change."""

from __future__ import annotations

import numpy as np
import pytest

from scanside.sampling.draws import choose, draw_whole, generator

pytestmark = pytest.mark.torch_free


@pytest.mark.parametrize("count", [0, 1, 20, 59])
def test_as_many_places_as_asked_for_and_none_without_a_weight(count: int) -> None:
    weight = np.linspace(0, 1, 60).reshape(6, 10)
    chosen = choose(weight, count, generator(3))
    assert chosen.shape == (6, 10)
    assert chosen.sum() == count
    assert not chosen[0, 0]


def test_places_are_drawn_one_after_the_other_by_the_weights_that_are_left() -> None:
    weight = np.array([0.6, 0.3, 0.1])
    rng = generator(0)
    found = np.mean([choose(weight, 2, rng) for _ in range(20_000)], axis=0)
    # Left out is the one that is drawn last.
    expected = [
        1 - sum(weight[a] * weight[b] / (1 - weight[a]) for a, b in ((i, j), (j, i)))
        for i, j in ((1, 2), (0, 2), (0, 1))
    ]
    np.testing.assert_allclose(found, expected, atol=5 * 0.5 / np.sqrt(20_000))


def test_small_weights_can_be_drawn() -> None:
    assert choose(np.array([1.0, 1e-12]), 2, generator(0)).all()


def test_whole_numbers_are_even() -> None:
    rng = generator(1)
    counts = np.bincount([draw_whole(5, rng) for _ in range(5000)])
    assert len(counts) == 5
    assert (np.abs(counts - 1000) < 5 * np.sqrt(800)).all()
