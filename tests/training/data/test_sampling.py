"""Masks: acceleration, calibration lines and densities as asked."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from scanside.errors import ConfigError
from scanside_training.data import MaskConfig, random_mask
from scanside_training.data.sampling import PlaneMaskConfig, random_plane_mask


@given(
    pattern=st.sampled_from(["random", "variable-density"]),
    n=st.integers(120, 256),
    acceleration=st.floats(2, 5),
    acs=st.integers(0, 20),
    seed=st.integers(0, 1000),
)
def test_lines_and_centre(pattern: str, n: int, acceleration: float, acs: int, seed: int) -> None:
    config = MaskConfig(patterns=(pattern,), acceleration=(acceleration, acceleration), acs=(acs, acs))
    mask, n_acs = random_mask(config, n, np.random.default_rng(seed))
    assert n_acs == acs
    assert mask.sum() == round(n / acceleration)
    assert mask[n // 2 - acs // 2 :][:acs].all()


def test_accelerations_fill_their_range() -> None:
    config = MaskConfig(patterns=("random",), acceleration=(3, 5))
    rng = np.random.default_rng(0)
    factors = [192 / random_mask(config, 192, rng)[0].sum() for _ in range(300)]
    assert (min(factors), max(factors)) == (pytest.approx(3, abs=0.05), pytest.approx(5, abs=0.1))
    assert np.mean(factors) == pytest.approx(4, abs=0.1)


@pytest.mark.parametrize("n", [96, 97])
def test_equispaced_lines_with_any_offset(n: int) -> None:
    config = MaskConfig(patterns=("equispaced",), acceleration=(2.5, 4.2), acs=(8, 12))
    rng = np.random.default_rng(3)
    seen = set()
    for _ in range(80):
        mask, n_acs = random_mask(config, n, rng)
        outside = np.ones(n, bool)
        outside[n // 2 - n_acs // 2 :][:n_acs] = False
        assert mask[~outside].all()
        lines = np.flatnonzero(mask & outside)
        distance = int(np.diff(lines).min())
        assert len(set(lines % distance)) == 1
        assert set(np.flatnonzero(outside & (np.arange(n) % distance == lines[0] % distance))) == set(lines)
        seen.add((distance, int(lines[0]) % distance))
    assert seen == {(r, offset) for r in (3, 4) for offset in range(r)}


def test_density_falls_outwards() -> None:
    rng = np.random.default_rng(0)
    density = {}
    for pattern in ("random", "variable-density"):
        config = MaskConfig(patterns=(pattern,), acceleration=(4, 4), acs=(0, 0), density_power=(2, 2))
        density[pattern] = np.mean([random_mask(config, 128, rng)[0] for _ in range(400)], axis=0)
    np.testing.assert_allclose(density["random"], 0.25, atol=0.09)
    inner, outer = density["variable-density"][48:80].mean(), density["variable-density"][:16].mean()
    assert inner > 5 * outer > 0


def test_the_same_seed_draws_the_same() -> None:
    config = MaskConfig()
    one, other, third = (random_mask(config, 160, np.random.default_rng(seed))[0] for seed in (5, 5, 6))
    np.testing.assert_array_equal(one, other)
    assert (one != third).any()


def test_a_centre_that_takes_more_than_there_is() -> None:
    config = MaskConfig(patterns=("random",), acceleration=(8, 8), acs=(20, 20))
    with pytest.raises(ConfigError, match=r"leave 12 lines, but acs asks for 20"):
        random_mask(config, 96, np.random.default_rng(0))


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"acceleration": (3.2, 3.8)}, "no whole|none within"),
        ({"acceleration": (0.5, 2)}, "at least 1"),
        ({"acceleration": (5, 3)}, "lowest, highest"),
        ({"acs": (-2, 4)}, "at least 0"),
        ({"accelleration": (3, 4)}, "accelleration"),
    ],
)
def test_settings_that_cannot_be(settings: dict[str, object], text: str) -> None:
    with pytest.raises(ValidationError, match=text):
        MaskConfig.model_validate(settings)


@pytest.mark.parametrize("n", [96, 97])
def test_low_resolution_is_the_centre_alone(n: int) -> None:
    config = MaskConfig(patterns=("centre",), acceleration=(2, 4), acs=(8, 8))
    for seed in range(20):
        mask, width = random_mask(config, n, np.random.default_rng(seed))
        (lines,) = np.nonzero(mask)
        assert len(lines) == width == lines[-1] - lines[0] + 1
        assert lines[0] == n // 2 - width // 2
        assert n / 4 - 1 <= width <= n / 2 + 1


@given(
    shape=st.tuples(st.integers(40, 90), st.integers(30, 70)),
    acceleration=st.floats(1, 6),
    acs=st.integers(0, 10),
    seed=st.integers(0, 1000),
)
def test_samples_of_a_plane(shape: tuple[int, int], acceleration: float, acs: int, seed: int) -> None:
    """Of an ellipse that lies off the middle: what cannot be acquired is not, and counts for no acceleration."""
    y, x = np.meshgrid(*(np.linspace(-1, 1, n) for n in shape), indexing="ij")
    possible = (y / 0.9) ** 2 + ((x + 0.1) / 0.7) ** 2 <= 1
    config = PlaneMaskConfig(acceleration=(acceleration, acceleration), acs=(acs, acs))
    mask, edges = random_plane_mask(config, shape, np.random.default_rng(seed), possible)
    assert edges == (acs, acs)
    assert not (mask & ~possible).any()
    assert mask.sum() == round(possible.sum() / acceleration)
    first = [n // 2 - acs // 2 for n in shape]
    assert mask[first[0] : first[0] + acs, first[1] : first[1] + acs].all()


def test_density_falls_outwards_in_planes() -> None:
    config = PlaneMaskConfig(acceleration=(4, 4), acs=(0, 0), density_power=(2, 2))
    rng = np.random.default_rng(3)
    share = np.mean([random_plane_mask(config, (60, 40), rng)[0] for _ in range(200)], axis=0)
    assert share[30, 20] > 0.8 > 0.7 > share[30, 10] > 0.3 > 0.1 > share[30, 2]
    assert share[15, 20] == pytest.approx(share[30, 10], abs=0.1), "alike along both axes"


@pytest.mark.parametrize(
    ("settings", "possible", "text"),
    [
        (
            {"acs": (24, 24)},
            None,
            "leave fewer than the 576 of the ACS block: lower masks.plane.acceleration",
        ),
        ({}, np.ones((40, 39), bool), r"a mask of \(40, 40\) was asked for, and one of \(40, 39\)"),
        ({}, np.zeros((40, 40), bool), "no sample of k-space can be acquired"),
    ],
)
def test_planes_that_cannot_be(settings: dict[str, object], possible: Any, text: str) -> None:
    config = PlaneMaskConfig.model_validate({"acceleration": (4, 4), "acs": (8, 8)} | settings)
    with pytest.raises(ConfigError, match=text):
        random_plane_mask(config, (40, 40), np.random.default_rng(0), possible)


def test_settings_of_lines_count_for_nothing_in_planes() -> None:
    with pytest.raises(ValidationError, match="acceleration, acs of lines along one count for nothing"):
        MaskConfig.model_validate({"plane": {}, "acs": (8, 8), "acceleration": (4, 4)})
    with pytest.raises(ValidationError, match="acceleration is at least 1"):
        PlaneMaskConfig(acceleration=(0.5, 2))
    kept = MaskConfig.model_validate({"plane": {"acs": (8, 8)}}).model_dump(mode="json")
    assert MaskConfig.model_validate(kept).plane == PlaneMaskConfig(acs=(8, 8)), "as runs keep their settings"
