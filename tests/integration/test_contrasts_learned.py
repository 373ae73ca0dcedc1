"""A network that sees another contrast beside the scan: images of one scan, in the stream of the next."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from scanside import Image, Item, KSpace
from scanside.demo.steps import write_scan
from scanside.engines.bundle import Bundle
from scanside.engines.engine import Engine
from scanside.pipeline import Pipeline
from scanside.recon.sense import SenseOperator
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
from scanside_deploy.build import BuildOptions
from scanside_deploy.own import PortsConfig, build_own

HERE = GeometryConfig(matrix=(64, 60, 1), fov_mm=(240.0, 216.0, 6.0), offset_mm=(0.0, 0.0, 16.0))
BEFORE: list[Any] = ["noise", "oversampling", "accumulate", {"coil-maps": {"method": "espirit", "sets": 1}}]
SHARE = 0.25


class Beside(torch.nn.Module):
    """Brighter where the other contrast is bright: an image that tells what it was made from."""

    def __init__(self) -> None:
        super().__init__()
        self.share = torch.nn.Parameter(torch.tensor(SHARE))

    def forward(self, image: torch.Tensor, contrast: torch.Tensor) -> torch.Tensor:
        return image * (1 + self.share * contrast)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Of that network."""
    root = tmp_path_factory.mktemp("beside")
    ports = PortsConfig.model_validate(
        {
            "inputs": [
                {"name": "image", "axes": ["batch", 2, "k1", "k0"]},
                {"name": "contrast:t1", "axes": ["batch", 1, "k1", "k0"]},
            ],
            "trained_on": [{"name": "heads", "licence": "clean", "what": "generated heads"}],
            "data": {
                "sources": [
                    {"kind": "contrast-heads", "n_subjects": 12, "slices_per_subject": 1, "size": 64}
                ],
                "simulation": {
                    "task": {"kind": "other-contrasts", "channels": "complex"},
                    "k1": [48, 64],
                    "k0": [48, 64],
                    "readout_crop": None,
                    "coils": {"n_coils": [4, 4], "measured": 0},
                    "masks": {"acceleration": [2, 3], "acs": [11, 12]},
                },
                "validation_samples": 3,
            },
        }
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SCANSIDE_CACHE", str(root / "slices"))
        patch.setenv("SCANSIDE_ENGINE_CACHE", str(root / "engines"))
        patch.setenv("SCANSIDE_ENGINES", str(root / "bundles"))
        options = BuildOptions(name="beside", anatomy=("head",), buckets=((64, 64),))
        build_own(Beside(), ports, root / "bundles" / "beside", options)
        yield root / "bundles" / "beside"


def scan_of(path: Path, weighting: Any, geometry: GeometryConfig = HERE) -> Path:
    sampling = SamplingConfig(acceleration=(2, 1), acs=(16, 0)) if weighting == "t2" else SamplingConfig()
    config = ScanConfig(
        geometry=geometry,
        phantom=PhantomConfig(weighting=weighting),
        coils=CoilConfig(n_coils=4),
        sampling=sampling,
        noise=NoiseConfig(std=0.001, scan="none"),
    )
    write_scan(simulate(config), path)
    return path


def streamed(scan: Path, beside: Path, backend: str) -> tuple[list[Image], list[KSpace]]:
    """Images of a scan, and what reached the engine."""
    seen: list[KSpace] = []

    def observe(stage: str, item: Item) -> None:
        if isinstance(item, KSpace) and stage.endswith("other-contrasts"):
            seen.append(item.replace(data=item.data.clone()))

    engine = {"bundle": "beside", "backend": backend, "precision": "fp32", "n_coils": [4], "residual": None}
    stages = [
        *BEFORE,
        {"other-contrasts": {"images": {"t1": str(beside)}}},
        {"engine": engine},
        {"finish": {"kind": "complex"}},
    ]
    pipeline = Pipeline.from_config({"name": "beside", "stages": stages})
    return replay(scan, pipeline, device="cpu", observe=observe).images, seen


@pytest.mark.parametrize(
    "backend",
    ["eager", *(pytest.param(name, marks=pytest.mark.slow) for name in ("onnxruntime", "openvino"))],
)
def test_the_engine_sees_the_image_of_the_scan_before(bundle: Path, tmp_path: Path, backend: str) -> None:
    pytest.importorskip({"eager": "torch"}.get(backend, backend))
    Engine.load(Bundle.open(bundle), (64, 64), name=backend, precision="fp32")
    turned = HERE.model_copy(update={"in_plane_deg": 8.0, "matrix": (80, 72, 1)})
    before = replay(scan_of(tmp_path / "t1.raw.h5", "t1", turned), "fft", tmp_path / "t1.h5", device="cpu")
    assert len(before.images) == 1
    (image,), (item,) = streamed(scan_of(tmp_path / "t2.raw.h5", "t2"), tmp_path / "t1.h5", backend)
    assert "ScansideFallback" not in image.meta
    assert image.meta["ScansideBackend"][0] == backend
    assert item.coil_maps is not None
    adjoint = SenseOperator(item.coil_maps, item.mask).adjoint(item.data)[0]
    expected = adjoint * (1 + SHARE * item.contrasts["t1"][0])
    torch.testing.assert_close(image.data[0, 0], expected, rtol=0, atol=1e-4 * float(expected.abs().max()))
    assert float((image.data[0, 0] - adjoint).norm() / adjoint.norm()) > 0.05


@pytest.mark.parametrize("case", ["missing", "beside"])
def test_without_it_the_classical_image_goes_out_and_says_why(
    bundle: Path, tmp_path: Path, case: str
) -> None:
    if case == "beside":
        away = HERE.model_copy(update={"offset_mm": (0.0, 0.0, 40.0)})
        replay(scan_of(tmp_path / "t1.raw.h5", "t1", away), "fft", tmp_path / "t1.h5", device="cpu")
    (image,), _ = streamed(scan_of(tmp_path / "t2.raw.h5", "t2"), tmp_path / "t1.h5", "eager")
    name, why, text = image.meta["ScansideFallback"]
    assert (name, why) == ("sense", "unfit")
    assert "contrast 't1' of the same slice" in text
