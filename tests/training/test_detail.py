"""Detail kept and detail invented, against images of which both are known."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from scanside_training.detail import detail

Array = np.ndarray


@pytest.fixture(scope="module")
def truth() -> Array:
    return ndimage.gaussian_filter(np.random.default_rng(0).random((96, 80)), 1) + 1


def high(image: Array) -> Array:
    """Behind the filter, as SciPy has it."""
    return ndimage.gaussian_laplace(image, 1.5, truncate=7 / 1.5, mode="constant")[7:-7, 7:-7]


@pytest.mark.parametrize(("factor", "kept"), [(1.0, 1.0), (0.0, 0.0), (0.5, 0.25), (-1.0, 1.0), (2.0, 4.0)])
def test_a_multiple_of_the_truth_invents_nothing(truth: Array, factor: float, kept: float) -> None:
    assert detail(factor * truth, truth) == {
        "kept": pytest.approx(kept),
        "invented": pytest.approx(0, abs=1e-9),
    }


def test_detail_lost_in_a_part_is_not_invented(truth: Array) -> None:
    """Where half of the image is empty half of the detail is kept; only windows across the border see a change."""
    halved = truth.copy()
    halved[48:] = 0
    smooth = truth.mean() * (np.arange(96) < 48)[:, None]  # its edge is detail that the truth lacks
    edge = detail(smooth + 0 * truth, truth)["invented"]
    found = detail(halved, truth)
    assert found["kept"] == pytest.approx(0.5, abs=0.12)
    assert found["invented"] == pytest.approx(edge, rel=0.1)


def test_detail_where_the_truth_has_none_is_all_invented(truth: Array) -> None:
    """Two waves far apart: one is kept whole, and the energy of the other is all invented."""
    x = np.arange(96)
    wave = np.sin(0.8 * x)[None, :] * np.ones((80, 1))
    here, there = np.zeros((80, 96)), np.zeros((80, 96))
    here[:, 8:30], there[:, 64:86] = wave[:, 8:30], wave[:, 64:86]
    found = detail(here + 0.5 * there, here)
    assert found["kept"] == pytest.approx(1)
    alone = detail(0.5 * there, here)
    assert alone["kept"] == pytest.approx(0, abs=1e-12)
    assert found["invented"] == pytest.approx(alone["invented"])
    assert found["invented"] == pytest.approx(0.25 * detail(there, here)["invented"])


def test_independent_noise_is_invented_but_for_chance(truth: Array) -> None:
    noise = 0.05 * np.random.default_rng(1).standard_normal(truth.shape)
    expected = (high(noise) ** 2).mean() / (high(truth) ** 2).mean()
    found = detail(truth + noise, truth)
    assert 0.85 < found["invented"] / expected < 1
    assert found["kept"] + found["invented"] == pytest.approx(
        (high(truth + noise) ** 2).mean() / (high(truth) ** 2).mean(), rel=0.05
    )


def test_scale_does_not_matter(truth: Array) -> None:
    blurred = ndimage.gaussian_filter(truth, 1)
    assert detail(1e4 * blurred, 1e4 * truth) == pytest.approx(detail(blurred, truth))


def test_a_reference_without_detail() -> None:
    assert detail(np.ones((48, 48)), np.ones((48, 48))) == {}
