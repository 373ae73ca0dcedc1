"""A network that takes k-space of one size, from its training to the stream; scans of other sizes fall back."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import yaml
from typer.testing import CliRunner

from scanside import Item, KSpace
from scanside.cli.app import app
from scanside.engines.bundle import Bundle
from scanside.engines.manifest import GateLimits
from scanside.items import Image
from scanside.recon.scaling import image_scale
from scanside.recon.sense import SenseOperator
from scanside.replay import replay
from scanside_training.checkpoint import load_model

pytestmark = pytest.mark.slow

CONFIG = """
name: transform
model: {kind: automap, size: [32, 48], start: fourier, channels: 8}
loss: {terms: [{kind: l1}, {kind: activations, weight: 1.0e-4}]}
data:
  sources: [{kind: synthetic, n_subjects: 24, slices_per_subject: 1, size: 48}]
  simulation:
    k1: [32, 32]
    k0: [48, 48]
    readout_crop: null
    coils: {n_coils: [1, 1], measured: 0}
    masks: {acceleration: [2, 2], acs: [11, 12]}
  batch_size: 4
  samples_per_epoch: 400
  validation_samples: 3
optimiser: {kind: adam, lr: 3.0e-3}
max_steps: 100
weight_changes: true
accelerator: cpu
"""
BEFORE = ["noise", "oversampling", "accumulate", {"coil-maps": {"method": "espirit"}}]


Command = Callable[..., str]


@pytest.fixture(scope="module")
def made(scanside: Command, workshop: Path) -> Path:
    """Folder with the run ``run`` and its bundle ``bundles/transform``, whose engine was accepted."""
    (workshop / "transform.yaml").write_text(CONFIG, "utf-8")
    scanside("train", workshop / "transform.yaml", "-o", workshop / "run", "--threads", 1)
    scanside(
        "engines", "build", workshop / "run", "-o", workshop / "bundles/transform", "--anatomy", "heap",
        "--weights", "float16", "--size-limit-mb", 6, "--backend", "eager",
    )  # fmt: skip
    return workshop


def test_the_bundle_has_one_size(scanside: Command, made: Path) -> None:
    manifest = Bundle.open(made / "bundles/transform").manifest
    assert manifest.task == "image"
    assert [spec.name for spec in manifest.inputs] == ["kspace"]
    assert manifest.shapes.fixed
    assert manifest.shapes.buckets == ((32, 48),)
    assert {(report.precision, report.passed) for report in manifest.acceptance} == {
        ("fp32", True),
        ("bf16", True),
    }
    assert "32×48 and no others" in scanside("engines", "show", "transform")
    other = CliRunner().invoke(app, ["engines", "build", "transform", "--bucket", "64x64"])
    assert other.exit_code != 0
    assert "takes images of 32×48 and no others" in " ".join(other.stderr.split())


def test_the_training_tells_how_far_layers_moved(made: Path) -> None:
    rows = (made / "run/weights.csv").read_text("utf-8").splitlines()
    assert rows[0] == "name,n,norm_before,norm_of_change,relative_change"
    moved = {name: float(ratio) for name, *_, ratio in (row.split(",") for row in rows[1:]) if ratio}
    assert 0 < moved["dense1.along_k1.weight"] < moved["convolutions.conv2.weight"]


def test_image_in_the_stream_is_that_of_the_trained_network(
    scanside: Command, made: Path, tmp_path: Path
) -> None:
    recording = scanned(scanside, tmp_path, 32, 48)
    image, item = reconstructed(recording, tmp_path)
    assert "ScansideFallback" not in image.meta
    assert image.meta["ScansideBackend"][:3] == ["eager", "fp32", "32×48"]
    assert item.coil_maps is not None
    combined = SenseOperator(item.coil_maps, item.mask).adjoint(item.data)[0]
    scale = image_scale(combined)
    network, _ = load_model(made / "run")
    for parameter in network.parameters():
        parameter.data.copy_(parameter.data.half())
    # As the trainer feeds it: planes of the image, and the mask as numbers.
    planes = torch.stack((combined.real, combined.imag))[None] / scale
    with torch.inference_mode():
        output = network(*network.inputs({"image": planes, "mask": item.mask[0][None, :, None].float()}))[0]
    expected = scale * torch.complex(output[0], output[1])
    error = float((image.data[0, 0] - expected).norm() / expected.norm())
    assert error <= GateLimits().fp32_relative_error


@pytest.mark.parametrize(("k1", "k0"), [(32, 40), (24, 48), (64, 96)])
def test_a_scan_of_another_size_goes_to_the_fallback(
    scanside: Command, made: Path, tmp_path: Path, k1: int, k0: int
) -> None:
    image, _ = reconstructed(scanned(scanside, tmp_path, k1, k0), tmp_path)
    assert image.data.shape[-2:] == (k1, k0)
    told = json.dumps(image.meta["ScansideFallback"], ensure_ascii=False)
    assert "sense" in told
    assert (
        f"an image of {k1}×{k0} fits into no engine: this network takes images of 32×48 and no others" in told
    )


def scanned(scanside: Command, folder: Path, k1: int, k0: int) -> Path:
    """A recording of one coil."""
    recording = folder / "scan.h5"
    settings = (
        f"geometry.matrix=[{k0}, {k1}, 1]", "coils.n_coils=1", "sampling.acceleration=[2, 1]",
        "sampling.acs=[12, 0]", "phantom.kind=shepp-logan", "phantom.supersampling=[1, 1, 1]", "noise.std=0.002",
    )  # fmt: skip
    scanside("simulate", "-o", recording, *(part for one in settings for part in ("--set", one)))
    return recording


def reconstructed(recording: Path, folder: Path) -> tuple[Image, KSpace]:
    """The image by the engine, and the k-space that reached it."""
    engine = {"bundle": "transform", "backend": "eager", "precision": "fp32", "residual": None}
    stages = [*BEFORE, {"engine": engine}, {"finish": {"kind": "complex"}}]
    pipeline = folder / "pipeline.yaml"
    pipeline.write_text(yaml.safe_dump({"name": "transform", "stages": stages}), "utf-8")
    seen: list[KSpace] = []

    def observe(stage: str, item: Item) -> None:
        if isinstance(item, KSpace) and item.coil_maps is not None:
            seen.append(item.replace(data=item.data.clone()))

    (image,) = replay(recording, pipeline, device="cpu", observe=observe).images
    return image, seen[0]
