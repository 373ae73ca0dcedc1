"""Bundles of earlier versions become bundles of this one: the same images and the same record, in other graphs."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from typer.testing import CliRunner

from scanside.cli.app import app
from scanside.engines.archive import load_graph
from scanside.engines.build import BundleSource
from scanside.engines.bundle import Bundle, replace_manifest
from scanside.engines.graph import bind
from scanside.engines.manifest import AcceptanceReport, Check, MetricTable, Range
from scanside.engines.probes import Network, make_probes, read_cases
from scanside.errors import BundleError, ConfigError
from scanside_deploy import graphs
from scanside_deploy.build import BuildOptions, build_bundle
from scanside_deploy.convert import convert_bundle, next_version
from scanside_training.config import read_config
from scanside_training.models import unet, upsampling
from scanside_training.trainer import train

IMAGE: dict[str, Any] = {
    "name": "tiny",
    "model": {"kind": "unet", "channels": 4, "pools": 2},
    "loss": {"terms": [{"kind": "l1"}]},
    "data": {
        "sources": [{"kind": "synthetic", "n_subjects": 6, "slices_per_subject": 1, "size": 48}],
        "simulation": {
            "task": {"kind": "image", "channels": "complex"},
            "k1": [32, 48],
            "k0": [48, 48],
            "readout_crop": 32,
            "coils": {"n_coils": [2, 2], "measured": 0},
            "masks": {"acceleration": [2, 3], "acs": [4, 6]},
            "espirit": {"probability": 0},
        },
        "batch_size": 2,
        "validation_samples": 3,
    },
    "optimiser": {"lr": 0.01},
    "max_steps": 2,
    "accelerator": "cpu",
}
UNROLLED = IMAGE | {
    "model": {
        "kind": "unrolled",
        "n_cascades": 2,
        "channels": 4,
        "pools": 1,
        "consistency": {"kind": "cg", "iterations": 2, "initial_iterations": 4},
    },
    "data": IMAGE["data"] | {"simulation": IMAGE["data"]["simulation"] | {"task": {"kind": "unrolled"}}},
}
FILM = IMAGE | {
    "model": {
        "kind": "dual-unet",
        "n_frames": 4,
        "channels": 2,
        "pools": 1,
        "fusion_channels": 2,
        "n_cascades": 2,
        "consistency": {"kind": "gradient"},
    },
    "data": IMAGE["data"]
    | {
        "sources": [
            {"kind": "beating-hearts", "n_subjects": 6, "films_per_subject": 1, "frames": 6, "size": 48}
        ],
        "simulation": IMAGE["data"]["simulation"]
        | {"task": {"kind": "dynamic", "time": 4, "masks": {"acceleration": [3, 4], "acs": [4, 6]}}},
    },
}
NETWORKS = {"image": IMAGE, "unrolled": UNROLLED, "film": FILM}
SIZE, N_COILS = (32, 48), 2


def _transposed(n_in: int, n_out: int) -> nn.Module:
    return nn.ConvTranspose2d(n_in, n_out, 2, stride=2, bias=False)


@pytest.fixture(scope="module")
def earlier(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Path]]:
    """Bundles as earlier versions wrote them: transposed convolutions, inputs that nothing depends on, no SNR."""
    root = tmp_path_factory.mktemp("earlier")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SCANSIDE_CACHE", str(root / "cache"))
        patch.setattr(unet, "Upsampling", _transposed)
        patch.setattr(graphs, "_left_over", lambda _program, _inputs: [])
        for name, settings in NETWORKS.items():
            train(read_config(copy.deepcopy(settings), name), root / "runs" / name)
            options = BuildOptions(
                name=f"tiny-{name}", version="1.3.2", buckets=(SIZE,), weights="float16", description="Tiny."
            )
            build_bundle(root / "runs" / name, root / name, options)
            table = MetricTable(dataset="none", sampling="R = 2", rows={"network": {"psnr_db": 3.0}})
            silent = Bundle.open(root / name).manifest.sampling.model_copy(update={"snr": None})
            replace_manifest(
                root / name,
                schema_version=2,
                metrics=(table,),
                acceptance=(_accepted(root / name),),
                sampling=silent,
            )
    yield {name: root / name for name in NETWORKS}
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def converted(earlier: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Bundle]:
    """The same bundles as this version builds them."""
    root = tmp_path_factory.mktemp("converted")
    for name, folder in earlier.items():
        convert_bundle(Bundle.open(folder), root / name)
    return {name: Bundle.open(root / name) for name in earlier}


def _accepted(folder: Path) -> AcceptanceReport:
    return AcceptanceReport(
        backend="eager",
        precision="fp32",
        shape=SIZE,
        hardware="a machine",
        versions={"torch": "2"},
        checks=(Check(name="runs", passed=True),),
        created=Bundle.open(folder).manifest.created,
    )


def operators(bundle: Bundle) -> list[str]:
    """Those of each of a bundle's graphs."""
    graphs_of = (load_graph(bundle.folder / file) for file in bundle.manifest.graph_files())
    return [" ".join(str(node.target) for node in program.graph.nodes) for program in graphs_of]


