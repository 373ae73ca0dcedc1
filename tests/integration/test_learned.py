"""Learned pipelines on whole scans: the network's image where it may be used, the classical one where not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from scanside import Pipeline
from scanside.simulate import (
    CoilConfig,
    GeometryConfig,
    NoiseConfig,
    PhantomConfig,
    SamplingConfig,
    ScanConfig,
    simulate,
)
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


def scan(**sampling: Any) -> Any:
    return simulate(
        ScanConfig(
            geometry=GeometryConfig(
                matrix=(64, 64, 1), fov_mm=(240.0, 240.0, 6.0), offset_mm=(0.0, 0.0, 16.0)
            ),
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


def test_falls_back(learned_bundles: Path, reconstruct: Any) -> None:
    """More coils than the network takes: the image is that of the classical pipeline, and says why."""
    simulated = scan()
    stages = [stage for stage in STAGES if not isinstance(stage, dict) or "coil-compression" not in stage]
    engine = {"engine": {"bundle": "gradient", "backend": "eager", "sizes": [[64, 64]]}}
    result = reconstruct([*stages, engine, "finish"], simulated.header_xml, simulated.items())
    classical = reconstruct("sense", simulated.header_xml, simulated.items())
    assert np.array_equal(result.voxels(), classical.voxels())
    assert (
        "there are 12; put 'coil-compression: {n_coils: 8}'" in result.images[0].meta["ScansideFallback"][2]
    )
    assert result.scan.metrics == {"engine.fallback.unfit": 1}
    assert any("classical fallback 'sense'" in told for told in result.images[0].meta["ScansideWarning"])
