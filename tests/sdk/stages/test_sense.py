"""CG-SENSE as a stage."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from scanside.errors import ConfigError
from scanside.simulate import DynamicsConfig, PhantomConfig, SamplingConfig
from scanside.stages.sense import Sense

RANDOM = SamplingConfig(pattern="variable-density", acceleration=(2, 1), acs=(8, 0))


def with_true_maps(scan: Any, item: Any) -> Any:
    maps = torch.from_numpy(scan.truth.maps[item.counters["slice"]])
    return item.replace(coil_maps=maps / maps.norm(dim=0))


def error(image: Any, expected: Any) -> float:
    found = image.data[0].numpy()
    return float(np.linalg.norm(found - expected) / np.linalg.norm(expected))


def test_finds_the_object(accumulated: Any, run_stage: Any) -> None:
    """With the coils' true sensitivities it is the object, phase included, times their root sum of squares."""
    scan, (item,), _ = accumulated(sampling=SamplingConfig(acceleration=(2, 1)))
    expected = scan.truth.image() * np.linalg.norm(scan.truth.maps[0], axis=0)
    ran = run_stage(
        Sense(l2=1e-3, tolerance=1e-5, max_iterations=300), scan.header_xml, [with_true_maps(scan, item)]
    )
    assert error(ran.one, expected) < 0.08
    assert (
        error(run_stage(Sense(max_iterations=1), scan.header_xml, [with_true_maps(scan, item)]).one, expected)
        > 0.1
    )
    assert ran.scan.warnings == []
    assert int(ran.one.meta.first("SenseIterations")) > 5
    assert float(ran.one.meta.first("SenseResidual")) <= 1e-5
    assert ran.one.header["matrix_size"].tolist() == [40, 36, 1]


def test_early_stop_is_told(accumulated: Any, run_stage: Any) -> None:
    scan, (item,), _ = accumulated(sampling=RANDOM)
    ran = run_stage(Sense(max_iterations=2), scan.header_xml, [with_true_maps(scan, item)])
    assert "stopped after 2 iterations" in ran.scan.warnings[0]
    assert ran.one.meta["SenseIterations"] == ["2"]


def test_maps_must_be_there(accumulated: Any, run_stage: Any) -> None:
    scan, (item,), _ = accumulated(sampling=RANDOM)
    with pytest.raises(ConfigError, match="add 'coil-maps'"):
        run_stage(Sense(), scan.header_xml, [item])


def test_frames(accumulated: Any, run_stage: Any) -> None:
    """Frames with patterns of their own, together and one by one."""
    parts: dict[str, Any] = {
        "sampling": RANDOM.model_copy(update={"vary": True}),
        "dynamics": DynamicsConfig(phases=2),
        "phantom": PhantomConfig(kind="cardiac"),
    }
    scan, apart, _ = accumulated(**parts)
    _, together, _ = accumulated(settings={"together": ["phase"]}, **parts)
    stage = Sense(tolerance=1e-6, max_iterations=200)
    one_by_one = run_stage(stage, scan.header_xml, [with_true_maps(scan, item) for item in apart]).items
    at_once = run_stage(stage, scan.header_xml, [with_true_maps(scan, item) for item in together]).items
    assert [int(image.header["phase"]) for image in at_once] == [0, 1]
    for a, b in zip(at_once, one_by_one, strict=True):
        assert error(a, b.data[0].numpy()) < 1e-3
