"""From a training to the image of a radial scan: trainer, bundle, engine and stage."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from scanside import Context, Image, Scan, ScanEnd, Stage
from scanside.engines.bundle import Bundle
from scanside.engines.engine import Engine
from scanside.errors import ConfigError
from scanside.items import Samples
from scanside.recon.noncartesian.density import gridded_noise
from scanside.recon.noncartesian.sense import NonCartesianSense
from scanside.recon.noncartesian.toeplitz import split_kernel
from scanside.recon.scaling import image_scale
from scanside.simulate import (
    CoilConfig,
    GeometryConfig,
    NoiseConfig,
    SamplingConfig,
    ScanConfig,
    SimulatedScan,
    TrajectoryConfig,
    simulate,
)
from scanside.stages._samples import cell_weights, flat_points, noise_of_samples
from scanside.stages.centre_maps import CentreMaps
from scanside.stages.engine import RunEngine
from scanside.stages.gather import GatherSamples
from scanside.stages.noise import PrewhitenNoise
from scanside.stages.noncartesian_engine import RunNonCartesianEngine
from scanside.testing import StageTests
from scanside_deploy.build import BuildOptions, build_bundle
from scanside_training.checkpoint import load_model
from scanside_training.config import read_config
from scanside_training.trainer import train

pytestmark = pytest.mark.slow

TINY: dict[str, Any] = {
    "name": "tiny",
    "model": {
        "kind": "noncartesian",
        "n_cascades": 2,
        "channels": 4,
        "pools": 1,
        "consistency": {"kind": "cg", "iterations": 2, "initial_iterations": 4},
    },
    "loss": {"terms": [{"kind": "l1"}]},
    "data": {
        "sources": [{"kind": "synthetic", "n_subjects": 6, "slices_per_subject": 1, "size": 48}],
        "simulation": {
            "task": {"kind": "noncartesian"},
            "k1": [32, 48],
            "k0": [48, 48],
            "readout_crop": None,
            "coils": {"n_coils": [2, 3], "measured": 0},
            "espirit": {"probability": 0},
        },
        "batch_size": 1,
        "validation_samples": 4,
    },
    "optimiser": {"lr": 0.001},
    "max_steps": 2,
    "accelerator": "cpu",
    "seed": 4,
}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Folder with the run ``run`` and the bundle ``tiny``."""
    root = tmp_path_factory.mktemp("noncartesian")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SCANSIDE_CACHE", str(root / "cache"))
        train(read_config(copy.deepcopy(TINY), "tiny"), root / "run")
        build_bundle(root / "run", root / "tiny", BuildOptions(name="tiny", buckets=((40, 40),)))
        yield root


@pytest.fixture(scope="module")
def spokes() -> SimulatedScan:
    return scan_of(readouts=30)


def scan_of(matrix: int = 40, **trajectory: Any) -> SimulatedScan:
    geometry = GeometryConfig(matrix=(matrix, matrix, 1), fov_mm=(240.0, 240.0, 5.0))
    sampling = SamplingConfig(trajectory=TrajectoryConfig(**trajectory))
    noise = NoiseConfig(std=0.01, spread=0.0, neighbour_correlation=0.0)
    return simulate(
        ScanConfig(geometry=geometry, coils=CoilConfig(n_coils=6), noise=noise, sampling=sampling)
    )


def run(
    scan: SimulatedScan, bundle: Path, settings: dict[str, Any] | None = None
) -> tuple[Image, Samples, Scan]:
    """The image of the stage, and the samples that it got."""
    stage = RunNonCartesianEngine(bundle=str(bundle), backend="eager", precision="fp32", **(settings or {}))
    opened = Scan.from_xml(scan.header_xml)
    items: list[Any] = list(scan.items())
    stages: tuple[Stage[Any, Any], ...] = (
        PrewhitenNoise(),
        GatherSamples(),
        CentreMaps(calibration=12),
        stage,
    )
    for before in stages:
        before.prepare(Context(device="cpu", builds_engines=False))
        before.open(opened)
        given, items = items, []
        for item in given:
            items += before.process(item) if isinstance(item, before.takes()) else [item]
        items += before.finish(ScanEnd())
        if not isinstance(before, RunNonCartesianEngine):
            samples = items
    return items[0], samples[0], opened