def images(bundle: Bundle) -> list[torch.Tensor]:
    """What a bundle makes of its real cases."""
    manifest = bundle.manifest
    source = BundleSource(bundle, SIZE, N_COILS, form="principal")
    cases = read_cases(manifest.task, bundle.vectors(), manifest.lowering)
    probes = make_probes(Network(manifest.task, manifest.lowering, source.inputs), cases)
    network = bind(source)
    with torch.inference_mode():
        return [network(*probe.inputs) for probe in probes if probe.truth is not None]


@pytest.mark.slow
@pytest.mark.parametrize("name", NETWORKS)
def test_converted_bundle_gives_the_same_images(
    earlier: dict[str, Path], converted: dict[str, Bundle], name: str
) -> None:
    before, after = Bundle.open(earlier[name]), converted[name]
    assert all("conv_transpose2d" in one for one in operators(before))
    assert not any("conv_transpose2d" in one for one in operators(after))
    sizes_before, sizes_after = (
        {tuple(tensor.shape[-2:]) for tensor in one.weights().values()} for one in (before, after)
    )
    assert sizes_before - sizes_after == {(2, 2)}
    for one, other in zip(images(after), images(before), strict=True):
        assert float((one - other).norm() / other.norm()) < 1e-6


@pytest.mark.slow
@pytest.mark.parametrize("name", NETWORKS)
def test_record_of_the_training_is_kept(
    earlier: dict[str, Path], converted: dict[str, Bundle], name: str
) -> None:
    before, after = Bundle.open(earlier[name]), converted[name]
    made = after.manifest
    changed = {
        "schema_version",
        "version",
        "created",
        "made_with",
        "inputs",
        "acceptance",
        "files",
        "sampling",
    }
    assert before.manifest.sampling.snr is None
    assert made.sampling == before.manifest.sampling.model_copy(update={"snr": Range(low=15.0, high=200.0)})
    for field in set(type(made).model_fields) - changed:
        assert getattr(made, field) == getattr(before.manifest, field), field
    assert made.metrics
    assert (made.version, made.acceptance) == ("1.4.0", ())
    assert made.created > before.manifest.created
    assert made.made_with["torch"] == torch.__version__
    assert set(made.files) == set(before.manifest.files)
    for path in ("vectors.safetensors", "config.yaml", "datasheet.md", "training.csv"):
        assert made.files[path] == before.manifest.files[path], path
    assert {tensor.dtype for tensor in after.weights().values()} == {torch.float16}


@pytest.mark.slow
def test_inputs_that_nothing_depends_on_are_left_out(
    earlier: dict[str, Path], converted: dict[str, Bundle]
) -> None:
    """Compilers drop or refuse them: data consistency by gradient steps does not ask for the noise."""
    before, after = Bundle.open(earlier["film"]), converted["film"]
    assert [spec.name for spec in before.manifest.inputs] == ["image", "maps", "noise", "p"]
    assert [spec.name for spec in after.manifest.inputs] == ["image", "maps", "p"]
    for file in after.manifest.graph_files():
        nodes = load_graph(after.folder / file).graph.nodes
        assert all(node.users for node in nodes if node.op == "placeholder")


@pytest.mark.slow
def test_bundle_in_its_own_place(earlier: dict[str, Path], tmp_path: Path) -> None:
    folder = tmp_path / "bundle"
    convert_bundle(Bundle.open(earlier["image"]), folder, version="2.0.0")
    with pytest.raises(FileExistsError):
        convert_bundle(Bundle.open(folder), folder)
    arguments = ["engines", "convert", f"{folder}/", "-o", str(folder), "--replace"]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    assert f"tiny-image 2.1.0 is in {folder}" in result.stdout.replace("\n", " ")
    assert Bundle.open(folder).manifest.version == "2.1.0"


@pytest.mark.slow
def test_network_that_computes_something_else_is_refused(
    earlier: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def mirrored(transposed: torch.Tensor) -> torch.Tensor:
        return transposed.flip(-1).permute(1, 2, 3, 0).reshape(-1, transposed.shape[0], 1, 1)

    monkeypatch.setattr(upsampling, "_of_convolution", mirrored)
    with pytest.raises(BundleError, match=r"gives other images: they differ by .* allowed is 1e-06"):
        convert_bundle(Bundle.open(earlier["image"]), tmp_path / "new")
    assert not (tmp_path / "new").exists()


@pytest.mark.slow
def test_bundle_that_does_not_say_what_its_network_is(earlier: dict[str, Path], tmp_path: Path) -> None:
    bundle = Bundle.open(earlier["image"])
    bare = replace(bundle, manifest=bundle.manifest.model_copy(update={"training": None}))
    with pytest.raises(ConfigError, match="does not say how it was trained"):
        convert_bundle(bare, tmp_path / "other")


def test_next_version() -> None:
    assert next_version("1.9.3") == "1.10.0"
