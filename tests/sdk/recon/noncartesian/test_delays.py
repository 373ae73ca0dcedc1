"""Delays of simulated gradients are found from their spokes, as BART's ``estdelay`` finds them, or refused."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from scanside.errors import CalibrationError, ShapeError
from scanside.mrd.readouts import Readouts
from scanside.recon.noncartesian.delays import Delays, delayed, is_spokes, spoke_delays
from scanside.simulate import (
    CoilConfig,
    GeometryConfig,
    NoiseConfig,
    SamplingConfig,
    ScanConfig,
    TrajectoryConfig,
    simulate,
)

N = 64
LAG = {"delay": (1.3, -0.7), "delay_xy": 0.4}


def spokes_of(std: float = 0.02, n_coils: int = 6, **trajectory: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """Samples ``(coil, spoke, sample)``, and the points that they carry."""
    config = ScanConfig(
        geometry=GeometryConfig(matrix=(N, N, 1), offset_mm=(6.0, -4.0, 20.0)),
        coils=CoilConfig(n_coils=n_coils),
        noise=NoiseConfig(std=std, scan="none"),
        sampling=SamplingConfig(trajectory=TrajectoryConfig(**{"readouts": 34, **trajectory})),
    )
    (block,) = (item for item in simulate(config).items(1 << 10) if isinstance(item, Readouts))
    assert block.trajectory is not None
    return torch.from_numpy(block.samples.swapaxes(0, 1).copy()), torch.from_numpy(block.trajectory)


def found(delays: Delays) -> tuple[float, float, float]:
    return delays.x, delays.y, delays.xy


@pytest.mark.parametrize(
    ("trajectory", "expected"),
    [
        ({"angles": "golden"}, (0.0, 0.0, 0.0)),
        ({"angles": "golden", **LAG}, (1.3, -0.7, 0.4)),
        ({"readouts": 7, "angles": "golden", **LAG}, (1.3, -0.7, 0.4)),
        ({"readouts": 201, "angles": "uniform", **LAG}, (1.3, -0.7, 0.4)),
        ({"readouts": 41, "angles": "full-circle", **LAG}, (1.3, -0.7, 0.4)),
        ({"samples": N, "delay": (0.8, 0.5)}, (0.8, 0.5, 0.0)),
        ({"angles": "golden", "delay": (3.5, 3.7)}, (3.5, 3.7, 0.0)),
    ],
)
def test_delays_are_the_simulated_ones(trajectory: dict[str, Any], expected: tuple[float, ...]) -> None:
    delays = spoke_delays(*spokes_of(**trajectory))
    assert found(delays) == pytest.approx(expected, abs=0.01)
    assert delays.error <= 0.01


@pytest.mark.parametrize("std", [0.2, 1.0])
def test_noise_leaves_them_within_their_error(std: float) -> None:
    delays = spoke_delays(*spokes_of(std, angles="golden", **LAG))
    assert max(abs(a - b) for a, b in zip(found(delays), (1.3, -0.7, 0.4), strict=True)) <= 3 * delays.error
    assert delays.error <= 0.1


def test_a_single_coil_is_enough() -> None:
    delays = spoke_delays(*spokes_of(n_coils=1, angles="golden", **LAG))
    assert found(delays) == pytest.approx((1.3, -0.7, 0.4), abs=0.03)


@pytest.mark.parametrize(("options", "tolerance"), [(("-R",), 0.05), (("-R", "-r3"), 0.05), ((), 0.1)])
def test_delays_are_barts(bart: str, tmp_path: Path, options: tuple[str, ...], tolerance: float) -> None:
    """Its RING within a wider centre of k-space, and its correlation of opposed spokes, which is not as exact."""
    samples, points = spokes_of(readouts=41, angles="full-circle", delay=(0.7, 0.3), delay_xy=0.1)
    trajectory = np.zeros((len(points), 2 * N, 3), np.complex64)
    trajectory[..., :2] = points.numpy() * 2 * N
    for name, array in (("points", trajectory), ("samples", samples.numpy()[..., None])):
        header = tmp_path / f"{name}.hdr"
        header.write_text(f"# Dimensions\n{' '.join(str(n) for n in array.shape[::-1])}\n")
        array.tofile(tmp_path / f"{name}.cfl")
    told = subprocess.run(
        [bart, "estdelay", *options, "points", "samples"],
        cwd=tmp_path,
        check=True,
        capture_output=True,
        text=True,
        timeout=60,
    ).stdout
    # It counts from its last axis, and shifts points forwards where gradients lag.
    y, x, xy = (-float(value) for value in told.split(":"))
    assert found(spoke_delays(samples, points)) == pytest.approx((x, y, xy), abs=tolerance), told


def test_points_move_by_the_delays() -> None:
    _, points = spokes_of()
    moved = delayed(points, Delays(1.0, 0.5, 0.25))
    step = points[:, 11] - points[:, 10]
    expected = points - step[:, None] @ torch.tensor([[1.0, 0.25], [0.25, 0.5]])
    torch.testing.assert_close(moved[:, 4:-4], expected[:, 4:-4])
    assert float(moved.abs().max()) <= 0.5
    volume = torch.cat([points, torch.full((*points.shape[:2], 1), 0.2)], -1)
    torch.testing.assert_close(delayed(volume, Delays(1.0, 0.5, 0.25))[..., 2], volume[..., 2])


def test_spokes_are_told_from_other_readouts() -> None:
    _, points = spokes_of()
    assert is_spokes(points)
    assert is_spokes(points + 1e-4)
    assert is_spokes(delayed(points, Delays(1.0, 3.0, 0.5)))
    assert not is_spokes(points + 0.3)
    assert not is_spokes(points.abs())
    assert not is_spokes(points[:, :4])
    assert not is_spokes(spokes_of(kind="spiral")[1])


def test_too_few_spokes() -> None:
    samples, points = spokes_of(angles="golden")
    with pytest.raises(CalibrationError, match="4 spokes have"):
        spoke_delays(samples[:, :4], points[:4])


def test_angles_without_spread() -> None:
    samples, points = spokes_of(readouts=200)
    with pytest.raises(CalibrationError, match=r"36 spokes have \d crossings at 30° or more"):
        spoke_delays(samples[:, :36], points[:36])
    with pytest.raises(CalibrationError, match="do not spread far enough"):
        spoke_delays(samples[:, :42], points[:42])


def test_noise_alone() -> None:
    _, points = spokes_of(angles="golden")
    noise = torch.randn(6, 34, 2 * N, dtype=torch.complex64, generator=torch.Generator().manual_seed(3))
    with pytest.raises(CalibrationError, match=r"spokes differ in .* of the signal"):
        spoke_delays(noise, points)


def test_nothing_at_all() -> None:
    samples, points = spokes_of(angles="golden")
    with pytest.raises(CalibrationError, match="no signal"):
        spoke_delays(torch.zeros_like(samples), points)


def test_another_trajectory() -> None:
    samples, points = spokes_of(angles="golden", **LAG)
    with pytest.raises(CalibrationError, match=r"spokes differ|uncertain by more than 0\.1 samples"):
        spoke_delays(samples, points.roll(5, 0))


def test_an_echo_far_away() -> None:
    samples, points = spokes_of(angles="golden")
    with pytest.raises(CalibrationError, match=r"not trusted|spokes differ"):
        spoke_delays(samples.roll(7, -1), points)


def test_an_object_that_spokes_cannot_tell() -> None:
    _, points = spokes_of(angles="golden")
    with pytest.raises(CalibrationError, match=r"uncertain by more than 0\.1 samples"):
        spoke_delays(torch.ones(3, 34, 2 * N, dtype=torch.complex64), points)


def test_spokes_that_are_known_to_miss_the_centre() -> None:
    """What is left when a part of the delays is corrected already, with voxels of another size along y."""
    samples, points = spokes_of(angles="golden", **LAG)
    half = delayed(points, Delays(1.0, -0.3, 0.1)) * torch.tensor([1.0, 0.8])
    found_x, found_y, _ = found(spoke_delays(samples, half))
    assert (found_x, found_y) == pytest.approx((0.3, -0.4), abs=0.01)


def test_samples_of_other_spokes() -> None:
    samples, points = spokes_of(angles="golden")
    with pytest.raises(ShapeError, match="spokes need samples"):
        spoke_delays(samples[:, 1:], points)
