"""Masks: acceleration, calibration lines and densities as asked."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from scanside.errors import ConfigError
from scanside.sampling.patterns import PLANES
from scanside_training.data import FrameMaskConfig, MaskConfig, random_mask
from scanside_training.data.sampling import PlaneMaskConfig, random_frame_masks, random_plane_mask


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


HASHES = {
    "equispaced": "42a3a11b4af41e92",
    "random": "225fb0125d30dadf",
    "variable-density": "2c2a1b1b1acf76ae",
    "centre": "26bf169efb4b8911",
}


@pytest.mark.parametrize("pattern", HASHES)
def test_first_patterns_draw_what_they_drew(pattern: str) -> None:
    """Of trainings whose data were drawn before there were other patterns."""
    config, rng = MaskConfig(patterns=(pattern,)), np.random.default_rng(3)
    digest = hashlib.sha256()
    for n in (160, 176, 193, 208) * 20:
        digest.update(random_mask(config, n, rng)[0].tobytes())
    assert digest.hexdigest()[:16] == HASHES[pattern]


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
        ({"patterns": ("magic",), "acceleration": (3.2, 3.8)}, "magic lines need a whole"),
        ({"patterns": ("magic",), "pairs": ((0.08, 4.5),)}, "magic lines need a whole"),
        ({"pairs": ((0.08, 4),), "acs": (8, 8)}, "pairs take the place of acceleration and acs"),
        ({"pairs": ((1.2, 4),)}, "shares below 1"),
        ({"pairs": ((0.08, 0.5),)}, "accelerations from 1 on"),
        ({"limits": {"partial_fourier": (0.0, 1.0)}}, "above 0 and at most 1"),
        ({"limits": {"partial_fourier": (0.5, 1.5)}}, "above 0 and at most 1"),
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


@pytest.mark.parametrize(
    "pattern", ["equispaced-fraction", "fastmri-random", "magic", "magic-fraction", "gaussian"]
)
def test_lines_of_the_literature(pattern: str) -> None:
    config = MaskConfig(patterns=(pattern,), acceleration=(3.5, 5.5), acs=(8, 16))
    rng = np.random.default_rng(0)
    rates = set()
    for _ in range(40):
        mask, n_acs = random_mask(config, 192, rng)
        assert 8 <= n_acs <= 16
        assert mask[96 - n_acs // 2 :][:n_acs].all()
        rates.add(round(192 / mask.sum(), 2))
    assert 2.4 < min(rates) < max(rates) < 7.5
    assert len(rates) > 3


def test_pairs_of_fastmri() -> None:
    config = MaskConfig(patterns=("equispaced-fraction",), pairs=((0.08, 4), (0.04, 8)))
    rng = np.random.default_rng(1)
    drawn = [random_mask(config, 320, rng) for _ in range(60)]
    found = {(n_acs, round(320 / mask.sum(), 1)) for mask, n_acs in drawn}
    assert {n_acs for n_acs, _ in found} == {26, 13}
    assert all(rate == pytest.approx(4 if n_acs == 26 else 8, rel=0.06) for n_acs, rate in found)
    assert config.fewest_acs(320) == 13
    assert MaskConfig().fewest_acs(320) == 16
    # Settings of a run are written down whole, and read again.
    assert MaskConfig.model_validate(config.model_dump()) == config


@pytest.mark.parametrize(
    "pattern", ["equispaced", "random", "variable-density", "centre", "magic", "fastmri-random"]
)
def test_partial_fourier_leaves_out_one_end(pattern: str) -> None:
    limits = {"partial_fourier": (0.7, 0.8)}
    settings = {"patterns": (pattern,), "acceleration": (3, 4), "acs": (8, 8), "density_power": (0, 0)}
    config = MaskConfig.model_validate({**settings, "limits": limits})
    rng = np.random.default_rng(2)
    masks = np.array([random_mask(config, 160, rng)[0] for _ in range(40)])
    ends = {(bool(mask[:30].any()), bool(mask[-30:].any())) for mask in masks}
    assert ends == ({(False, False)} if pattern == "centre" else {(False, True), (True, False)})
    acquired = 160 * 0.75 / masks.sum(1)
    assert 2.5 < acquired.mean() < 4
    early = MaskConfig.model_validate({**settings, "limits": {**limits, "side": "early"}})
    assert not any(random_mask(early, 160, rng)[0][:30].any() for _ in range(20))


def test_partial_fourier_that_cuts_the_centre_is_refused() -> None:
    config = MaskConfig(acs=(40, 40), acceleration=(2, 2), limits={"partial_fourier": (0.55, 0.55)})
    with pytest.raises(ConfigError, match="cut 12 of 40 off"):
        random_mask(config, 160, np.random.default_rng(0))


@pytest.mark.parametrize("pattern", ["kt-uniform", "kt-gaussian"])
def test_frames_of_the_challenges(pattern: str) -> None:
    config = FrameMaskConfig(patterns=(pattern,), acceleration=(7.5, 8.5), acs=(16, 16))
    masks, n_acs = random_frame_masks(config, 192, 12, np.random.default_rng(0))
    assert n_acs == 16
    assert masks[:, 88:104].all()
    assert (masks[0] != masks[1]).any()
    assert 20 < masks.sum(1).mean() < 40


def test_interleaved_frames_need_a_whole_acceleration() -> None:
    with pytest.raises(ValidationError, match="'kt-uniform' needs a whole acceleration"):
        FrameMaskConfig(patterns=("kt-uniform",), acceleration=(7.2, 7.8))


@given(
    shape=st.tuples(st.integers(40, 90), st.integers(30, 70)),
    acceleration=st.floats(1, 6),
    acs=st.integers(0, 9),  # with 10, the smallest ellipse has no room at the highest acceleration
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


@pytest.mark.parametrize("pattern", [name for name in PLANES if name not in ("gaussian", "radial")])
def test_planes_of_the_literature(pattern: str) -> None:
    y, x = np.meshgrid(np.linspace(-1, 1, 80), np.linspace(-1, 1, 60), indexing="ij")
    possible = y**2 + x**2 <= 1
    config = PlaneMaskConfig.model_validate({"patterns": (pattern,), "acceleration": (4, 4), "acs": (12, 12)})
    mask, edges = random_plane_mask(config, (80, 60), np.random.default_rng(0), possible)
    assert edges == (12, 12)
    assert mask[34:46, 24:36].all()
    assert not (mask & ~possible).any()
    assert mask.sum() == round(possible.sum() / 4)


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
