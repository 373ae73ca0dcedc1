"""Shipped pipelines for trajectories against the truth of simulated scans."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from scanside import Context, Image, Pipeline, Readouts, Scan, ScanEnd
from scanside.errors import StageError
from scanside.simulate import (
    CoilConfig,
    DynamicsConfig,
    GeometryConfig,
    NoiseConfig,
    SamplingConfig,
    ScanConfig,
    SimulatedScan,
    TrajectoryConfig,
    simulate,
)

Pixels = npt.NDArray[Any]
SLICE = GeometryConfig(
    matrix=(96, 96, 1), fov_mm=(240.0, 240.0, 5.0), offset_mm=(6.0, -4.0, 20.0), in_plane_deg=20
)


def scan_of(
    *, std: float = 0.002, repetitions: int = 1, geometry: GeometryConfig = SLICE, **trajectory: Any
) -> SimulatedScan:
    return simulate(
        ScanConfig(
            geometry=geometry,
            coils=CoilConfig(n_coils=8),
            # Coils that are all alike in noise: images are the truth times the coils' root sum of squares.
            noise=NoiseConfig(std=std, spread=0.0, neighbour_correlation=0.0),
            sampling=SamplingConfig(trajectory=TrajectoryConfig(**trajectory)),
            dynamics=DynamicsConfig(repetitions=repetitions),
        )
    )


def images_of(
    simulated: SimulatedScan,
    pipeline: str | Pipeline,
    settings: dict[str, Any] | None = None,
    change: Callable[[Readouts], Readouts] = lambda block: block,
) -> tuple[list[Image], Scan]:
    ready = pipeline if isinstance(pipeline, Pipeline) else Pipeline.load(pipeline, settings)
    ready.prepare(Context(device="cpu"))
    scan = Scan.from_xml(simulated.header_xml)
    made: list[Image] = []
    with ready.open(scan) as run:
        for item in simulated.items():
            item = change(item) if isinstance(item, Readouts) else item
            made += [out for out in run.push(item) if isinstance(out, Image)]
        made += [out for out in run.finish(ScanEnd()) if isinstance(out, Image)]
    return made, scan


def error(image: Image, simulated: SimulatedScan, *, weighted: bool = True) -> float:
    """NRMSE in the object, after the best factor, against the truth as coils of length 1 show it."""
    truth = np.abs(simulated.truth.image())
    if weighted:
        truth = truth * np.sqrt((np.abs(simulated.truth.maps[0]) ** 2).sum(0))
    mask = simulated.truth.mask[0]
    found = np.abs(np.asarray(image.data[0]))
    a, b = found[mask], truth[mask]
    return float(np.linalg.norm(a * (a @ b) / (a @ a) - b) / np.linalg.norm(b))


@pytest.mark.parametrize(
    ("pipeline", "limit", "trajectory"),
    [
        ("radial", 0.04, {"readouts": 150}),
        ("radial", 0.04, {"readouts": 38}),
        ("radial", 0.04, {"readouts": 40, "angles": "golden", "unit": "matrix"}),
        ("spiral", 0.04, {"kind": "spiral", "readouts": 24, "samples": 600, "unit": "metre"}),
        ("spiral", 0.04, {"kind": "spiral", "readouts": 8, "full": 24, "samples": 600}),
    ],
)
def test_images_are_the_object(pipeline: str, limit: float, trajectory: dict[str, Any]) -> None:
    simulated = scan_of(**trajectory)
    made, scan = images_of(simulated, pipeline)
    assert len(made) == 1
    assert not scan.warnings
    assert error(made[0], simulated) <= limit
    header = made[0].header
    assert tuple(header["matrix_size"]) == (96, 96, 1)
    np.testing.assert_allclose(header["position"], simulated.grid.positions[0], atol=1e-4)
    np.testing.assert_allclose(header["field_of_view"], (240, 240, 5))


def test_sense_takes_streaks_away_that_gridding_leaves() -> None:
    simulated = scan_of(readouts=30)
    gridded, _ = images_of(simulated, "radial-realtime", {"gather.readouts": 30, "gather.step": 30})
    solved, _ = images_of(simulated, "radial")
    assert error(gridded[0], simulated) > 1.8 * error(solved[0], simulated)


def test_compressed_sensing_is_better_of_few_spokes() -> None:
    simulated = scan_of(readouts=26, std=0.1)
    solved, _ = images_of(simulated, "radial")
    sparse, scan = images_of(
        simulated, "radial-pics", {"noncartesian-pics.wavelet": 0.01, "noncartesian-pics.tolerance": 0.01}
    )
    assert not scan.warnings
    assert error(sparse[0], simulated) < 0.9 * error(solved[0], simulated)


def test_a_sliding_window_gives_an_image_after_every_step() -> None:
    simulated = scan_of(readouts=34, angles="golden", repetitions=3)
    made, _ = images_of(simulated, "radial-realtime")
    assert [int(one.header["repetition"]) for one in made] == [0, 1, 2, 3, 4]
    assert max(error(one, simulated) for one in made) <= 0.25


def test_without_whitening_intensities_are_those_of_the_object() -> None:
    """Density compensation keeps the scale: with coils of length 1, an image is the object itself."""
    simulated = scan_of(readouts=200)
    made, _ = images_of(simulated, "radial", {"noise.enabled": False})
    truth = np.abs(simulated.truth.image()) * np.sqrt((np.abs(simulated.truth.maps[0]) ** 2).sum(0))
    inside = simulated.truth.mask[0]
    ratio = float(np.median(np.abs(np.asarray(made[0].data[0]))[inside] / truth[inside]))
    assert ratio == pytest.approx(1.0, abs=0.01)


@pytest.mark.slow
def test_a_volume_of_a_stack_of_stars() -> None:
    volume = GeometryConfig(matrix=(48, 48, 12), fov_mm=(240.0, 240.0, 96.0))
    simulated = scan_of(kind="stack-of-stars", readouts=40, geometry=volume)
    made, _ = images_of(simulated, "radial", {"centre-maps.calibration": 12})
    assert tuple(made[0].header["matrix_size"]) == (48, 48, 12)
    assert error(made[0], simulated) <= 0.08


@pytest.mark.parametrize("name", ["radial", "radial-realtime", "spiral"])
def test_without_finufft_a_pipeline_says_so_before_a_scan(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "finufft", None)
    with pytest.raises(StageError, match=r"pip install 'scanside\[noncartesian\]'"):
        Pipeline.load(name).prepare(Context(device="cpu"))


def test_a_trajectory_that_is_wrong_by_a_factor_makes_no_image() -> None:
    def wrong(block: Readouts) -> Readouts:
        scaled = None if block.trajectory is None else block.trajectory * 0.4
        return Readouts(block.headers, block.samples, scaled)

    with pytest.raises(StageError, match="unit of the trajectory cannot be told"):
        images_of(scan_of(readouts=20), "radial", change=wrong)


def test_samples_that_are_no_numbers_are_named() -> None:
    def broken(block: Readouts) -> Readouts:
        block.samples[block.headers["scan_counter"] == 30] = np.nan
        return block

    told = "1 readouts hold NaN or infinite samples, the first with scan counter 30"
    for pipeline in ("radial", "radial-realtime"):
        with pytest.raises(StageError, match=told):
            images_of(scan_of(readouts=40), pipeline, change=broken)


def test_too_few_spokes_for_coil_maps() -> None:
    with pytest.raises(StageError, match="take more readouts for each image"):
        images_of(scan_of(readouts=3), "radial")


def test_solutions_that_have_not_converged_are_told() -> None:
    _, scan = images_of(scan_of(readouts=30), "radial", {"noncartesian-sense.max_iterations": 2})
    assert any("CG-SENSE stopped after 2 iterations" in text for text in scan.warnings)


def test_maps_are_needed() -> None:
    document = {"name": "without-maps", "stages": ["gather", "noncartesian-sense", "finish"]}
    with pytest.raises(StageError, match="add 'centre-maps'"):
        images_of(scan_of(readouts=20), Pipeline.from_config(document))


def test_gridding_with_maps_needs_maps() -> None:
    document = {"name": "without-maps", "stages": ["gather", {"gridding": {"combine": "maps"}}, "finish"]}
    with pytest.raises(StageError, match="add 'centre-maps'"):
        images_of(scan_of(readouts=20), Pipeline.from_config(document))
