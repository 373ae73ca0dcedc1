"""Frames whose lines take turns are calibrated together."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from scanside import Context, Pipeline, Scan, ScanEnd
from scanside.errors import CalibrationError
from scanside.execution import execute
from scanside.items import Readouts
from scanside.simulate import DynamicsConfig, SamplingConfig
from scanside.stages.coil_maps import CoilMaps
from scanside.stages.grappa import Grappa

TURNS = SamplingConfig(pattern="kt", acceleration=(3, 1))
FRAMES = DynamicsConfig(repetitions=7)


def test_reference_of_the_first_whole_set(accumulated: Any) -> None:
    """As many frames as make a whole k-space wait; all later ones have the same reference and go on at once."""
    _, items, _ = accumulated(sampling=TURNS, dynamics=FRAMES)
    _, (full,), _ = accumulated()
    assert [item.counters["repetition"] for item in items] == list(range(7))
    reference = items[0].reference
    assert all(item.reference is reference for item in items)
    assert reference.mask.all()
    assert reference.data.shape == full.data.shape
    torch.testing.assert_close(reference.data, full.data, rtol=1e-4, atol=1e-5)
    assert (reference.headers["version"] > 0).all()


def test_first_frames_wait_no_longer_than_they_must(accumulated: Any) -> None:
    from scanside.stages.accumulate import Accumulate

    scan, _, _ = accumulated(sampling=TURNS, dynamics=FRAMES)
    stage, told = Accumulate(), Scan.from_xml(scan.header_xml)
    stage.prepare(Context(device="cpu"))
    stage.open(told)
    given, came = [], 0
    for item in scan.items(1):
        assert isinstance(item, Readouts)
        came = max(came, int(item.headers["idx"]["repetition"][0]) + 1)
        given += [(came, frame.counters["repetition"]) for frame in stage.process(item)]
    given += [(99, frame.counters["repetition"]) for frame in stage.finish(ScanEnd())]
    stage.close()
    assert given == [(3, 0), (3, 1), (3, 2), (4, 3), (5, 4), (6, 5), (7, 6)]


@pytest.mark.parametrize("slices", [1, 2])
def test_images(accumulated: Any, run_stage: Any, slices: int) -> None:
    """GRAPPA and coil maps are as good as with calibration lines of their own; each slice has its own."""
    from scanside.simulate import GeometryConfig

    geometry = GeometryConfig(
        matrix=(40, 36, 1), fov_mm=(240.0, 216.0, 6.0), n_slices=slices, slice_gap_mm=40.0
    )
    scan, items, _ = accumulated(sampling=TURNS, dynamics=FRAMES, geometry=geometry)
    _, full, _ = accumulated(geometry=geometry)
    assert len(items) == 7 * slices
    for filled in run_stage(Grappa(), scan.header_xml, items).items:
        whole = full[filled.counters["slice"]].data
        assert (filled.data - whole).norm() < 0.12 * whole.norm()
    for item in run_stage(CoilMaps(method="espirit"), scan.header_xml, items).items:
        truth = torch.from_numpy(scan.truth.maps[item.counters["slice"]])
        truth = truth / torch.linalg.vector_norm(truth, dim=0)
        inside = torch.from_numpy(scan.truth.mask[item.counters["slice"]])
        overlap = (item.coil_maps.conj() * truth).sum(0).abs()[inside]
        assert overlap.median() > 0.98


def test_frames_with_calibration_lines_do_not_wait(accumulated: Any) -> None:
    own = SamplingConfig(pattern="kt", acceleration=(3, 1), acs=(12, 0))
    _, items, _ = accumulated(sampling=own, dynamics=FRAMES)
    assert len({id(item.reference) for item in items}) == 7
    assert all(item.reference.mask.numel() == 12 for item in items)
    _, items, _ = accumulated(dynamics=FRAMES)
    assert all(item.reference is None for item in items), "nor those that are whole"


def test_the_same_lines_in_every_frame(accumulated: Any, run_stage: Any) -> None:
    """They calibrate nothing, however many: what is missing is told, and nothing waits for ever."""
    scan, items, _ = accumulated(sampling=SamplingConfig(acceleration=(3, 1)), dynamics=FRAMES)
    assert len(items) == 7
    with pytest.raises(CalibrationError, match="there are none: no two adjacent lines"):
        run_stage(Grappa(), scan.header_xml, items)


def test_error_names_the_mode(accumulated: Any, run_stage: Any) -> None:
    """The header promises other frames, and none came."""
    scan, items, _ = accumulated(sampling=TURNS, dynamics=DynamicsConfig(repetitions=1))
    xml = scan.header_xml.replace(b">other<", b">interleaved<")
    assert b"interleaved" in xml
    item = items[0].replace(encoding=Scan.from_xml(xml).encoding())
    for stage in (Grappa(), CoilMaps(method="espirit")):
        with pytest.raises(CalibrationError, match="calibrationMode interleaved"):
            run_stage(stage, xml, [item])


def test_windows_calibrate_themselves(accumulated: Any) -> None:
    """In front of a stage that joins frames, none waits and none has a reference: films stay what they are."""
    scan, _, _ = accumulated(sampling=TURNS, dynamics=FRAMES)
    stages = ["oversampling", "accumulate", {"window": {"size": 6, "look_ahead": 1}}]
    pipeline, told = Pipeline.from_config({"name": "film", "stages": stages}), Scan.from_xml(scan.header_xml)
    pipeline.prepare(Context(device="cpu"))
    frames: list[Any] = []
    windows: list[Any] = []

    def observe(label: str, item: Any) -> None:
        if label == "accumulate":
            frames.append(item)

    with pipeline.open(told, observe=observe) as run:
        execute(run, scan.items(), windows.append)
    assert [frame.reference for frame in frames] == [None] * 7
    average = np.mean([np.abs(frame.data.numpy()).sum() for frame in frames[:6]]) * 3
    assert np.abs(windows[0].reference.data.numpy()).sum() == pytest.approx(average, rel=1e-3)
