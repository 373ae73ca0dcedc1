"""Images of spokes whose gradients lag behind."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch

from scanside import Context, Image, Pipeline, Readouts, Scan, ScanEnd
from scanside.errors import NonFiniteError
from scanside.items import Samples
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
from scanside.stages.gather import GatherSamples
from scanside.stages.gradient_delays import GradientDelays

SLICE = GeometryConfig(matrix=(64, 64, 1), fov_mm=(240.0, 240.0, 5.0), offset_mm=(6.0, -4.0, 20.0))
LAG: dict[str, Any] = {"delay": (1.3, -0.7), "delay_xy": 0.4}


def scan_of(
    *, std: float = 0.002, repetitions: int = 1, geometry: GeometryConfig = SLICE, **trajectory: Any
) -> SimulatedScan:
    return simulate(
        ScanConfig(
            geometry=geometry,
            coils=CoilConfig(n_coils=6),
            noise=NoiseConfig(std=std, spread=0.0, neighbour_correlation=0.0),
            sampling=SamplingConfig(trajectory=TrajectoryConfig(**trajectory)),
            dynamics=DynamicsConfig(repetitions=repetitions),
        )
    )


def images_of(simulated: SimulatedScan, pipeline: str, **settings: Any) -> tuple[list[Image], Scan]:
    ready = Pipeline.load(pipeline, {name.replace("__", "."): value for name, value in settings.items()})
    ready.prepare(Context(device="cpu"))
    scan = Scan.from_xml(simulated.header_xml)
    made: list[Image] = []
    with ready.open(scan) as run:
        for item in simulated.items():
            made += [out for out in run.push(item) if isinstance(out, Image)]
        made += [out for out in run.finish(ScanEnd()) if isinstance(out, Image)]
    return made, scan


def error(image: Image, simulated: SimulatedScan) -> float:
    """NRMSE in the object, after the best factor, against the truth as whitened coils show it."""
    truth = np.abs(simulated.truth.image()) * np.sqrt((np.abs(simulated.truth.maps[0]) ** 2).sum(0))
    mask = simulated.truth.mask[0]
    a, b = np.abs(np.asarray(image.data[0]))[mask], truth[mask]
    return float(np.linalg.norm(a * (a @ b) / (a @ a) - b) / np.linalg.norm(b))


def told(image: Image) -> list[float]:
    return [float(value) for value in image.meta["GradientDelays"]]


def samples_of(
    simulated: SimulatedScan, stage: GradientDelays, **settings: Any
) -> tuple[list[Samples], Scan]:
    """What the stage makes of what is gathered."""
    scan = Scan.from_xml(simulated.header_xml)
    gather = GatherSamples(**settings)
    gather.prepare(Context(device="cpu"))
    gather.open(scan)
    stage.open(scan)

    def gathered() -> Iterator[Samples]:
        for item in simulated.items():
            if isinstance(item, Readouts):
                yield from gather.process(item)
        yield from gather.finish(ScanEnd())

    return [made for one in gathered() for made in stage.process(one)], scan


@pytest.mark.parametrize("angles", ["full-circle", "golden"])
def test_images_are_as_good_as_without_delays(angles: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "scanside")
    late, plain = scan_of(readouts=41, angles=angles, **LAG), scan_of(readouts=41, angles=angles)
    (corrected,), scan = images_of(late, "radial")
    (reference,), _ = images_of(plain, "radial")
    (uncorrected,), _ = images_of(late, "radial", **{"gradient-delays__enabled": False})
    assert error(corrected, late) <= 1.1 * error(reference, plain) + 0.005
    assert error(uncorrected, late) > 3 * error(corrected, late)
    assert told(corrected) == pytest.approx((1.3, -0.7, 0.4), abs=0.05)
    assert float(corrected.meta.first("GradientDelaysError")) <= 0.01
    assert "GradientDelays" not in uncorrected.meta
    assert "gradient delays of slice 0, contrast 0: x 1.3" in caplog.text
    assert not scan.warnings


def test_gridding_in_real_time_keeps_the_delays_of_the_first_window() -> None:
    late = scan_of(readouts=34, angles="golden", repetitions=2, **LAG)
    made, _ = images_of(late, "radial-realtime")
    plain, _ = images_of(scan_of(readouts=34, angles="golden", repetitions=2), "radial-realtime")
    assert len(made) == 3
    assert len({tuple(image.meta["GradientDelays"]) for image in made}) == 1
    for corrected, reference in zip(made, plain, strict=True):
        assert error(corrected, late) <= 1.1 * error(reference, late) + 0.005


def test_each_image_may_have_its_own() -> None:
    late = scan_of(readouts=20, angles="golden", repetitions=2, std=0.05, **LAG)
    made, _ = samples_of(late, GradientDelays(estimate="each"))
    assert len({tuple(one.meta["GradientDelays"]) for one in made}) == 2


def test_a_stack_of_stars() -> None:
    volume = GeometryConfig(matrix=(32, 32, 6), fov_mm=(240.0, 240.0, 60.0))
    late = scan_of(kind="stack-of-stars", readouts=20, geometry=volume, **LAG)
    (moved,), scan = samples_of(late, GradientDelays())
    assert [float(value) for value in moved.meta["GradientDelays"]] == pytest.approx(
        (1.3, -0.7, 0.4), abs=0.05
    )
    assert not scan.warnings
    assert moved.points.shape[-1] == 3


@pytest.mark.parametrize(
    ("change", "why"),
    [({"readouts": 4}, "4 spokes have"), ({"readouts": 30, "std": 30.0}, "spokes differ in")],
)
def test_what_cannot_be_trusted_corrects_nothing_and_is_told(change: dict[str, Any], why: str) -> None:
    late = scan_of(**change, **LAG)
    (passed,), scan = samples_of(late, GradientDelays())
    (plain,), _ = samples_of(late, GradientDelays(enabled=False))
    torch.testing.assert_close(passed.points, plain.points, rtol=0, atol=0)
    assert why in passed.meta.first("GradientDelaysRefused")
    assert "GradientDelays" not in passed.meta
    assert any(
        text.startswith("gradient delays are not corrected: ") and why in text for text in scan.warnings
    )


def test_spirals_pass_and_say_so() -> None:
    (passed,), scan = samples_of(scan_of(kind="spiral", readouts=8, samples=300), GradientDelays())
    assert passed.meta.first("GradientDelaysRefused") == "the readouts are no spokes of a plane"
    assert not scan.warnings


def test_samples_that_are_no_numbers() -> None:
    scan = scan_of(readouts=20)
    (item,), _ = samples_of(scan, GradientDelays(enabled=False))
    item.data[:, 3] = torch.nan
    stage = GradientDelays()
    stage.open(Scan.from_xml(scan.header_xml))
    with pytest.raises(NonFiniteError, match="1 readouts hold NaN"):
        list(stage.process(item))
