from itertools import pairwise

import numpy as np
import pytest

from scanside.errors import ConfigError
from scanside.sampling.densities import gaussian_density
from scanside.sampling.temporal import TemporalPattern, central_lines, frame_masks

pytestmark = pytest.mark.torch_free

PATTERNS: tuple[TemporalPattern, ...] = ("variable-density", "kt", "golden", "kt-uniform", "kt-gaussian")


def masks(
    pattern: TemporalPattern,
    n_lines: int = 192,
    n_frames: int = 20,
    acceleration: float = 5,
    acs: int = 11,
    seed: int = 0,
    density_power: float = 2.0,
) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return frame_masks(
        pattern, n_lines, n_frames, acceleration=acceleration, acs=acs, rng=rng, density_power=density_power
    )


@pytest.mark.parametrize("pattern", PATTERNS)
@pytest.mark.parametrize("n_lines", [64, 65, 192])
def test_every_frame_has_the_centre(pattern: TemporalPattern, n_lines: int) -> None:
    found = masks(pattern, n_lines, acceleration=4)
    assert found.shape == (20, n_lines)
    low = n_lines // 2 - 5
    assert found[:, low : low + 11].all()


@pytest.mark.parametrize("pattern", PATTERNS)
def test_neighbouring_frames_differ_and_seeds_decide(pattern: TemporalPattern) -> None:
    found = masks(pattern)
    assert all((a != b).any() for a, b in pairwise(found))
    assert np.array_equal(found, masks(pattern))
    assert any(not np.array_equal(found, masks(pattern, seed=seed)) for seed in (1, 2, 3))


@pytest.mark.parametrize("pattern", PATTERNS)
def test_fewer_frames_are_the_beginning_of_more(pattern: TemporalPattern) -> None:
    assert np.array_equal(masks(pattern, n_frames=7), masks(pattern)[:7])


@pytest.mark.parametrize("pattern", ["variable-density", "golden"])
@pytest.mark.parametrize("acceleration", [1, 2.5, 5, 9])
def test_count_of_lines(pattern: TemporalPattern, acceleration: float) -> None:
    assert (masks(pattern, acceleration=acceleration).sum(axis=1) == round(192 / acceleration)).all()


@pytest.mark.parametrize("power", [0.0, 2.0, 4.0])
def test_density_of_few_lines_is_the_power_of_the_distance(power: float) -> None:
    # Of single lines the shares are the density itself; drawing many without putting back flattens it.
    n_lines, n_frames = 32, 40_000
    share = masks("variable-density", n_lines, n_frames, n_lines, 0, density_power=power).mean(axis=0)
    radius = np.abs(np.arange(n_lines) - 16) / 16
    expected = np.maximum(1 - radius, 0.01) ** power
    expected /= expected.sum()
    bound = 5 * np.sqrt(expected / n_frames) + 1e-4
    assert (np.abs(share - expected) < bound).all()
    # The density of another power breaks the bound.
    other = np.maximum(1 - radius, 0.01) ** (power + 1)
    assert (np.abs(share - other / other.sum()) > bound).any()


def test_interleaved_frames_acquire_all_lines_together() -> None:
    found = masks("kt", acs=0)
    for first in range(len(found) - 4):
        assert (found[first : first + 5].sum(axis=0) == 1).all()
    assert not masks("kt", acs=0)[:4].any(axis=0).all()
    assert np.array_equal(masks("kt"), found | central_lines(192, 11))


def test_the_challenges_masks() -> None:
    assert np.array_equal(masks("kt-uniform", seed=4), masks("kt", seed=4))
    found = masks("kt-gaussian", n_frames=400, acceleration=8, acs=16)
    beside = found & ~central_lines(192, 16)
    # As many lines in each frame, of which some fall into the centre.
    assert (found.sum(axis=1) <= 24 + 16).all()
    assert beside.sum(axis=1).max() <= 24
    expected = gaussian_density((192,))
    share = beside.mean(axis=0)[:88]
    np.testing.assert_allclose(share / share.mean(), expected[:88] / expected[:88].mean(), atol=0.6)
    assert np.corrcoef(share, expected[:88])[0, 1] > 0.8


def test_golden_steps_spread_over_any_frames_in_a_row() -> None:
    # A sequence of golden steps leaves gaps of at most three sizes, the largest below 2.62 of the mean one.
    found = masks("golden", acs=0, acceleration=16)
    for first in range(len(found) - 4):
        lines = np.flatnonzero(found[first : first + 4].any(axis=0))
        gaps = np.diff([*lines, lines[0] + 192])
        assert gaps.max() <= np.ceil(2.62 * 192 / 48) + 1
    drawn = masks("variable-density", acs=0, acceleration=16, density_power=0.0)
    lines = np.flatnonzero(drawn[:4].any(axis=0))
    assert np.diff([*lines, lines[0] + 192]).max() > np.ceil(2.62 * 192 / 48) + 1


def test_what_cannot_be_had_is_refused() -> None:
    with pytest.raises(ConfigError, match="leaves 10 of 192 lines, but 11 central ones"):
        masks("variable-density", acceleration=19)
    with pytest.raises(ConfigError, match="leaves 10 of 192 lines"):
        masks("golden", acceleration=19)
    for pattern in ("kt", "kt-uniform"):
        with pytest.raises(ConfigError, match=r"whole acceleration factor, got 2\.5"):
            masks(pattern, acceleration=2.5)
    with pytest.raises(ConfigError, match=r"at least 1, got 0\.5"):
        masks("golden", acceleration=0.5)
