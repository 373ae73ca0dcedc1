"""Acceleration and aliasing, told of masks whose figures are known."""

from __future__ import annotations

import numpy as np
import pytest

from scanside.sampling import Limits, Space, acceleration_of, point_spread, sidelobe

pytestmark = pytest.mark.torch_free


def test_the_ways_to_count() -> None:
    space = Space.of(Limits((0.75, 1.0)).region((80,)), (12,))
    mask = (np.arange(80) % 4 == 0) & space.region | space.block
    found = acceleration_of(mask, space)
    assert (found.n_matrix, found.n_region, found.n_acs) == (80, 60, 12)
    assert found.n_acquired == 12 + 12
    assert found.with_acs == 60 / 24
    assert found.without_acs == 4
    assert found.of_matrix == 80 / 24


def test_padding_does_not_count() -> None:
    measured = np.zeros(100, bool)
    measured[10:90] = True
    space = Space.of(measured, (8,))
    mask = np.zeros(100, bool)
    mask[10:90:2] = True
    assert acceleration_of(mask, space).with_acs == 2
    assert acceleration_of(mask, space).of_matrix == 2.5


def test_frames_count_together_and_a_centre_alone_has_no_rate_beside_it() -> None:
    space = Space.of(np.ones(40, bool), (10,))
    frames = np.stack([space.block, space.block | (np.arange(40) % 3 == 0)])
    found = acceleration_of(frames, space)
    assert (found.n_matrix, found.n_acs) == (80, 20)
    assert found.without_acs == 60 / 10
    assert acceleration_of(space.block, space).without_acs == float("inf")


def test_the_image_of_a_point_is_aliased_by_equispaced_lines() -> None:
    spread = point_spread(np.arange(64) % 4 == 0)
    np.testing.assert_allclose(np.flatnonzero(spread > 0.5), [0, 16, 32, 48])
    np.testing.assert_allclose(spread[spread > 0.5], 1)
    assert sidelobe(np.arange(64) % 4 == 0) == pytest.approx(1)
    assert sidelobe(np.ones((16, 12), bool)) == pytest.approx(0, abs=1e-12)
