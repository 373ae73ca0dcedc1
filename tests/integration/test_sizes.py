"""Scans of sizes that nobody named, through the shipped pipelines: a learned image, the first time too."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from scanside import Context
from scanside.engines.cache import EngineCache
from scanside.simulate import (
    CoilConfig,
    GeometryConfig,
    NoiseConfig,
    PhantomConfig,
    SamplingConfig,
    ScanConfig,
    SimulatedScan,
    simulate,
)


@pytest.fixture(autouse=True)
def nothing_built(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SCANSIDE_ENGINE_CACHE", str(tmp_path / "engines"))


def scan(k1: int, k0: int, acceleration: int = 3, std: float = 0.005) -> SimulatedScan:
    """Of a head that ends inside the field of view."""
    return simulate(
        ScanConfig(
            geometry=GeometryConfig(matrix=(k0, k1, 1), fov_mm=(240.0, 240.0, 5.0)),
            phantom=PhantomConfig(supersampling=(1, 1, 1)),
            coils=CoilConfig(n_coils=8),
            noise=NoiseConfig(std=std),
            sampling=SamplingConfig(acceleration=(acceleration, 1), acs=(24, 0)),
        )
    )


@pytest.mark.parametrize(
    ("pipeline", "size", "engine"),
    [
        ("unrolled", (64, 64), "96×96"),
        ("unrolled", (97, 65), "104×96"),
        ("unrolled", (127, 255), "128×256"),
        ("unrolled", (320, 320), "320×320"),
        ("student", (320, 320), "320×320"),
        pytest.param("unrolled", (368, 640), "368×640", marks=pytest.mark.slow),
        pytest.param("student", (368, 640), "368×640", marks=pytest.mark.slow),
        pytest.param("unrolled", (512, 448), "512×448", marks=pytest.mark.slow),
    ],
)
def test_learned_image_without_a_size_named(
    reconstruct: Any, nrmse: Any, pipeline: str, size: tuple[int, int], engine: str
) -> None:
    simulated, full = scan(*size), scan(*size, acceleration=1, std=1e-5)
    waiting = Context(device="cpu").while_a_scan_waits()
    result = reconstruct(pipeline, simulated.header_xml, simulated.items(), context=waiting)
    (image,) = result.images
    assert "ScansideFallback" not in image.meta, image.meta["ScansideFallback"]
    assert image.meta["ScansideBackend"] == ["eager", "fp32", engine]
    assert f"--bucket {engine.replace('×', 'x')}" in image.meta["ScansideEngineChoice"][1] or max(size) < 256
    assert any(text.startswith("matrix ") for text in image.meta["ScansideFitness"]), (
        "it was trained on others"
    )
    assert result.voxels().shape == (1, *size)
    assert not list(EngineCache().entries())
    truth = np.abs(reconstruct("sense", full.header_xml, full.items()).voxels())
    zero_filled = np.abs(reconstruct("fft", simulated.header_xml, simulated.items()).voxels())
    assert nrmse(np.abs(result.voxels()), truth) < 0.6 * nrmse(zero_filled, truth)


def test_a_matrix_that_no_engine_holds(reconstruct: Any) -> None:
    simulated = scan(24, 648)
    waiting = Context(device="cpu").while_a_scan_waits()
    result = reconstruct("unrolled", simulated.header_xml, simulated.items(), context=waiting)
    (image,) = result.images
    name, why, text = image.meta["ScansideFallback"]
    assert (name, why) == ("sense", "unfit")
    assert "an image of 24×648 fits into no engine: this network takes images of up to 640×640" in text
    assert any(text in told for told in result.scan.warnings)
