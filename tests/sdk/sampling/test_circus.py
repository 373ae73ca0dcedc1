"""CIRCUS: arms of points, golden steps apart."""

from __future__ import annotations

import numpy as np
import pytest

from scanside.errors import ConfigError
from scanside.sampling import Limits, Space, generator, plane_mask

pytestmark = pytest.mark.torch_free


@pytest.mark.parametrize("pattern", ["circus-radial", "circus-spiral"])
@pytest.mark.parametrize("shape", [(64, 64), (65, 40), (33, 80)])
@pytest.mark.parametrize("acceleration", [1, 2.5, 8])
def test_the_acceleration_is_exact(pattern: str, shape: tuple[int, int], acceleration: float) -> None:
    for limits in (Limits(), Limits((0.75, 1.0), elliptical=True)):
        space = Space.of(limits.region(shape), (6, 6))
        mask = plane_mask(pattern, space, acceleration=acceleration, rng=generator(0))
        assert mask.sum() == round(space.n_places / acceleration)
        assert mask[space.block].all()
        assert not mask[~space.region].any()


@pytest.mark.parametrize("pattern", ["circus-radial", "circus-spiral"])
def test_every_square_has_as_many_points(pattern: str) -> None:
    n, arms = 81, 10
    # The inner squares are full; each further one has a point of every arm.
    full = sum(min(8 * j or 1, arms) for j in range(n // 2 + 1))
    space = Space.of(np.ones((n, n), bool), (0, 0))
    mask = plane_mask(pattern, space, acceleration=n * n / full, rng=generator(1))
    k = np.abs(np.arange(n) - n // 2)
    rings = np.maximum(k[:, None], k)
    counts = np.bincount(rings[mask], minlength=n // 2 + 1)
    assert counts[0] == 1
    assert (counts[6:] == arms).mean() > 0.9
    assert np.abs(counts[6:] - arms).max() <= 1


def test_arms_are_straight_or_wind() -> None:
    n = 161
    space = Space.of(np.ones((n, n), bool), (0, 0))
    straight, winding = (
        plane_mask(pattern, space, acceleration=n * n / 81, rng=generator(4))
        for pattern in ("circus-radial", "circus-spiral")
    )
    angles = []
    for mask in (straight, winding):
        k = np.argwhere(mask) - n // 2
        far = k[np.abs(k).max(1) > 20]
        turn = np.unwrap(np.arctan2(far[:, 0], far[:, 1])[np.argsort(np.abs(far).max(1), kind="stable")])
        angles.append(np.ptp(turn))
    assert angles[0] < 0.1
    assert angles[1] > 0.8


def test_golden_steps_leave_no_large_gap() -> None:
    n, arms = 161, 13
    space = Space.of(np.ones((n, n), bool), (0, 0))
    mask = plane_mask("circus-radial", space, acceleration=n * n / (arms * n / 2), rng=generator(2))
    k = np.argwhere(mask) - n // 2
    edge = k[np.abs(k).max(1) == 60]
    angles = np.sort(np.arctan2(edge[:, 0], edge[:, 1]))
    spacing = np.diff([*angles, angles[0] + 2 * np.pi])
    assert spacing.max() < 3.2 * 2 * np.pi / len(edge)


@pytest.mark.parametrize("twist", [0.0, 2.5])
def test_a_twist_that_cannot_be_is_refused(twist: float) -> None:
    space = Space.of(np.ones((32, 32), bool), (4, 4))
    with pytest.raises(ConfigError, match="above 0 and at most 2"):
        plane_mask("circus-spiral", space, acceleration=4, rng=generator(0), twist=twist)
