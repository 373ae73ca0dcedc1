"""Learned pipelines on whole scans: the network's image where it may be used, the classical one where not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from scanside import Pipeline
from scanside.engines.cache import EngineCache
from scanside.mrd.hdf5 import Hdf5Writer
from scanside.mrd.header import MrdHeader
from scanside.replay import replay
from scanside.simulate import (
    CoilConfig,
    GeometryConfig,
    NoiseConfig,
    PhantomConfig,
    SamplingConfig,
    ScanConfig,
    simulate,
)
from scanside.stage import Expected
from scanside.stages.engine import RunEngine


@pytest.mark.parametrize("name", ["unrolled", "student"])
def test_shipped_pipelines_load(name: str) -> None:
    pipeline = Pipeline.load(name)
    (engine,) = (stage for stage in pipeline.stages if isinstance(stage, RunEngine))
    assert engine.config.fallback is not None
    assert engine.config.fallback.name == "sense"


STAGES: list[Any] = [
    "noise",
    "oversampling",
    "accumulate",
    {"coil-compression": {"n_coils": 8}},
    {"coil-maps": {"method": "espirit"}},
]


def scan(matrix: tuple[int, int, int] = (64, 64, 1), **sampling: Any) -> Any:
    return simulate(
        ScanConfig(
            geometry=GeometryConfig(matrix=matrix, fov_mm=(240.0, 240.0, 6.0), offset_mm=(0.0, 0.0, 16.0)),
            phantom=PhantomConfig(supersampling=(1, 1, 1)),
            coils=CoilConfig(n_coils=12),
            noise=NoiseConfig(std=0.002),
            sampling=SamplingConfig(**{"acceleration": (3, 1), "acs": (16, 0), **sampling}),
        )
    )


@pytest.mark.parametrize(("bundle", "factor"), [("gradient", 0.8), ("smooth", 1.0)])
def test_beats_zero_filling(
    learned_bundles: Path, reconstruct: Any, nrmse: Any, bundle: str, factor: float
) -> None:
    simulated = scan()
    engine = {"engine": {"bundle": bundle, "backend": "eager", "sizes": [[64, 64]]}}
    result = reconstruct([*STAGES, engine, "finish"], simulated.header_xml, simulated.items())
    (image,) = result.images
    assert image.meta["ScansideEngine"] == [bundle, "1.0.0"]
    assert image.meta["ScansidePipeline"] == ["test"]
    assert image.meta["ScansideCoilCompression"][1] == "12 coils to 8"
    assert "ScansideFallback" not in image.meta
    truth = np.abs(simulated.truth.image()[0])
    zero_filled = reconstruct("fft", simulated.header_xml, simulated.items()).voxels()[0]
    assert nrmse(result.voxels()[0], truth) < factor * nrmse(zero_filled, truth)


@pytest.mark.parametrize("sampling", [{}, {"partial_fourier": (0.75, 1.0)}])
def test_what_a_header_lets_expect_is_what_comes(reconstruct: Any, sampling: dict[str, Any]) -> None:
    """Else engines would be built for other sizes than those of the scan."""
    simulated = scan(**sampling)
    pipeline = Pipeline.from_config({"name": "test", "stages": STAGES[:4]})
    (expected,) = Expected.of(MrdHeader.parse(simulated.header_xml))
    assert expected.size != (64, 64), "the readout is oversampled"
    for stage in pipeline.stages:
        expected = stage.expect(expected)
    (kspace,) = reconstruct(STAGES[:4], simulated.header_xml, simulated.items()).kspaces
    assert expected.size == tuple(kspace.data.shape[-2:]) == (64, 64)
    assert expected.n_coils == kspace.n_coils == 8


@pytest.fixture
def recording(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A scan, a pipeline ``learned.yaml`` beside it, and no engine that was ever built."""
    monkeypatch.setenv("SCANSIDE_ENGINE_CACHE", str(tmp_path / "engines"))
    simulated = scan()
    with Hdf5Writer(tmp_path / "scan.h5", simulated.header_xml) as writer:
        for item in simulated.items():
            writer.write(item)
    stages = [*STAGES, {"engine": {"bundle": "gradient", "backend": "eager"}}, "finish"]
    (tmp_path / "learned.yaml").write_text(yaml.safe_dump({"name": "learned", "stages": stages}), "utf-8")
    return tmp_path / "scan.h5"


def test_a_replay_builds_what_its_scan_needs_before_it_begins(learned_bundles: Path, recording: Path) -> None:
    steps: list[str] = []
    result = replay(recording, recording.with_name("learned.yaml"), device="cpu", on_step=steps.append)
    assert result.images[0].meta["ScansideBackend"] == ["eager", "fp32", "64×64"]
    assert {entry.key.shape for entry in EngineCache().entries()} == {(64, 64)}
    assert any("eager fp32 at 64×64" in step for step in steps)


@pytest.mark.slow
def test_a_node_builds_nothing_and_says_how(learned_bundles: Path, recording: Path) -> None:
    result = replay(recording, recording.with_name("learned.yaml"), via="gadgetron", device="cpu")
    (image,) = result.images
    assert image.meta["ScansideBackend"] == ["eager", "fp32", "64×64"]
    command = "scanside engines build gradient --bucket 64x64 --coils 8 --backend eager"
    assert command in image.meta["ScansideEngineChoice"][1]
    assert not list(EngineCache().entries())


def test_more_coils_than_the_network_takes(learned_bundles: Path, reconstruct: Any, nrmse: Any) -> None:
    """Without a stage that compresses them the engine gets virtual coils, and the image is as good."""
    simulated = scan()
    stages = [stage for stage in STAGES if not isinstance(stage, dict) or "coil-compression" not in stage]
    engine = {"engine": {"bundle": "gradient", "backend": "eager", "sizes": [[64, 64]]}}
    truth = np.abs(simulated.truth.image()[0])
    errors = []
    for before in (STAGES, stages):
        result = reconstruct([*before, engine, "finish"], simulated.header_xml, simulated.items())
        (image,) = result.images
        assert image.meta["ScansideCoilCompression"][:2] == ["geometric", "12 coils to 8"]
        assert "ScansideFallback" not in image.meta
        errors.append(nrmse(result.voxels()[0], truth))
    assert errors[1] < 1.02 * errors[0]


def test_falls_back(learned_bundles: Path, reconstruct: Any) -> None:
    """A matrix that the network was not trained for: the image is that of the classical pipeline, and says why."""
    simulated = scan(matrix=(80, 80, 1))
    engine = {
        "engine": {"bundle": "gradient", "backend": "eager", "sizes": [[64, 64]], "fitness": "fallback"}
    }
    stages = [stage for stage in STAGES if not isinstance(stage, dict) or "coil-compression" not in stage]
    result = reconstruct([*stages, engine, "finish"], simulated.header_xml, simulated.items())
    classical = reconstruct("sense", simulated.header_xml, simulated.items())
    assert np.array_equal(result.voxels(), classical.voxels())
    assert "matrix 80, trained for 20–64" in result.images[0].meta["ScansideFallback"][2]
    assert result.scan.metrics == {"engine.fallback.unfit": 1}
    assert any("classical fallback 'sense'" in told for told in result.images[0].meta["ScansideWarning"])
