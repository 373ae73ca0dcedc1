"""Simulated trajectories against the sum that their samples stand for, written out."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from scanside.mrd.header import MrdHeader
from scanside.mrd.readouts import Readouts
from scanside.simulate import (
    CoilConfig,
    GeometryConfig,
    NoiseConfig,
    PhantomConfig,
    SamplingConfig,
    ScanConfig,
    SimulatedScan,
    TrajectoryConfig,
    simulate,
)
from scanside.simulate.trajectories import GOLDEN_ANGLE

N = 32
Array = npt.NDArray[Any]


def scan_of(geometry: GeometryConfig | None = None, **trajectory: Any) -> SimulatedScan:
    return simulate(
        ScanConfig(
            geometry=geometry or GeometryConfig(matrix=(N, N, 1), fov_mm=(240.0, 240.0, 6.0)),
            coils=CoilConfig(n_coils=2),
            noise=NoiseConfig(std=0.0, scan="none"),
            phantom=PhantomConfig(supersampling=(8, 8, 1)),
            sampling=SamplingConfig(trajectory=TrajectoryConfig(**{"readouts": 8, **trajectory})),
        )
    )


def readouts_of(scan: SimulatedScan) -> Readouts:
    blocks = [item for item in scan.items() if isinstance(item, Readouts)]
    (block,) = blocks
    return block


def angles_of(trajectory: Array) -> Array:
    return np.arctan2(trajectory[:, -1, 1], trajectory[:, -1, 0])


def test_samples_are_the_transform_of_the_cartesian_scan_of_the_same_object() -> None:
    """The object is smaller than the field of view, so that its samples follow from those of a grid."""
    radial = scan_of(readouts=6)
    block = readouts_of(radial)
    fine = GeometryConfig(matrix=(4 * N, 4 * N, 1), fov_mm=(240.0, 240.0, 6.0))
    same = ScanConfig(
        geometry=fine,
        coils=CoilConfig(n_coils=2),
        noise=NoiseConfig(std=0.0, scan="none"),
        phantom=PhantomConfig(supersampling=(2, 2, 1)),
    )
    cartesian = simulate(same)
    coils = cartesian.truth.maps[0][:, 0] * cartesian.truth.image()[0]
    at = (np.arange(4 * N) - 2 * N) / 4  # in voxels of the radial scan's image
    assert block.trajectory is not None
    inner = slice(N - 8, N + 8)  # low frequencies, which the grid's own limits leave alone
    points = block.trajectory[:, inner].reshape(-1, 2).astype(float)
    along_x = np.exp(-2j * np.pi * np.outer(points[:, 0], at))
    along_y = np.exp(-2j * np.pi * np.outer(points[:, 1], at))
    expected = np.einsum("cyx,py,px->pc", coils, along_y, along_x) / (16 * N)
    found = block.samples[..., inner].swapaxes(1, 2).reshape(-1, 2)
    assert np.linalg.norm(found - expected) / np.linalg.norm(expected) <= 0.005


def test_spokes_pass_the_centre_at_equal_or_golden_angles() -> None:
    uniform = readouts_of(scan_of(readouts=10)).trajectory
    golden = readouts_of(scan_of(readouts=10, angles="golden")).trajectory
    assert uniform is not None
    assert golden is not None
    np.testing.assert_array_equal(uniform[:, N], 0)
    np.testing.assert_allclose(np.diff(np.unwrap(angles_of(uniform))), np.pi / 10, atol=1e-5)
    turns = np.diff(angles_of(golden)) % (2 * np.pi)
    np.testing.assert_allclose(turns, GOLDEN_ANGLE, atol=1e-5)


def test_golden_angles_go_on_from_one_repetition_to_the_next() -> None:
    scan = scan_of(readouts=10, angles="golden")
    later = scan.config.model_copy(
        update={"dynamics": scan.config.dynamics.model_copy(update={"repetitions": 2})}
    )
    blocks = [item for item in simulate(later).items() if isinstance(item, Readouts)]
    every = np.concatenate([block.trajectory for block in blocks if block.trajectory is not None])
    np.testing.assert_allclose(np.diff(angles_of(every)) % (2 * np.pi), GOLDEN_ANGLE, atol=1e-5)


def test_spiral_arms_leave_no_gap() -> None:
    """Along any direction, the arms together pass at distances of one step of the grid."""
    arms = readouts_of(scan_of(kind="spiral", readouts=8, samples=2000)).trajectory
    assert arms is not None
    points = arms[..., 0] + 1j * arms[..., 1]
    np.testing.assert_allclose(points[:, 0], 0, atol=1e-7)
    assert np.abs(points).max() == pytest.approx(0.5)
    along_x = np.abs(np.angle(points)) < 0.01
    radii = np.sort(np.abs(points[along_x]))
    passes = radii[np.append(True, np.diff(radii) > 0.2 / N)]
    np.testing.assert_allclose(np.diff(passes[2:]), 1 / N, rtol=0.1)


@pytest.mark.parametrize(
    ("unit", "factor"), [("voxel", 1.0), ("radian", 2 * np.pi), ("matrix", 2 * N), ("metre", 1e3 * N / 240)]
)
def test_units_of_what_is_written(unit: str, factor: float) -> None:
    written, plain = readouts_of(scan_of(unit=unit)), readouts_of(scan_of())
    assert written.trajectory is not None
    assert plain.trajectory is not None
    np.testing.assert_allclose(written.trajectory, factor * plain.trajectory, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(written.samples, plain.samples)


def test_gradients_that_lag_behind_shift_the_echo() -> None:
    late, plain = readouts_of(scan_of(readouts=4, delay=(1.5, 0.0))), readouts_of(scan_of(readouts=4))
    np.testing.assert_array_equal(late.trajectory, plain.trajectory)

    def echo(block: Readouts, spoke: int) -> float:
        power = np.abs(block.samples[spoke]).astype(float).sum(0) ** 4
        return float((power * np.arange(len(power))).sum() / power.sum())

    assert echo(late, 0) - echo(plain, 0) == pytest.approx(1.5, abs=0.2)  # along x
    assert abs(echo(late, 2) - echo(plain, 2)) <= 0.05  # along y


def test_gradients_may_lag_for_one_another() -> None:
    """A spoke at 45° passes the centre later by what both lag, and one at 135° by what they do not."""
    found = readouts_of(scan_of(readouts=4, delay=(1.0, 1.0), delay_xy=0.5))
    later = readouts_of(scan_of(readouts=4, delay=(1.5, 1.5)))
    earlier = readouts_of(scan_of(readouts=4, delay=(0.5, 0.5)))
    np.testing.assert_allclose(found.samples[1], later.samples[1], atol=1e-5)
    np.testing.assert_allclose(found.samples[3], earlier.samples[3], atol=1e-5)


def test_spokes_over_the_full_circle() -> None:
    trajectory = readouts_of(scan_of(readouts=9, angles="full-circle")).trajectory
    assert trajectory is not None
    np.testing.assert_allclose(np.diff(np.unwrap(angles_of(trajectory))), 2 * np.pi / 9, atol=1e-5)


@pytest.mark.parametrize(
    ("trajectory", "word"),
    [
        ({}, "radial"),
        ({"angles": "golden"}, "goldenangle"),
        ({"kind": "spiral"}, "spiral"),
    ],
)
def test_the_header_names_it(trajectory: dict[str, Any], word: str) -> None:
    encoding = MrdHeader.parse(scan_of(**trajectory).header_xml).encodings[0]
    assert encoding.trajectory == word
    assert encoding.encoded.matrix == (2 * N, 2 * N, 1)
    assert encoding.limit("kspace_encode_step_1").n == 8


def test_a_koosh_ball_covers_all_directions() -> None:
    volume = GeometryConfig(matrix=(N, N, N), fov_mm=(240.0,) * 3)
    trajectory = readouts_of(scan_of(volume, kind="koosh-ball", readouts=200)).trajectory
    assert trajectory is not None
    assert trajectory.shape == (200, 2 * N, 3)
    ends = trajectory[:, -1] / np.linalg.norm(trajectory[:, -1], axis=1, keepdims=True)
    both = np.concatenate([ends, -ends])
    spread = both.T @ both / len(both)
    np.testing.assert_allclose(spread, np.eye(3) / 3, atol=0.02)


def test_what_counts_lines_does_not_go_with_it() -> None:
    with pytest.raises(ValueError, match="goes with no acceleration"):
        SamplingConfig(trajectory=TrajectoryConfig(), acceleration=(2, 1))
