"""What the shipped pipelines make of scans that they cannot reconstruct, or only by looking at their lines."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from scanside import Readouts
from scanside.errors import CalibrationError, ShapeError, StageError
from scanside.simulate import (
    CoilConfig,
    DynamicsConfig,
    GeometryConfig,
    NoiseConfig,
    QuirkConfig,
    SamplingConfig,
    ScanConfig,
    SimulatedScan,
    preset,
    simulate,
)

GRAPPA = ["grappa", "grappa-filtered"]
R2 = SamplingConfig(acceleration=(2, 1), acs=(20, 0))


def scan_of(sampling: SamplingConfig, **parts: Any) -> SimulatedScan:
    geometry = GeometryConfig(matrix=(64, 60, 1), fov_mm=(240.0, 225.0, 6.0), offset_mm=(0.0, 0.0, 16.0))
    defaults = {"geometry": geometry, "coils": CoilConfig(n_coils=6), "noise": NoiseConfig(std=0.01)}
    return simulate(ScanConfig(**{**defaults, "sampling": sampling, **parts}))


def first_lines(scan: SimulatedScan, share: float) -> list[Any]:
    """The scan up to a share of its last block of readouts; it then ends properly."""
    *items, last = [item.copy() if isinstance(item, Readouts) else item for item in scan.items()]
    assert isinstance(last, Readouts)
    return [*items, last.select(slice(0, round(share * len(last))))]


@pytest.mark.parametrize("pipeline", GRAPPA)
def test_no_calibration_lines(reconstruct: Any, pipeline: str) -> None:
    scan = scan_of(SamplingConfig(acceleration=(2, 1)))
    told = (
        r"GRAPPA needs calibration \(ACS\) lines.*there are none.*k1 rows 0..58 in steps of 2 of 60.*Acquire"
    )
    with pytest.raises(StageError, match=told) as raised:
        reconstruct(pipeline, scan.header_xml, scan.items())
    assert isinstance(raised.value.cause, CalibrationError)


@pytest.mark.parametrize("pipeline", GRAPPA)
def test_scan_that_ended_before_its_centre(reconstruct: Any, pipeline: str) -> None:
    scan = scan_of(R2)
    told = r"GRAPPA needs calibration.*not complete \(lines were lost: .*acquire it again"
    with pytest.raises(StageError, match=told):
        reconstruct(pipeline, scan.header_xml, first_lines(scan, 0.2))
    full = scan_of(SamplingConfig())
    told = (
        r"coil maps needs calibration.*not at the centre.*not complete \(lines were lost: .*acquire it again"
    )
    with pytest.raises(StageError, match=told):
        reconstruct(pipeline, full.header_xml, first_lines(full, 0.3))


@pytest.mark.parametrize("pipeline", GRAPPA)
def test_header_without_acceleration(reconstruct: Any, nrmse: Any, pipeline: str) -> None:
    silent = scan_of(R2, quirks=QuirkConfig(absent=("parallelImaging",)))
    told = scan_of(R2)
    ran = reconstruct(pipeline, silent.header_xml, silent.items())
    assert ["R = 2 x 1" in text for text in ran.scan.warnings] == [True]
    expected = reconstruct(pipeline, told.header_xml, told.items())
    assert expected.scan.warnings == []
    assert nrmse(ran.voxels(), expected.voxels()) < 0.03
    zero_filled = reconstruct(pipeline, silent.header_xml, silent.items(), {"grappa.acceleration": [1, 1]})
    assert nrmse(zero_filled.voxels(), expected.voxels()) > 0.1, "the bound bites"


@pytest.mark.parametrize("announced", [True, False])
@pytest.mark.parametrize("pattern", ["random", "variable-density"])
def test_irregular_sampling(reconstruct: Any, pattern: Any, announced: bool) -> None:
    quirks = QuirkConfig(absent=() if announced else ("parallelImaging",))
    sampling = SamplingConfig(pattern=pattern, acceleration=(2.5, 1), acs=(12, 0))
    scan = scan_of(sampling, quirks=quirks)
    with pytest.raises(StageError, match=r"irregular sampling") as raised:
        reconstruct("grappa", scan.header_xml, scan.items())
    assert isinstance(raised.value.cause, ShapeError)
    assert "pipeline 'sense'" in str(raised.value)
    ran = reconstruct("sense", scan.header_xml, scan.items())
    assert ran.images[0].incomplete is None
    told = [] if announced else ["the header announces no acceleration"]
    assert len(ran.scan.warnings) == len(told)
    assert all(text in ran.scan.warnings[0] for text in told)


def test_too_few_calibration_lines_for_sense(reconstruct: Any) -> None:
    scan = scan_of(SamplingConfig(acceleration=(2, 1), acs=(2, 0)))
    with pytest.raises(StageError, match=r"at least 3 along each axis.*kspace_encode_step_1 \d+, \d+"):
        reconstruct("sense", scan.header_xml, scan.items())


@pytest.mark.parametrize("sampling", [SamplingConfig(), R2], ids=["full", "accelerated"])
def test_a_short_readout(reconstruct: Any, sampling: SamplingConfig) -> None:
    scan = scan_of(sampling)
    (*before, block) = [item.copy() if isinstance(item, Readouts) else item for item in scan.items()]
    assert isinstance(block, Readouts)
    at = len(block) // 4
    odd = block.select(slice(at, at + 1))
    n = odd.samples.shape[2]
    short = odd.with_samples(np.ascontiguousarray(odd.samples[:, :, : n // 2 + 4]))
    items = [*before, block.select(slice(0, at)), short, block.select(slice(at + 1, None))]
    ran = reconstruct("grappa", scan.header_xml, items)
    assert "readouts of changing shape" in (ran.images[0].incomplete or "")
    assert f"scan counter {int(odd.headers['scan_counter'][0])} has" in ran.scan.warnings[0]


def test_slices_and_averages_that_never_came(reconstruct: Any) -> None:
    geometry = GeometryConfig(
        matrix=(48, 40, 1),
        fov_mm=(240.0, 200.0, 6.0),
        n_slices=3,
        slice_gap_mm=12.0,
        offset_mm=(0.0, 0.0, 16.0),
    )
    scan = scan_of(SamplingConfig(), geometry=geometry)
    whole = reconstruct("fft", scan.header_xml, scan.items())
    assert whole.scan.warnings == []
    some = [i.select(i.headers["idx"]["slice"] < 2) if isinstance(i, Readouts) else i for i in scan.items()]
    ran = reconstruct("fft", scan.header_xml, some)
    assert len(ran.images) == 2
    assert ["2 of 3 slices came (limits 0..2)" in text for text in ran.scan.warnings] == [True]

    averaged = scan_of(SamplingConfig(), dynamics=DynamicsConfig(averages=3))
    assert reconstruct("fft", averaged.header_xml, averaged.items()).scan.warnings == []
    some = [
        i.select(i.headers["idx"]["average"] < 2) if isinstance(i, Readouts) else i for i in averaged.items()
    ]
    ran = reconstruct("fft", averaged.header_xml, some)
    assert "2 of 3 averages came" in (ran.images[0].incomplete or "")


@pytest.mark.parametrize("share", [0.6, 0.75])
def test_header_without_limits_and_a_scan_that_ended_early(reconstruct: Any, share: float) -> None:
    scan = scan_of(SamplingConfig(), quirks=QuirkConfig(limits="none", center_in_user=False))
    assert reconstruct("fft", scan.header_xml, scan.items()).images[0].incomplete is None
    ran = reconstruct("fft", scan.header_xml, first_lines(scan, share))
    assert "flagged as the last did not come" in (ran.images[0].incomplete or "")


@pytest.mark.parametrize("name", ["brain-oblique", "cine-gated", "bench"])
def test_presets_raise_no_alarm(reconstruct: Any, name: str) -> None:
    config = preset(name)
    small: dict[str, Any] = {"geometry": config.geometry.model_copy(update={"matrix": (64, 64, 1)})}
    if config.dynamics.phases > 1:
        small["dynamics"] = config.dynamics.model_copy(update={"phases": 2})
    scan = simulate(config.model_copy(update=small))
    ran = reconstruct("grappa", scan.header_xml, scan.items())
    assert ran.scan.warnings == []
    assert [image.incomplete for image in ran.images] == [None] * len(ran.images)
