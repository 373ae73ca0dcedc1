"""Sampling patterns."""

from __future__ import annotations

from typing import Literal

import numpy as np
import pytest

from scanside.errors import ConfigError
from scanside.mrd.readouts import Readouts
from scanside.sampling import PLANES, Limits, Space, generator, line_mask, plane_mask
from scanside.sampling.temporal import frame_masks
from scanside.simulate import simulate
from scanside.simulate.config import (
    CoilConfig,
    GeometryConfig,
    NoiseConfig,
    PhantomConfig,
    SamplingConfig,
    ScanConfig,
)
from scanside.simulate.sampling import Pattern, phase_bands, sampling_pattern

pytestmark = pytest.mark.torch_free


def pattern_of(
    config: SamplingConfig, frame: int = 0, matrix: tuple[int, int, int] = (128, 120, 1)
) -> Pattern:
    return sampling_pattern(config, phase_bands(config, matrix), frame)[0]


@pytest.mark.parametrize("shift", [0, 1, 2])
def test_shifted_lattice(shift: int) -> None:
    """CAIPIRINHA: the centre is on the lattice, and each of its k1 lines begins so many lines further on."""
    config = SamplingConfig(acceleration=(2, 3), shift=shift)
    pattern = pattern_of(config, matrix=(16, 12, 15))
    expected = {
        (k1, k2)
        for k1 in range(12)
        for k2 in range(15)
        if (k1 - 6) % 2 == 0 and (k2 - 7 - shift * (k1 - 6) // 2) % 3 == 0
    }
    assert set(zip(pattern.k1.tolist(), pattern.k2.tolist(), strict=True)) == expected


def test_shift_needs_an_acceleration() -> None:
    for wrong in (
        {"acceleration": (2, 2), "shift": 2},
        {"pattern": "poisson", "acceleration": (2, 2), "shift": 1},
    ):
        with pytest.raises(ValueError, match="needs equispaced sampling with a larger acceleration there"):
            SamplingConfig(**wrong)


@pytest.mark.parametrize("kind", ["random", "variable-density"])
def test_random_patterns_follow_their_seed_and_their_count(kind: str) -> None:
    config = SamplingConfig(pattern=kind, acceleration=(4, 1), acs=(10, 0), seed=5)
    first, again = pattern_of(config), pattern_of(config)
    other = pattern_of(config.model_copy(update={"seed": 6}))
    assert len(first) == 30
    assert np.array_equal(first.k1, again.k1)
    assert not np.array_equal(first.k1, other.k1)
    assert set(range(55, 65)) <= set(first.k1.tolist())
    assert first.imaging.all()
    assert first.calibration.sum() == 10


def test_variable_density_prefers_the_centre() -> None:
    dense = SamplingConfig(pattern="variable-density", acceleration=(4, 1), density_power=4.0)
    flat = SamplingConfig(pattern="random", acceleration=(4, 1))
    away = [
        np.mean(
            [
                np.abs(pattern_of(config.model_copy(update={"seed": seed})).k1 - 60).mean()
                for seed in range(30)
            ]
        )
        for config in (dense, flat)
    ]
    assert away[0] < 20 < 27 < away[1]


def test_three_dimensional_patterns_accelerate_both_axes() -> None:
    config = SamplingConfig(acceleration=(2, 3), acs=(8, 6))
    pattern = pattern_of(config, matrix=(64, 40, 30))
    assert (pattern.imaging.sum(), pattern.calibration.sum()) == (20 * 10, 8 * 6)
    regular = pattern.imaging
    assert np.all(pattern.k1[regular] % 2 == 0)
    assert np.all(pattern.k2[regular] % 3 == 0)
    # Partitions are the outer loop.
    assert np.all(np.diff(pattern.k2) >= 0)
    drawn = pattern_of(SamplingConfig(pattern="random", acceleration=(2, 3), acs=(8, 6)), matrix=(64, 40, 30))
    assert len(drawn) == 200


def test_patterns_that_vary_cover_k_space_together() -> None:
    config = SamplingConfig(acceleration=(4, 1), vary=True)
    lines = [set(pattern_of(config, frame).k1.tolist()) for frame in range(4)]
    assert set.union(*lines) == set(range(120))
    assert sum(len(part) for part in lines) == 120
    still = config.model_copy(update={"vary": False})
    assert np.array_equal(pattern_of(still, 0).k1, pattern_of(still, 3).k1)


@pytest.mark.parametrize("kind", ["kt", "golden", "kt-uniform", "kt-gaussian"])
def test_patterns_of_series(kind: Literal["kt", "golden", "kt-uniform", "kt-gaussian"]) -> None:
    config = SamplingConfig(pattern=kind, acceleration=(4, 1), acs=(10, 0), seed=5)
    rng = np.random.default_rng([5, 5])
    masks = frame_masks(kind, 120, 9, acceleration=4, acs=10, rng=rng)
    for frame in (8, 0, 3):
        pattern = pattern_of(config, frame)
        assert np.array_equal(pattern.k1, np.flatnonzero(masks[frame]))
        assert pattern.calibration.sum() == 10
    # Of partial Fourier's band, only what it acquires.
    part = config.model_copy(update={"partial_fourier": (0.75, 1.0)})
    assert np.array_equal(pattern_of(part, 3).k1, np.flatnonzero(masks[3])[np.flatnonzero(masks[3]) >= 30])
    apart = config.model_copy(update={"acs_mode": "separate"})
    assert len(pattern_of(apart)) == 30


@pytest.mark.parametrize(
    "kind", ["equispaced-fraction", "fastmri-random", "magic", "magic-fraction", "gaussian"]
)
def test_lines_of_the_literature(kind: str) -> None:
    config = SamplingConfig(
        pattern=kind, acceleration=(4, 1), acs=(10, 0), seed=5, partial_fourier=(0.75, 1.0)
    )
    space = Space.of(np.arange(120) >= 30, (10,))
    expected = line_mask(kind, space, acceleration=4, rng=generator([5, 6, 0]))
    pattern = pattern_of(config)
    assert np.array_equal(pattern.k1, np.flatnonzero(expected))
    assert pattern.calibration.sum() == 10
    again, other = (pattern_of(config.model_copy(update={"vary": vary}), 3) for vary in (False, True))
    assert np.array_equal(again.k1, pattern.k1)
    assert other.k1.tolist() != pattern.k1.tolist()


@pytest.mark.parametrize("kind", [name for name in PLANES if name not in ("random", "variable-density")])
def test_planes_of_the_literature(kind: str) -> None:
    config = SamplingConfig(pattern=kind, acceleration=(2, 3), acs=(8, 6), elliptical=True)
    region = Limits(elliptical=True).region((40, 30))
    expected = plane_mask(kind, Space.of(region, (8, 6)), acceleration=6, rng=generator([0, 6, 0]))
    pattern = pattern_of(config, matrix=(64, 40, 30))
    found = np.zeros((40, 30), bool)
    found[pattern.k1, pattern.k2] = True
    assert np.array_equal(found, expected)
    assert pattern.calibration.sum() == 48
    separate = config.model_copy(update={"acs_mode": "separate"})
    image, calibration = sampling_pattern(separate, phase_bands(separate, (64, 40, 30)))
    assert len(calibration) == 48
    assert not image.calibration.any()


@pytest.mark.parametrize("kind", ["equispaced", "random", "variable-density"])
def test_an_ellipse_leaves_out_the_corners(kind: str) -> None:
    config = SamplingConfig(pattern=kind, acceleration=(2, 2), acs=(8, 6))
    whole, cut = (
        pattern_of(config.model_copy(update={"elliptical": elliptical}), matrix=(64, 40, 30))
        for elliptical in (False, True)
    )
    assert len(cut) == pytest.approx(np.pi / 4 * len(whole), rel=0.06)
    assert (((cut.k1 - 20) / 20) ** 2 + ((cut.k2 - 15) / 15) ** 2 <= 1).all()
    assert cut.calibration.sum() == whole.calibration.sum() == 48


def test_a_scan_by_a_poisson_disc_has_its_readouts() -> None:
    scan = simulate(
        ScanConfig(
            phantom=PhantomConfig(kind="shepp-logan", supersampling=(1, 1, 1)),
            coils=CoilConfig(n_coils=1),
            noise=NoiseConfig(scan="none"),
            geometry=GeometryConfig(matrix=(16, 24, 20)),
            sampling=SamplingConfig(pattern="poisson", acceleration=(4, 1), acs=(6, 6)),
        )
    )
    counters = np.concatenate([item.headers["idx"] for item in scan.items() if isinstance(item, Readouts)])
    places = {(int(idx["kspace_encode_step_1"]), int(idx["kspace_encode_step_2"])) for idx in counters}
    assert len(places) == len(counters) == 120


def test_more_calibration_lines_than_the_acceleration_leaves_is_an_error() -> None:
    config = SamplingConfig(pattern="random", acceleration=(10, 1), acs=(24, 0))
    with pytest.raises(ConfigError, match="leaves 12 lines, but the calibration region has 24"):
        pattern_of(config)


def test_settings_that_cannot_be_are_refused() -> None:
    with pytest.raises(ValueError, match="whole acceleration"):
        SamplingConfig(acceleration=(2.5, 1))
    with pytest.raises(ValueError, match="kt sampling needs whole"):
        SamplingConfig(pattern="kt", acceleration=(2.5, 1))
    with pytest.raises(ValueError, match="golden is one of 2-D scans"):
        ScanConfig(sampling=SamplingConfig(pattern="golden"), geometry=GeometryConfig(matrix=(16, 16, 8)))
    with pytest.raises(ValueError, match="at least 1"):
        SamplingConfig(pattern="random", acceleration=(0.5, 1))
    with pytest.raises(ValueError, match="as many samples to discard"):
        SamplingConfig(reverse="all", discard=(4, 2))
    with pytest.raises(ValueError, match="Extra inputs"):
        SamplingConfig(accelaration=(2, 1))
    with pytest.raises(ValueError, match="magic sampling needs whole"):
        SamplingConfig(pattern="magic", acceleration=(4.5, 1))
    with pytest.raises(ValueError, match="poisson is one of 3-D scans"):
        ScanConfig(sampling=SamplingConfig(pattern="poisson"))
    with pytest.raises(ValueError, match="magic is one of 2-D scans"):
        ScanConfig(sampling=SamplingConfig(pattern="magic"), geometry=GeometryConfig(matrix=(16, 16, 8)))
    with pytest.raises(ValueError, match="no second phase encoding to accelerate or to cut"):
        ScanConfig(sampling=SamplingConfig(elliptical=True))


def test_a_zero_in_acs_takes_all_lines_of_that_axis() -> None:
    for acs, count in (((8, 0), 8 * 30), ((0, 6), 40 * 6)):
        config = SamplingConfig(acceleration=(2, 3), acs=acs)
        assert pattern_of(config, matrix=(64, 40, 30)).calibration.sum() == count


def test_two_dimensional_scans_refuse_settings_of_the_second_phase_encoding() -> None:
    for settings in ({"acceleration": (2, 2)}, {"acs": (8, 8)}, {"partial_fourier": (1.0, 0.75)}):
        with pytest.raises(ValueError, match="no second phase encoding"):
            ScanConfig(sampling=SamplingConfig(**settings))  # type: ignore[arg-type]
