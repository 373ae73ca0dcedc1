"""CG-SENSE as a stage."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import pytest
import torch

from scanside.errors import CalibrationError, ConfigError, StageConfigError
from scanside.items import Calibration
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


@pytest.mark.parametrize(
    ("axes", "sampling"),
    [
        (["k0"], SamplingConfig(acceleration=(2, 1), partial_echo=0.7)),
        (["k1"], SamplingConfig(acceleration=(2, 1), partial_fourier=(0.7, 1))),
    ],
)
def test_one_sided_sampling(accumulated: Any, run_stage: Any, axes: list[str], sampling: Any) -> None:
    """What an asymmetric echo or partial Fourier leaves out is no measured zero, and is completed."""
    scan, (item,), _ = accumulated((64, 60, 1), sampling=sampling)
    expected = np.abs(scan.truth.image() * np.linalg.norm(scan.truth.maps[0], axis=0))

    def found(kspace: Any, **settings: Any) -> tuple[float, Any]:
        ran = run_stage(Sense(**settings), scan.header_xml, [with_true_maps(scan, kspace)])
        magnitude = np.abs(ran.one.data[0].numpy())
        return float(np.linalg.norm(magnitude - expected) / np.linalg.norm(expected)), ran

    completed, ran = found(item)
    assert completed < 0.07
    assert ran.one.meta["ScansidePartialFourier"] == ["pocs", *axes]
    assert ran.scan.warnings == []
    fitted_only, ran = found(item, partial_fourier="none")
    assert fitted_only > 1.5 * completed
    assert "ScansidePartialFourier" not in ran.one.meta
    if axes == ["k0"]:
        zeros_measured, _ = found(item.replace(ranges=None))
        assert zeros_measured > 1.5 * completed


def test_random_pattern_is_not_one_sided(accumulated: Any, run_stage: Any) -> None:
    """That a random pattern spares one end is no partial Fourier."""
    for seed in range(6):
        sampling = SamplingConfig(pattern="variable-density", acceleration=(3, 1), acs=(8, 0), seed=seed)
        scan, (item,), _ = accumulated(sampling=sampling)
        ran = run_stage(Sense(), scan.header_xml, [with_true_maps(scan, item)])
        assert "ScansidePartialFourier" not in ran.one.meta


def test_weak_regularisation_by_default(accumulated: Any, run_stage: Any) -> None:
    """At moderate noise and acceleration the default adds next to nothing to the error without any."""
    sampling = SamplingConfig(acceleration=(3, 1), acs=(12, 0), acs_mode="separate")
    scan, (item,), _ = accumulated((64, 60, 1), sampling=sampling)
    kspace = with_true_maps(scan, item)

    def found(**settings: Any) -> Any:
        return run_stage(Sense(tolerance=1e-6, **settings), scan.header_xml, [kspace]).one

    unbiased = found(l2=0.0, max_iterations=500).data[0].numpy()
    assert error(found(), unbiased) < 0.04
    assert error(found(l2=0.01), unbiased) > 0.06


# By columns


@pytest.mark.parametrize("sampling", [RANDOM, SamplingConfig(acceleration=(3, 1))])
def test_columns_are_converged_iterations(accumulated: Any, run_stage: Any, sampling: Any) -> None:
    scan, (item,), _ = accumulated(sampling=sampling)
    item = with_true_maps(scan, item)
    exact = run_stage(Sense(solver="columns", l2=0.01), scan.header_xml, [item])
    iterated = run_stage(Sense(l2=0.01, tolerance=1e-6, max_iterations=500), scan.header_xml, [item])
    assert error(exact.one, iterated.one.data[0].numpy()) < 1e-4
    assert exact.scan.warnings == []
    assert exact.one.meta["SenseSolver"] == ["columns"]
    assert "SenseIterations" not in exact.one.meta
    assert iterated.one.meta["SenseSolver"] == ["cg"]
    stopped = run_stage(Sense(l2=0.01, tolerance=0.05), scan.header_xml, [item]).one
    assert error(stopped, iterated.one.data[0].numpy()) > 1e-3


def test_columns_of_frames(accumulated: Any, run_stage: Any) -> None:
    """Each with its own pattern, as one by one."""
    parts: dict[str, Any] = {
        "sampling": RANDOM.model_copy(update={"vary": True}),
        "dynamics": DynamicsConfig(phases=2),
        "phantom": PhantomConfig(kind="cardiac"),
    }
    scan, apart, _ = accumulated(**parts)
    _, together, _ = accumulated(settings={"together": ["phase"]}, **parts)
    stage = Sense(solver="columns")
    one_by_one = run_stage(stage, scan.header_xml, [with_true_maps(scan, item) for item in apart]).items
    at_once = run_stage(stage, scan.header_xml, [with_true_maps(scan, item) for item in together]).items
    for a, b in zip(at_once, one_by_one, strict=True):
        assert error(a, b.data[0].numpy()) < 1e-4
    assert error(at_once[0], one_by_one[1].data[0].numpy()) > 1e-2


def test_repetitions_are_factorised_once(accumulated: Any, run_stage: Any, made_by: list[str]) -> None:
    scan, (item,), _ = accumulated(sampling=RANDOM)
    item = with_true_maps(scan, item)
    again = item.replace(data=2 * item.data, mask=item.mask.clone(), coil_maps=item.coil_maps.clone())
    first, second = run_stage(Sense(solver="columns"), scan.header_xml, [item, again]).items
    assert len(made_by) == 1
    torch.testing.assert_close(second.data, 2 * first.data)


def test_maps_that_were_changed_in_place(accumulated: Any, run_stage: Any, made_by: list[str]) -> None:
    scan, (item,), _ = accumulated(sampling=RANDOM)
    item = with_true_maps(scan, item)
    stage = Sense(solver="columns")
    expected = run_stage(stage, scan.header_xml, [item]).one
    item.coil_maps *= 2  # the image is half of what it was, and the weight counts four times as little
    stage.open(expected_scan := run_stage(stage, scan.header_xml, []).scan)
    list(stage.process(item))
    item.coil_maps /= 2
    (image,) = stage.process(item)
    stage.close()
    assert expected_scan.warnings == []
    torch.testing.assert_close(image.data, expected.data)
    assert len(made_by) == 3


def test_columns_are_begun_early(accumulated: Any, run_stage: Any, made_by: list[str]) -> None:
    """When the calibration lines are there, and the lines can be told."""
    scan, (item,), _ = accumulated(sampling=RANDOM)
    item = with_true_maps(scan, item)
    outline = item.replace(data=item.data.new_zeros(()).expand(item.data.shape), mask=item.mask & False)
    early = Calibration(outline, item.mask.clone())
    image = run_stage(Sense(solver="columns"), scan.header_xml, [early, item]).one
    assert len(made_by) == 1
    assert made_by[0] != threading.current_thread().name
    torch.testing.assert_close(
        image.data, run_stage(Sense(solver="columns"), scan.header_xml, [item]).one.data
    )
    made_by.clear()
    run_stage(Sense(solver="columns"), scan.header_xml, [Calibration(outline, None), item])
    run_stage(Sense(), scan.header_xml, [early, item])
    assert made_by == [threading.current_thread().name]


def test_lines_that_were_not_as_expected(accumulated: Any, run_stage: Any) -> None:
    scan, (item,), _ = accumulated(sampling=RANDOM)
    item = with_true_maps(scan, item)
    wrong = item.mask.clone()
    wrong[..., ::2] = True
    image = run_stage(Sense(solver="columns"), scan.header_xml, [Calibration(item, wrong), item]).one
    torch.testing.assert_close(
        image.data, run_stage(Sense(solver="columns"), scan.header_xml, [item]).one.data
    )


def test_where_columns_do_not_serve(accumulated: Any, run_stage: Any) -> None:
    """It iterates, and says why."""
    scan, (item,), _ = accumulated(
        (64, 60, 1), sampling=SamplingConfig(acceleration=(2, 1), partial_echo=0.7)
    )
    ran = run_stage(Sense(solver="columns"), scan.header_xml, [with_true_maps(scan, item)])
    assert ran.one.meta["SenseSolver"] == ["cg"]
    assert "asymmetric echo" in ran.scan.warnings[0]
    scan, (item,), _ = accumulated((16, 16, 8), sampling=SamplingConfig(acceleration=(2, 1)))
    ran = run_stage(Sense(solver="columns"), scan.header_xml, [with_true_maps(scan, item)])
    assert ran.one.meta["SenseSolver"] == ["cg"]
    assert "8 partitions" in ran.scan.warnings[0]
    scan, (item,), _ = accumulated((16, 384, 1), sampling=SamplingConfig(acceleration=(2, 1)))
    ran = run_stage(Sense(solver="columns"), scan.header_xml, [with_true_maps(scan, item)])
    assert ran.one.meta["SenseSolver"] == ["cg"]
    assert "384 rows, and no more than 383" in ran.scan.warnings[0]


def test_columns_need_a_weight() -> None:
    with pytest.raises(StageConfigError, match="l2 > 0"):
        Sense(solver="columns", l2=0)


def test_columns_of_nothing(accumulated: Any, run_stage: Any) -> None:
    """No samples give no image; maps of zero give none of what was sampled."""
    scan, (item,), _ = accumulated(sampling=RANDOM)
    item = with_true_maps(scan, item)
    empty = run_stage(Sense(solver="columns"), scan.header_xml, [item.replace(data=0 * item.data)]).one
    assert not empty.data.any()
    with pytest.raises(CalibrationError, match="zero everywhere"):
        run_stage(Sense(solver="columns"), scan.header_xml, [item.replace(coil_maps=0 * item.coil_maps)])