def test_the_stage_feeds_what_the_trainer_feeds(made: Path, spokes: SimulatedScan) -> None:
    """The image of the engine is that of the run's network, called by hand."""
    image, item, _ = run(spokes, made / "tiny", {"fitness": "ignore"})
    assert image.meta["ScansideEngine"][0] == "tiny"
    assert float(image.meta["ScansideDataConsistency"][0]) < 0.3
    assert image.meta["ScansideCheck"][0] in ("better", "undecided")
    assert item.coil_maps is not None
    weights = cell_weights(item, "auto").flatten()
    operator = NonCartesianSense(item.coil_maps, flat_points(item), weights)
    right = operator.adjoint(item.data.flatten(1))[0]
    scale = image_scale(right)
    network, _ = load_model(made / "run")
    noise = torch.as_tensor(noise_of_samples(item) * gridded_noise(weights, item.shape)) / scale
    batch = {
        "image": torch.stack((right.real, right.imag))[None] / scale,
        "maps": torch.view_as_real(item.coil_maps[:, 0]).movedim(-1, -3)[None],
        "toeplitz": split_kernel(operator.kernel)[None],
        "noise": noise[None],
    }
    with torch.inference_mode():
        expected = scale * torch.complex(*network(*network.inputs(batch))[0])
    found = torch.as_tensor(np.asarray(image.data[0, 0]))
    assert float((found - expected).norm() / expected.norm()) <= 1e-4


def test_manifest(made: Path) -> None:
    manifest = Bundle.open(made / "tiny").manifest
    assert [spec.name for spec in manifest.inputs] == [
        "image",
        "maps",
        "noise",
        "toeplitz",
        "double1",
        "double0",
    ]
    assert manifest.sampling.kinds == ("radial", "spiral")
    assert manifest.sampling.undersampled_axes == 2
    assert 1 < manifest.sampling.acceleration.low < manifest.sampling.acceleration.high < 16
    assert "any trajectory" in (made / "tiny" / "datasheet.md").read_text()


def test_scans_of_other_kinds_are_told_or_left_to_the_fallback(made: Path) -> None:
    spiral = scan_of(56, kind="spiral", readouts=12, samples=300)
    image, _, scan = run(spiral, made / "tiny")
    assert "matrix 56, trained for 32–48" in image.meta["ScansideFitness"]
    assert any("was not trained for" in told for told in scan.warnings)
    assert image.meta["ScansideCheck"][0] == "none"  # of twelve arms none is to spare
    image, _, scan = run(spiral, made / "tiny", {"fitness": "fallback", "check": "none"})
    assert image.meta["ScansideFallback"][:2] == ["noncartesian-sense", "unfit"]
    assert "ScansideEngine" not in image.meta


def test_an_image_that_disagrees_with_the_samples_does_not_go_out(
    made: Path, spokes: SimulatedScan, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Engine, "__call__", lambda _, image, *others: torch.zeros_like(image))
    image, _, scan = run(spokes, made / "tiny", {"fitness": "ignore", "check": "none"})
    assert image.meta["ScansideFallback"][1] == "data-consistency"
    assert any("noncartesian-engine.residual" in told for told in scan.warnings)
    assert bool(np.asarray(image.data).any())


def test_bundles_go_to_the_stage_that_can_feed_them(made: Path) -> None:
    with pytest.raises(ConfigError, match="name it in 'noncartesian-engine'"):
        RunEngine(bundle=str(made / "tiny")).prepare(Context(device="cpu", builds_engines=False))
    stage = RunNonCartesianEngine(bundle="multicoil-unrolled")
    with pytest.raises(ConfigError, match="name it in 'engine'"):
        stage.prepare(Context(device="cpu", builds_engines=False))


class TestConformance(StageTests):
    """What every stage must do."""

    bundle: Path

    @pytest.fixture(autouse=True)
    def _has_a_bundle(self, made: Path) -> None:
        type(self).bundle = made / "tiny"

    def stage(self) -> Stage[Any, Any]:
        return RunNonCartesianEngine(bundle=str(self.bundle), backend="eager", precision="fp32", n_coils=(6,))

    def scan(self) -> Scan:
        return Scan.from_xml(scan_of(readouts=30).header_xml)

    def items(self) -> list[Any]:
        items: list[Any] = list(scan_of(readouts=30).items())
        for stage in (PrewhitenNoise(), GatherSamples(), CentreMaps()):
            stage.prepare(Context(device="cpu"))
            stage.open(self.scan())
            items = [made for item in items for made in stage.process(item)]
        return items
