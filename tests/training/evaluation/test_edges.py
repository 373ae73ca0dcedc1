"""Widths of edges: those of known edges, and those that scipy fits one by one."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage, optimize

from scanside.metrics import Real
from scanside_training.evaluation.edges import edges_of, sharpness


def ellipse(blur: float, noise: float = 0.0) -> Real:
    """A bright ellipse whose edge is blurred by a Gaussian, in a 96 × 96 image."""
    y, x = np.mgrid[:384, :384] / 4 - 48
    fine = (np.hypot(y / 30, x / 38) < 1).astype(np.float64)
    image = ndimage.gaussian_filter(fine, 4 * blur).reshape(96, 4, 96, 4).mean((1, 3))
    return 0.1 + image + noise * np.random.default_rng(1).normal(size=image.shape)


@pytest.mark.parametrize("blur", [1.0, 1.5])
def test_width_of_a_gaussian_edge(blur: float) -> None:
    """10 to 90 % of an integrated Gaussian are 2.563 σ apart; a sigmoid has longer tails, and is 3 % narrower."""
    edges = edges_of(ellipse(blur))
    assert edges is not None
    pixel = 1 / 12  # a pixel's own width adds its variance
    assert np.median(edges.widths) == pytest.approx(2.563 * np.sqrt(blur**2 + pixel), rel=0.06)


def test_as_scipy_fits_it() -> None:
    image = ellipse(1.2, noise=0.01)
    edges = edges_of(image)
    assert edges is not None
    t = np.arange(-5, 5.25, 0.5)
    for point, direction, width in zip(edges.points[:5], edges.directions[:5], edges.widths[:5], strict=True):
        places = point[:, None] + direction[:, None] * t
        profile = ndimage.map_coordinates(image, places, order=3)
        (*_, w), _ = optimize.curve_fit(
            lambda t, low, height, middle, w: low + height / (1 + np.exp(-(t - middle) / w)),
            t,
            profile,
            (0, 1, 0, 0.7),
        )
        assert width == pytest.approx(2 * np.log(9) * w, rel=1e-3)


def test_sharpness_follows_blur_and_not_scale() -> None:
    truth = ellipse(1.0)
    assert sharpness(truth, truth) == pytest.approx(1)
    assert sharpness(7 * truth, truth) == pytest.approx(1, abs=1e-6)
    found = [sharpness(ellipse(blur), truth) for blur in (1.0, 1.3, 1.8)]
    assert found[0] is not None
    assert found[1] is not None
    assert found[2] is not None
    assert found[0] > found[1] > found[2]
    assert found[2] == pytest.approx(np.sqrt((1 + 1 / 12) / (1.8**2 + 1 / 12)), rel=0.06)


def test_where_nothing_is_sharp_there_is_no_figure() -> None:
    truth = ellipse(1.0)
    rng = np.random.default_rng(2)
    assert sharpness(truth, np.ones((64, 64))) is None
    assert sharpness(truth[:8, :8], truth[:8, :8]) is None
    assert sharpness(np.abs(rng.normal(size=truth.shape)), truth) is None
