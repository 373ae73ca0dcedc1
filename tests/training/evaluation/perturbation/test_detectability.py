from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import norm

from scanside_training.evaluation.perturbation.detectability import area_under_roc, d_prime


@pytest.mark.parametrize("true", [0.5, 2.0])
def test_normal_values(true: float) -> None:
    rng = np.random.default_rng(1)
    present, absent = rng.normal(true, 1, 20000).tolist(), rng.normal(0, 1, 20000).tolist()
    assert d_prime(present, absent) == pytest.approx(true, abs=0.03)
    assert area_under_roc(present, absent) == pytest.approx(norm.cdf(true / math.sqrt(2)), abs=0.01)
    assert d_prime(absent, present) == pytest.approx(-true, abs=0.03)


def test_area_is_the_share_of_pairs() -> None:
    assert area_under_roc([1, 3, 2], [0, 2, 5]) == pytest.approx(4.5 / 9)  # one tie


def test_without_noise() -> None:
    assert d_prime([2, 2, 2], [1, 1, 1]) == math.inf
    assert d_prime([1, 1, 1], [2, 2, 2]) == -math.inf
    assert d_prime([1, 1, 1], [1, 1, 1]) == 0
