"""fastMRI's patterns, held against what its formulas say line by line."""

from __future__ import annotations

import numpy as np
import pytest

from scanside.errors import ConfigError
from scanside.sampling import Limits, Mask, Space, generator, line_mask

pytestmark = pytest.mark.torch_free

PAIRS = ((0.08, 4), (0.04, 8))
SEEDS = range(60)


def drawn(pattern: str, n: int, acs: int, acceleration: float, seed: int) -> Mask:
    return line_mask(
        pattern, Space.of(np.ones(n, bool), (acs,)), acceleration=acceleration, rng=generator(seed)
    )


def outside(n: int, acs: int) -> Mask:
    lines = np.arange(n) - (n // 2 - acs // 2)
    return (lines < 0) | (lines >= acs)


@pytest.mark.parametrize(("share", "acceleration"), PAIRS)
def test_random_lines_have_the_acceleration_on_average(share: float, acceleration: int) -> None:
    n, acs = 320, round(share * 320)
    masks = np.array([drawn("fastmri-random", n, acs, acceleration, seed) for seed in range(400)])
    counts = masks.sum(1)
    assert len(set(counts.tolist())) > 10
    assert counts.mean() == pytest.approx(n / acceleration, abs=5 * counts.std() / 20)
    probability = (n / acceleration - acs) / (n - acs)
    chance = masks[:, outside(n, acs)].mean(0)
    assert np.abs(chance - probability).max() < 5 * np.sqrt(probability / 400)
    # Of independent lines the number has a binomial spread; of as many as R leaves it would have none.
    assert counts.std() == pytest.approx(np.sqrt((n - acs) * probability * (1 - probability)), rel=0.2)


@pytest.mark.parametrize("n", [320, 321])
@pytest.mark.parametrize("acceleration", [2, 4, 8])
def test_equispaced_lines_begin_at_any_offset(n: int, acceleration: int) -> None:
    acs = 26
    found = set()
    for seed in SEEDS:
        mask = drawn("equispaced", n, acs, acceleration, seed)
        (lines,) = np.nonzero(mask & outside(n, acs))
        offset = int(lines[0])
        assert lines.tolist() == [k for k in range(offset, n, acceleration) if outside(n, acs)[k]]
        found.add(offset)
    assert found == set(range(acceleration))


@pytest.mark.parametrize(("share", "acceleration"), PAIRS)
@pytest.mark.parametrize("n", [320, 368, 333])
def test_the_fraction_counts_the_centre(share: float, acceleration: int, n: int) -> None:
    acs = round(share * n)
    distance = acceleration * (n - acs) / (n - acs * acceleration)
    found = set()
    for seed in SEEDS:
        mask = drawn("equispaced-fraction", n, acs, acceleration, seed)
        (lines,) = np.nonzero(mask)
        offset = int(lines[0])
        expected = {round(offset + i * distance) for i in range(n)} | set(
            np.flatnonzero(~outside(n, acs)).tolist()
        )
        assert set(lines.tolist()) == {line for line in expected if line < n}
        assert n / len(lines) == pytest.approx(acceleration, rel=0.04)
        found.add(offset)
    assert found == set(range(round(distance)))


@pytest.mark.parametrize("n", [320, 321])
@pytest.mark.parametrize("acceleration", [4, 8, 5])
def test_magic_lines_are_not_mirrored(n: int, acceleration: int) -> None:
    acs = 12
    offsets = set()
    for seed in SEEDS:
        mask = drawn("magic", n, acs, acceleration, seed)
        k = np.flatnonzero(mask & outside(n, acs)) - n // 2
        above, below = (
            {int(one) % acceleration for one in k[k > 0]},
            {int(-one) % acceleration for one in k[k < 0]},
        )
        (up,), (down,) = above, below
        assert (down - up) % acceleration in (2, acceleration - 2)
        offsets.add(up)
        if acceleration == 4:
            # Both sides together leave out every other line, and no more.
            sides = np.zeros(n // 2 + 1, bool)
            sides[np.abs(k)] = True
            far = sides[acs:-1]
            assert (far[::2].all() and not far[1::2].any()) or (far[1::2].all() and not far[::2].any())
    # Of even accelerations all lines are odd ones.
    assert offsets == ({0, 1, 3} if acceleration == 5 else set(range(1, acceleration, 2)))


def test_every_line_is_mirrored_where_the_offset_is_the_same() -> None:
    """What magic masks are there to avoid: of equispaced lines through the centre, one side shows the other."""
    spaced = (np.arange(321) - 160) % 4 == 0
    assert np.array_equal(spaced, spaced[::-1])
    masks = [drawn("magic", 321, 0, 4, seed) for seed in SEEDS]
    assert max((mask & mask[::-1]).sum() for mask in masks) <= 1


@pytest.mark.parametrize(("share", "acceleration"), PAIRS)
def test_the_fraction_of_magic_lines_counts_the_centre_roughly(share: float, acceleration: int) -> None:
    n, acs = 320, round(share * 320)
    step = round(n / (round(n / acceleration) - acs))
    rates = []
    for seed in SEEDS:
        mask = drawn("magic-fraction", n, acs, acceleration, seed)
        k = np.flatnonzero(mask & outside(n, acs)) - n // 2
        assert {int(gap) for gap in np.diff(k[k > 0])} == {step}
        rates.append(n / mask.sum())
    assert np.mean(rates) == pytest.approx(acceleration, rel=0.08)


@pytest.mark.parametrize("pattern", ["equispaced-fraction", "fastmri-random", "magic-fraction", "random"])
def test_a_centre_that_is_all_there_is(pattern: str) -> None:
    mask = drawn(pattern, 96, 24, 4, 0)
    assert np.array_equal(np.flatnonzero(mask), np.arange(36, 60))


def test_partial_fourier_keeps_lines_and_acceleration() -> None:
    region = Limits((0.75, 1.0)).region((320,))
    space = Space.of(region, (20,))
    rates = {}
    for pattern in ("equispaced-fraction", "fastmri-random", "random", "variable-density"):
        masks = [line_mask(pattern, space, acceleration=4, rng=generator(seed)) for seed in SEEDS]
        assert not any(mask[~region].any() for mask in masks)
        rates[pattern] = 240 / np.mean([mask.sum() for mask in masks])
    assert rates == {pattern: pytest.approx(4, rel=0.04) for pattern in rates}


@pytest.mark.parametrize(
    ("pattern", "acceleration", "acs", "text"),
    [
        ("equispaced", 3.5, 8, "need a whole acceleration, got 3.5: round it, or take 'equispaced-fraction'"),
        ("magic", 4.5, 8, "whole acceleration"),
        ("magic", 2, 8, "at least 3, got 2"),
        ("magic-fraction", 1.5, 8, "lines 2 apart .* raise the acceleration or acs"),
        ("equispaced-fraction", 8, 20, "lower acs"),
        ("fastmri-random", 8, 20, "lower acs"),
        ("magic-fraction", 8, 20, "lower acs"),
        ("centre", 8, 20, "lower acs"),
    ],
)
def test_what_cannot_be_had_is_refused(pattern: str, acceleration: float, acs: int, text: str) -> None:
    with pytest.raises(ConfigError, match=text):
        drawn(pattern, 96, acs, acceleration, 0)
