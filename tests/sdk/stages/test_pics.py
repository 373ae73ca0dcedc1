"""Compressed sensing as stages: better than SENSE where lines are few, and told where it cannot be."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from scanside import Scan, ScanEnd
from scanside.errors import ConfigError, NonFiniteError, ShapeError, StageConfigError
from scanside.items import KSpace
from scanside.simulate import CoilConfig, DynamicsConfig, NoiseConfig, PhantomConfig, SamplingConfig
from scanside.stages._classical import Classical
from scanside.stages.pics import Pics
from scanside.stages.sense import Sense
from scanside.stages.window import JoinFrames
from scanside.testing import small_kspace

SAMPLING = SamplingConfig(pattern="variable-density", acceleration=(4, 1), acs=(12, 0))


def with_maps(scan: Any, item: KSpace) -> KSpace:
    maps = torch.from_numpy(scan.truth.maps[0])
    return item.replace(coil_maps=maps / maps.norm(dim=0))


@pytest.fixture(scope="module")
def noise() -> NoiseConfig:
    return NoiseConfig(std=0.05, neighbour_correlation=0.0, spread=0.0, scan="none")


@pytest.fixture
def slice_of_few_lines(accumulated: Any, noise: NoiseConfig) -> tuple[Any, KSpace]:
    scan, (item,), _ = accumulated((80, 72, 1), coils=CoilConfig(n_coils=6), sampling=SAMPLING, noise=noise)
    return scan, with_maps(scan, item)


@pytest.fixture
def beating(accumulated: Any) -> tuple[Any, KSpace]:
    """A beat in 12 undersampled frames as one window."""
    scan, frames, _ = accumulated(
        phantom=PhantomConfig(kind="cardiac"),
        dynamics=DynamicsConfig(phases=12),
        sampling=SamplingConfig(pattern="variable-density", acceleration=(4, 1), acs=(4, 0), vary=True),
    )
    stage = JoinFrames(along="phase", size=12, stride=12, look_ahead=0)
    stage.open(Scan.from_xml(scan.header_xml))
    (window,) = (*(one for frame in frames for one in stage.process(frame)), *stage.finish(ScanEnd()))
    return scan, with_maps(scan, window)


def error(scan: Any, images: list[Any]) -> float:
    shading = np.linalg.norm(scan.truth.maps[0], axis=0)
    expected = np.stack([scan.truth.image(phase=int(image.header["phase"])) * shading for image in images])
    found = np.stack([image.data[0].numpy() for image in images])
    return float(np.linalg.norm(found - expected) / np.linalg.norm(expected))


@pytest.mark.parametrize(
    "settings", [{"noise": 0.25}, {"wavelet": 0, "tv": 0.005}, {"tv": 0.003, "shifts": 1}]
)
def test_better_than_sense(slice_of_few_lines: Any, run_stage: Any, settings: dict[str, float]) -> None:
    scan, item = slice_of_few_lines
    ran = run_stage(Pics(**settings), scan.header_xml, [item])
    sense = run_stage(Sense(l2_noise=10), scan.header_xml, [item])
    assert error(scan, ran.items) < 0.93 * error(scan, sense.items)
    assert ran.scan.warnings == []
    assert 5 < int(ran.one.meta.first("PicsIterations")) < 100


def test_weights_do_not_depend_on_the_gain(slice_of_few_lines: Any, run_stage: Any) -> None:
    scan, item = slice_of_few_lines
    stage = Pics(max_iterations=4, tolerance=0.5, tv=0.01)
    image = run_stage(stage, scan.header_xml, [item]).one
    louder = run_stage(stage, scan.header_xml, [item.replace(data=512 * item.data)]).one
    torch.testing.assert_close(louder.data, 512 * image.data)


def test_the_weight_follows_the_noise(slice_of_few_lines: Any, run_stage: Any) -> None:
    scan, item = slice_of_few_lines
    fixed = run_stage(Pics(noise=0, shifts=1), scan.header_xml, [item]).one
    assert "PicsWeight" not in fixed.meta
    raised = run_stage(Pics(wavelet=1e-4, noise=1, shifts=1), scan.header_xml, [item]).one
    weight = float(raised.meta.first("PicsWeight"))
    assert 0.01 < weight < 0.2
    by_hand = run_stage(Pics(wavelet=weight, shifts=1), scan.header_xml, [item]).one
    assert float((by_hand.data - raised.data).norm() / raised.data.norm()) < 2e-3


def test_films_together_are_better_than_apart(beating: Any, run_stage: Any) -> None:
    scan, window = beating
    quick: dict[str, Any] = {"shifts": 1, "tolerance": 5e-3, "max_iterations": 40}
    apart = run_stage(Pics(**quick), scan.header_xml, [window])
    assert [int(image.header["phase"]) for image in apart.items] == list(range(12))
    assert len(apart.items[0].meta["PicsIterations"]) == 12
    together = Pics(frames="together", wavelet=0.002, temporal_tv=0.01, **quick)
    ran = run_stage(together, scan.header_xml, [window])
    assert error(scan, ran.items) < 0.85 * error(scan, apart.items)
    some = run_stage(together, scan.header_xml, [window.replace(wanted=(3, 4))]).items
    assert [int(image.header["phase"]) for image in some] == [3, 4]
    assert torch.equal(some[0].data, ran.items[3].data)


def test_a_slab(accumulated: Any, run_stage: Any, noise: NoiseConfig) -> None:
    scan, (item,), _ = accumulated(
        (32, 32, 16),
        sampling=SamplingConfig(pattern="poisson", acceleration=(2, 2), acs=(10, 8)),
        noise=noise,
    )
    item = with_maps(scan, item)
    ran = run_stage(Pics(wavelet=0.01, shifts=1, tolerance=0.01), scan.header_xml, [item])
    sense = run_stage(Sense(), scan.header_xml, [item])
    assert error(scan, ran.items) < 0.85 * error(scan, sense.items)


def test_early_stop_is_told(slice_of_few_lines: Any, run_stage: Any) -> None:
    scan, item = slice_of_few_lines
    (warning,) = run_stage(Pics(max_iterations=2), scan.header_xml, [item]).scan.warnings
    assert "stopped after 2 iterations while the image still changed by" in warning
    assert "raise pics.max_iterations or pics.tolerance" in warning


def test_settings_that_cannot_be_are_told() -> None:
    with pytest.raises(StageConfigError, match="all weights are 0: compressed sensing needs a penalty"):
        Pics(wavelet=0)
    with pytest.raises(StageConfigError, match="greater than or equal to 0"):
        Pics(wavelet=-0.01)
    with pytest.raises(StageConfigError, match="shifts must be 1, 2, 4 or 8, got 3"):
        Pics(shifts=3)
    with pytest.raises(StageConfigError, match="temporal_tv needs frames: together"):
        Pics(temporal_tv=0.1)


def test_what_is_missing_is_said(slice_of_few_lines: Any, run_stage: Any) -> None:
    scan, item = slice_of_few_lines
    with pytest.raises(ConfigError, match="compressed sensing needs coil maps"):
        run_stage(Pics(), scan.header_xml, [item.replace(coil_maps=None)])
    with pytest.raises(
        ConfigError, match="compressed sensing of frames together needs frames along one axis"
    ):
        run_stage(Pics(frames="together"), scan.header_xml, [item])
    tiny = small_kspace(coil_maps=True)
    cut = tiny.replace(
        data=tiny.data[..., 6:18, 6:18],
        mask=tiny.mask[..., 6:18],
        headers=tiny.headers[..., 6:18],
        coil_maps=None if tiny.coil_maps is None else tiny.coil_maps[..., 6:18, 6:18],
        reference=None,
        ranges=None,
    )
    with pytest.raises(ShapeError, match="a wavelet does not fit the matrix"):
        run_stage(Pics(), scan.header_xml, [cut])
    bad = item.data.clone()
    bad[..., int(item.mask[0].nonzero()[0]), 3] = float("nan")
    with pytest.raises(NonFiniteError, match="the readout with scan counter"):
        run_stage(Pics(), scan.header_xml, [item.replace(data=bad)])


def test_as_a_fallback() -> None:
    choice = Classical.model_validate({"pics": {"wavelet": 0.01}})
    assert (choice.name, choice.of_films) == ("pics", False)
    assert isinstance(choice.stage(), Pics)
    assert Classical.model_validate({"pics": {"frames": "together"}}).of_films
