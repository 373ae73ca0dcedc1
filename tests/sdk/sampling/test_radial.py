"""Spokes on the grid."""

from __future__ import annotations

import numpy as np
import pytest

from scanside.errors import ConfigError
from scanside.sampling import Limits, Space, generator, plane_mask, series_mask
from scanside.sampling.radial import spokes

pytestmark = pytest.mark.torch_free


@pytest.mark.parametrize("shape", [(64, 64), (65, 40)])
@pytest.mark.parametrize("angle", [0.0, 0.3, np.pi / 4, 1.2, np.pi / 2, 2.0, 3.0])
def test_a_spoke_lies_along_its_line(shape: tuple[int, int], angle: float) -> None:
    k = np.argwhere(spokes(shape, angle)) - np.array(shape) // 2
    away = np.abs(k @ np.array([-np.sin(angle), np.cos(angle)]))
    assert away.max() <= 0.5 + 1e-9
    along = np.sort(k @ np.array([np.cos(angle), np.sin(angle)]))
    assert np.diff(along).max() <= np.sqrt(2) + 1e-9
    assert any((point == 0).all() for point in k)


@pytest.mark.parametrize("limits", [Limits(), Limits(elliptical=True), Limits((0.75, 1.0))])
@pytest.mark.parametrize("acceleration", [3, 8])
def test_spokes_are_as_many_as_the_acceleration_asks_for(limits: Limits, acceleration: float) -> None:
    space = Space.of(limits.region((128, 120)), (0, 0))
    mask = plane_mask("radial", space, acceleration=acceleration, rng=generator(0))
    assert space.n_places / mask.sum() == pytest.approx(acceleration, rel=0.05)
    frames = series_mask("kt-radial", space, 6, acceleration=acceleration, rng=generator(0))
    assert frames.shape == (6, 128, 120)
    assert space.n_places * 6 / frames.sum() == pytest.approx(acceleration, rel=0.06)
    assert not (frames & ~space.region).any()


def test_frames_turn_by_the_golden_angle_and_keep_their_centre() -> None:
    space = Space.of(np.ones((128, 128), bool), (16, 16))
    frames = series_mask("kt-radial", space, 12, acceleration=16, rng=generator(1))
    assert frames[:, space.block].all()
    ring = np.abs(np.arange(128) - 64)
    edge = np.maximum(ring[:, None], ring) == 50
    angles = []
    for frame in frames:
        k = np.argwhere(frame & edge) - 64
        angles.append(np.sort(np.arctan2(k[:, 1], k[:, 0]) % np.pi))
    step = np.pi / (len(angles[0]) // 2)
    for frame, found in enumerate(angles):
        turned = (found - angles[0][0] - frame * np.deg2rad(137.508)) / step
        assert np.abs(turned - np.round(turned)).max() < 0.2
    together = frames.any(0)
    assert together.sum() > 4 * frames[0].sum()


def test_frames_are_of_a_plane() -> None:
    with pytest.raises(ConfigError, match="along 2 phase encodings, and the matrix has 1"):
        series_mask("kt-radial", Space.of(np.ones(64, bool), (8,)), 4, acceleration=4, rng=generator(0))
