"""Patterns that are drawn by a density."""

from __future__ import annotations

import numpy as np
import pytest

from scanside.errors import ConfigError
from scanside.sampling import Limits, Space, generator, line_mask, plane_mask
from scanside.sampling.densities import gaussian_density

pytestmark = pytest.mark.torch_free


def share_of_draws(pattern: str, shape: tuple[int, ...], count: int, n: int, **options: float) -> np.ndarray:
    """How often each place is drawn, where few are drawn at a time, so that shares are the density itself."""
    space = Space.of(np.ones(shape, bool), (0,) * len(shape))
    draw = line_mask if len(shape) == 1 else plane_mask
    rng = generator(0)
    masks = [draw(pattern, space, acceleration=space.n_places / count, rng=rng, **options) for _ in range(n)]
    return np.mean(masks, axis=0)


@pytest.mark.parametrize("share", [0.2, 0.6])
def test_gaussian_lines_have_the_challenges_density(share: float) -> None:
    n = 48
    p = np.arange(n) - n // 2
    expected = 0.1 + share / (1 - share) * np.exp(-(p**2) / (n / 5) ** 2)
    expected /= expected.sum()
    found = share_of_draws("gaussian", (n,), 1, 10_000, share=share)
    bound = 5 * np.sqrt(expected / 10_000)
    assert (np.abs(found - expected) < bound).all()
    assert (np.abs(found - 1 / n) > bound).any()


def test_gaussian_planes_are_round() -> None:
    density = gaussian_density((40, 60))
    np.testing.assert_allclose(density[:, 30], gaussian_density((40,)))
    np.testing.assert_allclose(density[20], gaussian_density((60,)))
    bell = (density - 0.1) / 0.25
    np.testing.assert_allclose(bell, bell[:, 30:31] * bell[20:21])


@pytest.mark.parametrize("power", [0.0, 3.0])
def test_the_density_of_a_plane_is_a_power_of_the_distance(power: float) -> None:
    k1, k2 = np.meshgrid((np.arange(12) - 6) / 6, (np.arange(8) - 4) / 4, indexing="ij")
    expected = np.maximum(1 - np.hypot(k1, k2) / np.sqrt(2), 0.01) ** power
    expected /= expected.sum()
    found = share_of_draws("variable-density", (12, 8), 1, 10_000, density_power=power)
    assert (np.abs(found - expected) < 5 * np.sqrt(expected / 10_000) + 1e-4).all()


@pytest.mark.parametrize("pattern", ["random", "variable-density"])
@pytest.mark.parametrize("limits", [Limits(), Limits((0.75, 0.875)), Limits(elliptical=True)])
def test_the_count_is_exact_and_has_the_centre(pattern: str, limits: Limits) -> None:
    space = Space.of(limits.region((64, 40)), (12, 10))
    mask = plane_mask(pattern, space, acceleration=5.5, rng=generator(1))
    assert mask.sum() == round(space.n_places / 5.5)
    assert mask[space.block].all()
    assert not mask[~space.region].any()


def test_the_centre_comes_on_top_of_gaussian_points() -> None:
    space = Space.of(np.ones(200, bool), (16,))
    mask = line_mask("gaussian", space, acceleration=8, rng=generator(0))
    assert mask[space.block].all()
    assert 25 <= mask.sum() <= 25 + 16
    assert (mask & ~space.block).sum() > 25 - 16


def test_low_resolution_is_the_centre_alone() -> None:
    mask = line_mask("centre", Space.of(np.ones(97, bool), (8,)), acceleration=4, rng=generator(0))
    assert np.array_equal(np.flatnonzero(mask), np.arange(48 - 12, 48 + 12))


@pytest.mark.parametrize(
    ("pattern", "options", "text"),
    [
        ("gaussian", {"share": 1.0}, "0 to below 1"),
        ("variable-density", {"density_power": -1.0}, "at least 0"),
        ("random", {"share": 0.2}, "has no option 'share': it has none"),
        ("gaussian", {"power": 0.2}, "has no option 'power': known is share"),
    ],
)
def test_options_that_cannot_be_are_refused(pattern: str, options: dict[str, float], text: str) -> None:
    with pytest.raises(ConfigError, match=text):
        line_mask(pattern, Space.of(np.ones(64, bool), (8,)), acceleration=4, rng=generator(0), **options)
