"""Predicted trajectories against those that simulated eddy currents make, summed step by step, and closed forms."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from scanside.errors import ScanError, ShapeError
from scanside.mrd.readouts import Readouts
from scanside.recon.noncartesian.girf import Girf
from scanside.simulate import GeometryConfig, SamplingConfig, TrajectoryConfig
from scanside.simulate.geometry import ScanGrid
from scanside.simulate.trajectories import TrajectoryReadouts

DWELL_US = 5.0
SHARE, DECAY_US = (0.05, 0.08), (60.0, 200.0)
Points = npt.NDArray[np.float64]


def frequencies(highest: float = 100e3) -> Points:
    return np.arange(0.0, highest + 1, 50.0)


def diagonal(*rows: npt.NDArray[np.complex128]) -> npt.NDArray[np.complex128]:
    return np.eye(3)[:, :, None] * np.stack(rows)


def eddy(highest: float = 100e3) -> Girf:
    f = frequencies(highest)
    turning = [2j * np.pi * f * 1e-6 * decay for decay in DECAY_US]
    rows = [1 - share * s / (1 + s) for share, s in zip(SHARE, turning, strict=True)]
    return Girf(f, diagonal(*rows, np.ones(len(f), complex)))


def delayed(seconds: float) -> Girf:
    f = frequencies()
    return Girf(f, diagonal(*[np.exp(-2j * np.pi * f * seconds)] * 3))


def readouts(**trajectory: Any) -> tuple[Points, Points]:
    """Points as they are planned, and as eddy currents make them, ``(readout, sample, 3)``."""
    config = TrajectoryConfig(**{"readouts": 4, **trajectory}, eddy_share=SHARE, eddy_us=DECAY_US)
    sampling = SamplingConfig(trajectory=config)
    made = TrajectoryReadouts.of(
        sampling, ScanGrid.of(GeometryConfig(matrix=(64, 64, 1)), sampling), DWELL_US
    )
    assert made is not None
    headers = Readouts.empty_headers(config.readouts)
    headers["idx"]["kspace_encode_step_1"] = np.arange(config.readouts)
    return made.nominal(headers), made.points(headers)


@pytest.mark.parametrize("trajectory", [{"kind": "spiral", "samples": 1000}, {"angles": "golden"}])
@pytest.mark.parametrize("highest", [100e3, 20e3])
def test_trajectories_with_eddy_currents_are_predicted(trajectory: dict[str, Any], highest: float) -> None:
    planned, made = readouts(**trajectory)
    predicted, phase = eddy(highest).predicted(planned, DWELL_US)
    assert np.abs(made - planned).max() > 0.01  # cycles per voxel
    assert np.sqrt(np.mean((predicted - made) ** 2) / np.mean((made - planned) ** 2)) <= 0.01
    assert not phase.any()


def test_a_delay_moves_spokes_back() -> None:
    planned, _ = readouts()
    predicted, _ = delayed(2 * DWELL_US * 1e-6).predicted(planned, DWELL_US)
    np.testing.assert_allclose(predicted[:, 2:], planned[:, :-2], atol=1e-4)


def test_cross_terms_bring_gradients_of_other_axes() -> None:
    planned, _ = readouts()
    girf = Girf(frequencies(), np.eye(3)[:, :, None] * np.ones(len(frequencies()), complex))
    girf.transfer[1, 0] = 0.02  # along y comes a part of what x was asked for
    predicted, _ = girf.predicted(planned, DWELL_US)
    np.testing.assert_allclose(predicted[..., 0], planned[..., 0], atol=1e-9)
    np.testing.assert_allclose(predicted[..., 1], planned[..., 1] + 0.02 * planned[..., 0], atol=1e-9)


def test_the_field_that_comes_everywhere_is_a_phase() -> None:
    planned, _ = readouts()
    field = np.zeros((3, len(frequencies())), complex)
    field[0] = 0.01  # metres
    ones = np.ones(len(frequencies()), complex)
    girf = Girf(frequencies(), diagonal(ones, ones, ones), field)
    moved, phase = girf.predicted(planned * 1e3, DWELL_US)
    np.testing.assert_allclose(moved, planned * 1e3, atol=1e-6)
    np.testing.assert_allclose(phase, 0.01 * 1e3 * planned[..., 0], atol=1e-6)


def test_a_response_that_ends_below_the_gradients_frequencies() -> None:
    planned, _ = readouts(kind="spiral", samples=1000)
    with pytest.raises(ScanError, match=r"% of the gradients' power lies above 1000 Hz"):
        eddy(1e3).predicted(planned, DWELL_US)


def test_points_of_a_plane() -> None:
    with pytest.raises(ShapeError, match="a trajectory to predict is"):
        eddy().predicted(np.zeros((2, 8, 2)), DWELL_US)
