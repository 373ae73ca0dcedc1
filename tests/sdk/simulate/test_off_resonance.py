"""Off-resonance of simulated readouts against sums that are written out."""

from __future__ import annotations

import numpy as np
import pytest

from scanside.errors import ConfigError
from scanside.mrd.readouts import Readouts
from scanside.simulate import (
    CoilConfig,
    GeometryConfig,
    NoiseConfig,
    PhantomConfig,
    SamplingConfig,
    ScanConfig,
    SimulatedScan,
    TimingConfig,
    TrajectoryConfig,
    simulate,
)
from scanside.simulate.off_resonance import TOLERANCE, TimeSegments

N = 24
HZ = 120.0


def scan_of(matrix: int = N, hz: float = HZ, dwell_us: float = 100.0, kind: str = "radial") -> SimulatedScan:
    return simulate(
        ScanConfig(
            geometry=GeometryConfig(matrix=(matrix, matrix, 1), fov_mm=(240.0, 240.0, 6.0)),
            coils=CoilConfig(n_coils=2),
            noise=NoiseConfig(std=0.0, scan="none"),
            phantom=PhantomConfig(supersampling=(8 * N // matrix, 8 * N // matrix, 1), off_resonance_hz=hz),
            sampling=SamplingConfig(
                trajectory=TrajectoryConfig.model_validate({"kind": kind, "readouts": 6, "samples": 2 * N})
            ),
            timing=TimingConfig(dwell_us=dwell_us),
        )
    )


def readouts_of(scan: SimulatedScan) -> Readouts:
    (block,) = (item for item in scan.items() if isinstance(item, Readouts))
    return block


def test_segments_are_as_exact_as_they_say() -> None:
    times = np.linspace(-3e-3, 7e-3, 57)
    found = TimeSegments.of(-150.0, 260.0, times)
    hz = np.random.default_rng(0).uniform(-150, 260, 500)
    made = np.exp(2j * np.pi * np.outer(hz, found.times_s)) @ found.weights
    assert np.abs(made - np.exp(2j * np.pi * np.outer(hz, times))).max() <= 1.5 * found.error + 1e-9
    assert found.error <= TOLERANCE
    assert len(found.times_s) <= 16


def test_a_single_frequency_needs_few() -> None:
    times = np.linspace(-1e-3, 1e-3, 11)
    found = TimeSegments.of(40.0, 40.0, times)
    assert len(found.times_s) == 2
    made = np.exp(2j * np.pi * 40 * found.times_s) @ found.weights
    np.testing.assert_allclose(made, np.exp(2j * np.pi * 40 * times), atol=1e-9)


@pytest.mark.parametrize(("kind", "first"), [("radial", N), ("spiral", 0)])
def test_samples_turn_with_the_truths_field(kind: str, first: int) -> None:
    """The truth of a scan of four times the resolution, turned by its field and summed."""
    block, fine = readouts_of(scan_of(kind=kind)), scan_of(4 * N).truth
    assert block.trajectory is not None
    coils = fine.maps[0][:, 0] * fine.image()[0]
    field, at = fine.off_resonance_hz[0, 0], (np.arange(4 * N) - 2 * N) / 4
    inner = np.flatnonzero((np.abs(block.trajectory) < 0.17).all((0, 2)))
    times = 100e-6 * (inner - first)
    turned = coils[:, None] * np.exp(2j * np.pi * field * times[:, None, None])
    along = np.exp(-2j * np.pi * block.trajectory[:, inner, :, None].astype(float) * at)
    expected = np.einsum("csyx,psy,psx->pcs", turned, along[:, :, 1], along[:, :, 0], optimize=True) / (
        16 * N
    )
    found = block.samples[..., inner]
    assert np.linalg.norm(found - expected) / np.linalg.norm(expected) <= 0.005
    still = readouts_of(scan_of(kind=kind, hz=0.0)).samples[..., inner]
    assert np.linalg.norm(still - expected) > 5 * np.linalg.norm(found - expected)


def test_the_field_is_smooth_and_as_strong_as_asked_for() -> None:
    field = scan_of().truth.off_resonance_hz
    assert field.shape == (1, 1, N, N)
    assert HZ / 2 < np.abs(field).max() <= HZ
    assert np.abs(np.diff(field, axis=-1)).max() < HZ / 5
    assert not scan_of(hz=0.0).truth.off_resonance_hz.any()


def test_very_long_readouts_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"lower phantom\.off_resonance_hz"):
        readouts_of(scan_of(dwell_us=1e5, hz=500.0))


def test_it_goes_with_trajectories_only() -> None:
    with pytest.raises(ValueError, match=r"goes with sampling\.trajectory only"):
        ScanConfig(phantom=PhantomConfig(off_resonance_hz=50.0))
