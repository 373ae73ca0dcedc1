"""Generated knees: the same for the same seed, and findings where they are said to be."""

from __future__ import annotations

import numpy as np
import pytest

from scanside_training.data.knees import knee
from scanside_training.data.sources import Knees


@pytest.mark.parametrize("seed", range(4))
def test_a_finding_lies_in_one_slice_and_is_bright(seed: int) -> None:
    stacks = [knee(64, 3, np.random.default_rng(seed), finding=True) for _ in range(2)]
    for one, other in zip(*stacks, strict=True):
        np.testing.assert_array_equal(one.pixels, other.pixels)
    (found,) = [one for one in stacks[0] if one.finding.any()]
    assert (found.pixels.shape, found.pixels.dtype, found.finding.dtype) == ((64, 64), np.float32, np.bool_)
    assert 4 <= found.finding.sum() < 80
    around = np.zeros_like(found.finding)
    for axis, step in ((0, 6), (0, -6), (1, 6), (1, -6)):
        around |= np.roll(found.finding, step, axis)
    assert found.pixels[found.finding].mean() > 1.5 * np.median(found.pixels[around & ~found.finding])
    assert 0.5 < found.pixels.max() < 2
    assert not found.pixels[[0, -1]].any()


def test_without_a_finding_there_is_none() -> None:
    assert not any(one.finding.any() for one in knee(64, 3, np.random.default_rng(0), finding=False))


@pytest.mark.parametrize(("share", "expected"), [(0.0, 0), (1.0, 5)])
def test_the_source_draws_its_share(share: float, expected: int, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = []
    from scanside_training.data import knees

    def counted(size: int, n: int, rng: np.random.Generator, *, finding: bool) -> list[knees.KneeSlice]:
        drawn.append(finding)
        return knee(size, n, rng, finding=finding)

    monkeypatch.setattr(knees, "knee", counted)
    source = Knees(slices_per_subject=2, findings=share, size=32)
    made = [source.draw(np.random.default_rng(seed)) for seed in range(5)]
    assert [len(one) for one in made] == [2] * 5
    assert sum(drawn) == expected
