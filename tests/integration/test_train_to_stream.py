"""From nothing to a learned image in the stream, by the commands that people type."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import yaml

from scanside import Item, KSpace
from scanside.engines.bundle import Bundle
from scanside.engines.manifest import GateLimits
from scanside.engines.shapes import fit, unrolled_specs
from scanside.recon.consistency import Lowering, sampling_inputs
from scanside.recon.noise_level import noise_level
from scanside.recon.scaling import image_scale
from scanside.recon.sense import SenseOperator
from scanside.replay import replay
from scanside_training.checkpoint import load_model
from scanside_training.models import Unrolled

pytestmark = pytest.mark.slow

# The least that learns to make nothing of nothing, without which no engine is accepted.
CONFIG = """
name: least
model: {kind: unrolled, n_cascades: 2, channels: 8, pools: 2, consistency: {kind: gradient}}
loss: {terms: [{kind: l1}]}
data:
  sources: [{kind: synthetic, n_subjects: 24, slices_per_subject: 1, size: 48}]
  simulation:
    k1: [48, 64]
    k0: [48, 64]
    readout_crop: 32
    coils: {n_coils: [4, 4], measured: 0}
    masks: {acceleration: [2, 3], acs: [11, 12]}
    espirit: {probability: 0}
  batch_size: 2
  samples_per_epoch: 200
  validation_samples: 3
optimiser: {lr: 1.0e-3}
max_steps: 200
accelerator: cpu
"""
BEFORE = ["noise", "oversampling", "accumulate", {"coil-maps": {"method": "espirit"}}]


Command = Callable[..., str]


@pytest.fixture(scope="module")
def made(scanside: Command, workshop: Path) -> Path:
    """Folder with the run ``run`` and its bundle ``bundles/least``, whose engines were accepted."""
    pytest.importorskip("onnxruntime")
    (workshop / "least.yaml").write_text(CONFIG, "utf-8")
    scanside("train", workshop / "least.yaml", "-o", workshop / "run", "--threads", 1)
    backends = ("--backend", "eager", "--backend", "onnxruntime")
    scanside(
        "engines", "build", workshop / "run", "-o", workshop / "bundles/least", "--anatomy", "heap",
        "--bucket", "64x64", "--coils", 4, *backends,
    )  # fmt: skip
    return workshop


def test_engines_were_accepted(scanside: Command, made: Path) -> None:
    manifest = Bundle.open(made / "bundles/least").manifest
    accepted = {report.backend for report in manifest.acceptance if report.passed}
    assert accepted == {"eager", "onnxruntime"}
    assert manifest.sampling.anatomy == ("heap",)
    listed = json.loads(scanside("engines", "list", "--json"))["bundles"]
    assert "least" in {one["name"] for one in listed}
    scanside("engines", "verify", "least")


@pytest.mark.parametrize("backend", ["eager", "onnxruntime"])
@pytest.mark.parametrize(("k1", "k0"), [(64, 64), (58, 50)])
def test_image_in_the_stream_is_that_of_the_trained_network(
    scanside: Command, made: Path, tmp_path: Path, k1: int, k0: int, backend: str
) -> None:
    recording = tmp_path / "scan.h5"
    settings = (
        f"geometry.matrix=[{k0}, {k1}, 1]", "coils.n_coils=4", "sampling.acceleration=[2, 1]",
        "sampling.acs=[12, 0]", "phantom.kind=shepp-logan", "phantom.supersampling=[1, 1, 1]", "noise.std=0.002",
    )  # fmt: skip
    scanside("simulate", "-o", recording, *(part for one in settings for part in ("--set", one)))
    engine = {"bundle": "least", "backend": backend, "precision": "fp32", "n_coils": [4], "residual": None}
    stages = [*BEFORE, {"engine": engine}, {"finish": {"kind": "complex"}}]
    pipeline = tmp_path / "pipeline.yaml"
    pipeline.write_text(yaml.safe_dump({"name": "least", "stages": stages}), "utf-8")
    (image,) = replay(recording, pipeline, via="gadgetron", device="cpu").images
    assert "ScansideFallback" not in image.meta
    assert image.meta["ScansideBackend"][:3] == [backend, "fp32", "64×64"]
    expected = of_the_network(made / "run", kspace_of(recording, tmp_path), (k1, k0))
    found = image.data[0, 0]
    assert found.shape == expected.shape == (k1, k0)
    error = float((found - expected).norm() / expected.norm())
    assert error <= GateLimits().fp32_relative_error


def kspace_of(recording: Path, folder: Path) -> KSpace:
    """What reaches the engine stage."""
    seen: list[KSpace] = []

    def observe(stage: str, item: Item) -> None:
        if isinstance(item, KSpace) and item.coil_maps is not None:
            seen.append(item.replace(data=item.data.clone()))

    pipeline = folder / "classical.yaml"
    pipeline.write_text(
        yaml.safe_dump({"name": "classical", "stages": [*BEFORE, "sense", "finish"]}), "utf-8"
    )
    replay(recording, pipeline, device="cpu", observe=observe)
    return seen[0]


def of_the_network(run: Path, item: KSpace, size: tuple[int, int]) -> torch.Tensor:
    """The image ``(y, x)`` that the trained network makes of a k-space, in eager torch."""
    network, _ = load_model(run)
    assert isinstance(network, Unrolled)
    assert item.coil_maps is not None
    mask, maps = item.mask[0], item.coil_maps[:, 0]
    image = SenseOperator(item.coil_maps, item.mask).adjoint(item.data)[0]
    scale = image_scale(image)
    noise = (noise_level(item.data[:, 0], mask) / scale).view(1, 1, 1, 1)
    lowering: Lowering = "fft"
    place = fit("pmatrix", Bundle.open(run.parent / "bundles/least").manifest.shapes, *size)
    if place.size != place.bucket:
        lowering = "pmatrix"
        larger = network.config.model_copy(update={"lowering": lowering}).build().eval()
        larger.load_state_dict(network.state_dict())
        network = larger
    inputs = (pairs(image / scale), pairs(maps), noise, *sampling_inputs(lowering, mask[None, :, None]))
    if place.size != place.bucket:
        inputs = place.surround(unrolled_specs(lowering), inputs)
    with torch.inference_mode():
        result = place.crop(network(*inputs))[0]
    return scale * torch.complex(result[0], result[1])


def pairs(values: torch.Tensor) -> torch.Tensor:
    """Complex ``(*, y, x)`` as ``(1, *, 2, y, x)``."""
    return torch.stack((values.real, values.imag), -3)[None]
