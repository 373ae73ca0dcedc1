"""From a training run to a bundle: the same network, and a manifest that is true of it."""

from __future__ import annotations

import copy
import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from scanside.engines.backends import backend
from scanside.engines.build import BundleSource, Workshop
from scanside.engines.bundle import Bundle, BundleWriter
from scanside.engines.cache import EngineCache
from scanside.engines.columns import column_inputs, column_weight
from scanside.engines.engine import Engine
from scanside.engines.graph import bind
from scanside.engines.manifest import FormName, Manifest, Range
from scanside.engines.probes import LARGEST_VECTORS, read_cases
from scanside.engines.shapes import columns_specs, film_specs, fit, unrolled_specs
from scanside.errors import BundleError, ConfigError, FormatError, ShapeError
from scanside.recon.columns import MAX_ROWS, factorise
from scanside.recon.consistency import film_sampling_inputs, sampling_inputs
from scanside_deploy.build import BuildOptions, build_bundle, sampling_of
from scanside_deploy.cases import add_calibration
from scanside_training.checkpoint import load_model
from scanside_training.config import read_config
from scanside_training.data import SampleKey, SimulatedSamples, SimulationConfig
from scanside_training.data.sampling import FrameMaskConfig, MaskConfig, random_frame_masks, random_mask
from scanside_training.models import Unrolled
from scanside_training.models.rules import HardConfig, ProximalConfig
from scanside_training.trainer import train

SIMULATION: dict[str, Any] = {
    "k1": [32, 48],
    "k0": [48, 48],
    "readout_crop": 32,
    "coils": {"n_coils": [2, 3], "measured": 0},
    "masks": {"acceleration": [2, 3], "acs": [4, 6], "patterns": ["equispaced", "random"]},
    "espirit": {"probability": 0},
}
UNROLLED: dict[str, Any] = {
    "name": "tiny",
    "model": {
        "kind": "unrolled",
        "n_cascades": 2,
        "channels": 4,
        "pools": 1,
        "memory": 1,
        "consistency": {"kind": "cg", "iterations": 1, "initial_iterations": 2},
    },
    "loss": {"terms": [{"kind": "l1"}]},
    "data": {
        "sources": [{"kind": "synthetic", "n_subjects": 6, "slices_per_subject": 1, "size": 48}],
        "simulation": SIMULATION,
        "batch_size": 2,
        "validation_samples": 5,
    },
    "optimiser": {"lr": 0.01},
    "max_steps": 2,
    "accelerator": "cpu",
    "seed": 4,
}
IMAGE = UNROLLED | {
    "model": {"kind": "unet", "image_channels": 1, "channels": 4, "pools": 2},
    "data": UNROLLED["data"]
    | {"simulation": SIMULATION | {"task": {"kind": "image"}, "coils": {"n_coils": [1, 1], "measured": 0}}},
}
EXACT = UNROLLED | {"model": {"kind": "exact", "channels": 4, "pools": 2, "n_cascades": 2, "memory": 2}}
BUCKETS = ((32, 32), (52, 48))


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Path]]:
    """Folders of runs of both tasks."""
    root = tmp_path_factory.mktemp("runs")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SCANSIDE_CACHE", str(root / "cache"))
        for name, settings in (("unrolled", UNROLLED), ("image", IMAGE), ("exact", EXACT)):
            train(read_config(copy.deepcopy(settings), name), root / name)
        yield {name: root / name for name in ("unrolled", "image", "exact")}
    torch.set_num_threads(threads)


def built(run: Path, folder: Path, **options: Any) -> tuple[Bundle, Manifest]:
    manifest = build_bundle(run, folder, BuildOptions(**{"name": "tiny", "buckets": BUCKETS, **options}))
    return Bundle.open(folder), manifest


@pytest.fixture(scope="module")
def bundle_of(trained: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Bundle]:
    """Bundle of the unrolled network by its lowering."""

    @cache
    def build(lowering: str) -> Bundle:
        return built(trained["unrolled"], tmp_path_factory.mktemp("bundles") / "tiny", lowering=lowering)[0]

    return build


@pytest.fixture
def unrolled(bundle_of: Callable[[str], Bundle]) -> Bundle:
    return bundle_of("pmatrix")


def network_of(run: Path, lowering: Any) -> torch.nn.Module:
    """The trained network, with a lowering that is not its own."""
    model, _ = load_model(run)
    assert isinstance(model, Unrolled)
    network: torch.nn.Module = model.config.model_copy(update={"lowering": lowering}).build().eval()
    network.load_state_dict(model.state_dict())
    return network


def eager(bundle: Bundle, size: tuple[int, int], n_coils: int | None, form: FormName = "principal") -> Engine:
    """An engine that no gate has judged: nothing of worth was learned in two steps."""
    source = BundleSource(bundle, size, n_coils, form)
    runner = backend("eager").load(bundle.folder, source, "fp32")
    unjudged: Any = None
    return Engine(source, runner, unjudged, unjudged)


def inputs_of(manifest: Manifest, size: tuple[int, int], n_coils: int) -> list[torch.Tensor]:
    """Inputs of a scan that nobody made: a circulant P comes from a mask, everything else is random."""
    generator = torch.Generator().manual_seed(0)
    mask = (torch.rand(1, size[0], 1, generator=generator) < 0.6).float()
    if manifest.task == "image":
        return [torch.randn(manifest.inputs[0].shape(*size), generator=generator)]
    assert manifest.lowering != "none"
    image, maps = (
        torch.randn(spec.shape(*size, n_coils), generator=generator) for spec in manifest.inputs[:2]
    )
    maps = maps / maps.square().sum((1, 2), keepdim=True).sqrt()
    return [image, maps, torch.full((1, 1, 1, 1), 0.02), *sampling_inputs(manifest.lowering, mask)]


@pytest.mark.parametrize("lowering", ["fft", pytest.param("pmatrix", marks=pytest.mark.slow), "dft_matmul"])
def test_graph_is_the_network_of_the_run(
    trained: dict[str, Path], bundle_of: Callable[[str], Bundle], lowering: Any
) -> None:
    bundle = bundle_of(lowering)
    manifest = bundle.manifest
    assert [spec.name for spec in manifest.inputs][:3] == ["image", "maps", "noise"]
    inputs = inputs_of(manifest, (32, 48), 3)
    assert [tuple(one.shape) for one in inputs] == [spec.shape(32, 48, 3) for spec in manifest.inputs]
    network = network_of(trained["unrolled"], lowering)
    with torch.inference_mode():
        expected = network(*inputs)
    torch.testing.assert_close(eager(bundle, (32, 48), 3)(*inputs), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("size", [(51, 48), (50, 47), (29, 45)])
@pytest.mark.parametrize("lowering", ["pmatrix", "dft_matmul"])
def test_engine_of_a_larger_size_computes_what_the_network_does(
    trained: dict[str, Path], bundle_of: Callable[[str], Bundle], lowering: Any, size: tuple[int, int]
) -> None:
    """The engine pads by itself. The network gets what evaluations give it: a scan in empty surroundings."""
    bundle = bundle_of(lowering)
    place = fit(lowering, bundle.manifest.shapes, *size)
    assert place.bucket == (52, 48)
    inputs = inputs_of(bundle.manifest, size, 3)
    network = network_of(trained["unrolled"], lowering)
    with torch.inference_mode():
        expected = place.crop(network(*place.surround(unrolled_specs(lowering), inputs)))
    found = eager(bundle, place.bucket, 3)(*inputs)
    assert found.shape == (1, 2, *size)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


def exact_inputs(bundle: Bundle, inputs: Sequence[torch.Tensor], mask: torch.Tensor) -> list[torch.Tensor]:
    """Inputs of the exact form, of the scan that those of another form are of."""
    image, maps, noise, *_ = inputs
    form = bundle.manifest.columns
    assert form is not None
    coils = torch.complex(*maps[0].unbind(1))
    system = factorise(coils, mask, column_weight(form, noise.item()))
    return [image, *column_inputs(torch.complex(*image[0]), coils, system)]


def test_exact_form_is_what_the_steps_of_the_network_converge_to(
    trained: dict[str, Path], bundle_of: Callable[[str], Bundle]
) -> None:
    """With as many conjugate-gradient steps as it takes, and λ on the grid, the trained network is its exact form."""
    bundle = bundle_of("pmatrix")
    model, _ = load_model(trained["unrolled"])
    assert isinstance(model, Unrolled)
    assert isinstance(model.config.consistency, ProximalConfig)
    enough = model.config.consistency.model_copy(update={"iterations": 150, "initial_iterations": 150})
    changed = model.config.model_copy(update={"lowering": "pmatrix", "consistency": enough})
    network = changed.build().eval()
    network.load_state_dict(model.state_dict())
    mask = torch.arange(32) % 2 == 0
    image, maps, *_ = inputs_of(bundle.manifest, (32, 48), 3)
    maps[..., 5:9, 30:36] = 0  # where no coil sees anything
    noise = torch.full((1, 1, 1, 1), 0.02)
    assert bundle.manifest.columns is not None
    weight = column_weight(bundle.manifest.columns, 0.02)
    on_the_grid = noise * (weight / (bundle.manifest.columns.weight * 0.02**2)) ** 0.5
    with torch.inference_mode():
        expected = network(image, maps, on_the_grid, *sampling_inputs("pmatrix", mask[None, :, None].float()))
    inputs = exact_inputs(bundle, (image, maps, noise), mask)
    result = eager(bundle, (32, 48), None, "columns")(*inputs)
    assert not bool(result[..., 5:9, 30:36].any())
    assert float((result - expected).norm() / expected.norm()) < 1e-4


@pytest.mark.parametrize("n_coils", [1, 2, 11])
def test_engines_of_the_exact_form_serve_any_number_of_coils_and_smaller_images(
    trained: dict[str, Path], bundle_of: Callable[[str], Bundle], n_coils: int
) -> None:
    bundle = bundle_of("pmatrix")
    source = BundleSource(bundle, (52, 48), n_coils)
    assert (source.form, source.n_coils) == ("columns", None)
    assert source.inputs[2].shape == (1, 2, 48, 52, 52)
    image, maps, noise, _ = inputs_of(bundle.manifest, (50, 45), n_coils)
    inputs = exact_inputs(bundle, (image, maps, noise), torch.arange(50) % 3 == 0)
    place = fit("pmatrix", bundle.manifest.shapes, 50, 45)
    model, _ = load_model(trained["unrolled"])
    exact = model.exact()
    assert exact is not None
    with torch.inference_mode():
        expected = place.crop(exact.network.eval()(*place.surround(columns_specs(), inputs)))
    found = eager(bundle, place.bucket, None, "columns")(*inputs)
    assert found.shape == (1, 2, 50, 45)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


def test_large_engines_are_of_the_principal_form(unrolled: Bundle) -> None:
    manifest = unrolled.manifest
    assert manifest.columns is not None
    assert manifest.form_for((640, 512)) == "columns"
    assert manifest.form_for((648, 384)) == "principal"
    assert manifest.columns.below == MAX_ROWS + 1
    assert BundleSource(unrolled, (648, 32), 3).n_coils == 3
    assert unrolled.graph_sha256(form="columns") != unrolled.graph_sha256()


def test_networks_with_other_data_consistency_have_no_exact_form(trained: dict[str, Path]) -> None:
    model, _ = load_model(trained["unrolled"])
    assert model.exact() is not None
    hard = model.config.model_copy(update={"consistency": HardConfig()}).build()
    assert hard.exact() is None


@pytest.mark.slow
def test_network_whose_only_form_is_exact(trained: dict[str, Path], tmp_path: Path) -> None:
    bundle, manifest = built(trained["exact"], tmp_path / "exact")
    assert (manifest.task, manifest.lowering, manifest.shapes.coils) == ("unrolled", "columns", None)
    assert manifest.columns is not None
    assert manifest.graph_files() == tuple(manifest.columns.graphs.values())
    assert (manifest.columns.weight, manifest.columns.smallest) == (40.0, 5e-4)
    assert manifest.form_for((52, 48)) == "columns"
    model, _ = load_model(trained["exact"])
    config = read_config(copy.deepcopy(EXACT), "exact")
    sample = SimulatedSamples(config.data, "validation")[SampleKey(0, 0, 1)]
    batch = {name: one[None] for name, one in sample.items()}
    with torch.inference_mode():
        expected = model(*model.inputs(batch))
    # What the stage makes of the same scan, with λ on its grid.
    maps, image = (torch.complex(*sample[name].unbind(-3)) for name in ("maps", "image"))
    weight = column_weight(manifest.columns, float(sample["noise"]))
    solved = column_inputs(image, maps, factorise(maps, sample["mask"][:, 0] > 0, weight))
    inputs = (sample["image"][None], *solved)
    found = eager(bundle, (image.shape[0], image.shape[1]), None, "columns")(*inputs)
    assert float((found - expected).norm() / expected.norm()) < 0.02
    candidates = Workshop(BundleSource(bundle, (32, 32), None), EngineCache(tmp_path / "cache")).candidates(
        ("eager",)
    )
    reference = next(one for one in candidates if one.precision == "fp32")
    assert reference.accepted, "in bf16 a network that has hardly been trained differs by too much"


def test_manifest_of_an_unrolled_network(trained: dict[str, Path], unrolled: Bundle) -> None:
    manifest = unrolled.manifest
    assert manifest.task == "unrolled"
    assert manifest.lowering == "pmatrix"
    assert manifest.input_image == "adjoint"
    assert manifest.shapes.multiple_of == 2
    assert manifest.shapes.buckets == BUCKETS
    assert manifest.shapes.coils == manifest.sampling.n_coils == Range(low=2, high=3)
    assert manifest.sampling.matrix == Range(low=32, high=48)
    assert manifest.sampling.kinds == ("equispaced", "random")
    assert manifest.sampling.snr == Range(low=15.0, high=200.0)
    model, _ = load_model(trained["unrolled"])
    assert manifest.n_parameters == sum(p.numel() for p in model.parameters())
    assert manifest.training is not None
    assert manifest.training.seed == 4
    assert manifest.trained_on[0].licence == "clean"
    config = (unrolled.folder / manifest.training.config).read_bytes()
    assert config == (trained["unrolled"] / "config.yaml").read_bytes()
    sheet = (unrolled.folder / "datasheet.md").read_text("utf-8")
    assert f"acceleration {manifest.sampling.acceleration}" in sheet
    assert f"seed {manifest.training.seed}" in sheet


@pytest.mark.slow
def test_data_sheet_with_small_structures(trained: dict[str, Path], tmp_path: Path) -> None:
    means = {"kept": 0.87, "detectability": 4.2}
    row = {"candidate": "tiny", "diameter": 2.0, "contrast": -0.3, "n": 3, "means": means}
    document: dict[str, Any] = {
        "data": "a head",
        "cases": ["one"],
        "config": {"structures": {"unit": "pixels", "realisations": 8}},
        "structures": [row | {"deviations": dict.fromkeys(means, 0.1)}],
    }
    (tmp_path / "p.json").write_text(json.dumps(document), "utf-8")
    bundle, manifest = built(trained["image"], tmp_path / "bundle", perturbation=tmp_path / "p.json")
    sheet = (bundle.folder / "datasheet.md").read_text("utf-8")
    assert "| **tiny** | 2 | -0.3 | 0.87 ± 0.10 | – |" in sheet
    assert manifest.training is not None
    assert manifest.training.picture is not None
    assert f"({manifest.training.picture})" in sheet
    assert (bundle.folder / manifest.training.picture).read_bytes().startswith(b"\x89PNG")
    with pytest.raises(ConfigError, match="tells of tiny, and of none named other or image"):
        built(trained["image"], tmp_path / "none", perturbation=tmp_path / "p.json", name="other")
    assert not (tmp_path / "none").exists()


def relicensed(run: Path, folder: Path, licence: str) -> Path:
    """A copy of a run that was trained on data of another licence."""
    shutil.copytree(run, folder)
    record = json.loads((folder / "training.json").read_text())
    record["data"] = [one | {"kind": "brain-t2-complex", "licence": licence} for one in record["data"]]
    (folder / "training.json").write_text(json.dumps(record))
    return folder


def test_bundle_tells_its_whole_ancestry(trained: dict[str, Path], tmp_path: Path) -> None:
    parent = relicensed(trained["image"], tmp_path / "parent", "research")
    settings = copy.deepcopy(IMAGE) | {"name": "child", "initial": str(parent), "max_steps": 1}
    train(read_config(settings, "child"), tmp_path / "child")
    with pytest.raises(
        ConfigError, match="trained on brain-t2-complex, by way of tiny must not be given away"
    ):
        built(tmp_path / "child", tmp_path / "bundle", licence="clean")
    bundle, manifest = built(tmp_path / "child", tmp_path / "bundle")
    assert manifest.licence == "research"
    assert {one.licence for one in manifest.trained_on} == {"clean", "research"}
    training = manifest.training
    assert training is not None
    (ancestor,) = training.ancestors
    assert (training.initial, ancestor.name, ancestor.config) == ("tiny", "tiny", "ancestors/tiny.yaml")
    assert ancestor.trained_on[0].name == "brain-t2-complex"
    assert (bundle.folder / "ancestors" / "tiny.yaml").read_text() == (parent / "config.yaml").read_text()
    sheet = (bundle.folder / "datasheet.md").read_text("utf-8")
    assert "licence of the weights: research" in sheet
    assert "- `tiny`\n  - brain-t2-complex (research)" in sheet
    assert (
        "scanside train ancestors/tiny.yaml --output runs/tiny\n"
        "scanside train config.yaml --output runs/child --set initial=runs/tiny\n"
    ) in sheet

    grandchild = copy.deepcopy(IMAGE) | {"name": "grandchild", "initial": str(bundle.folder), "max_steps": 1}
    train(read_config(grandchild, "grandchild"), tmp_path / "grandchild")
    _, manifest = built(tmp_path / "grandchild", tmp_path / "next")
    assert manifest.training is not None
    assert [one.name for one in manifest.training.ancestors] == ["tiny", "child"]
    assert manifest.licence == "research"


@pytest.mark.slow
def test_bundle_says_what_people_must_be_told(trained: dict[str, Path], tmp_path: Path) -> None:
    loss = {"terms": [{"kind": "l1"}, {"kind": "adversarial", "patch": 16, "channels": 4, "after_steps": 1}]}
    train(read_config(copy.deepcopy(IMAGE) | {"loss": loss}, "tiny"), tmp_path / "run")
    bundle, manifest = built(tmp_path / "run", tmp_path / "bundle")
    caution = "trained with an adversarial loss: may invent detail"
    assert manifest.cautions == (caution,)
    sheet = (bundle.folder / "datasheet.md").read_text("utf-8")
    assert "\n\n**Trained with an adversarial loss: may invent detail.**\n\n## Intended scans" in sheet

    child = copy.deepcopy(IMAGE) | {"name": "child", "initial": str(bundle.folder), "max_steps": 1}
    train(read_config(child, "child"), tmp_path / "child")
    bundle, manifest = built(tmp_path / "child", tmp_path / "next")
    assert manifest.training is not None
    assert manifest.training.cautions == ()
    assert manifest.cautions == (f"goes back to tiny, {caution}",)
    sheet = (bundle.folder / "datasheet.md").read_text("utf-8")
    assert "**Goes back to tiny, trained with an adversarial loss: may invent detail.**" in sheet
    assert (
        "adversarial"
        not in (built(trained["image"], tmp_path / "other")[0].folder / "datasheet.md").read_text()
    )


def test_unknown_ancestry_is_refused(trained: dict[str, Path], tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(trained["image"], run)
    config = (run / "config.yaml").read_text().replace("initial: null", "initial: runs/lost")
    (run / "config.yaml").write_text(config)
    record = json.loads((run / "training.json").read_text())
    del record["lineage"]
    (run / "training.json").write_text(json.dumps(record))
    with pytest.raises(ConfigError, match="go back to lost, whose data are not known"):
        built(run, tmp_path / "bundle")
    _, manifest = built(run, tmp_path / "bundle", licence="research")
    assert manifest.licence == "research"


def test_sampling_is_what_training_draws(unrolled: Bundle) -> None:
    """Other masks of the same settings lie within, and fill, the ranges."""
    sampling = unrolled.manifest.sampling
    masks = MaskConfig(**SIMULATION["masks"])
    rng = np.random.default_rng(7)
    found, widths = [], []
    for _ in range(300):
        n = int(rng.choice([32, 48]))
        lines, _ = random_mask(masks, n, rng)
        found.append(n / lines.sum())
        gaps = np.flatnonzero(~lines) - n // 2
        widths.append(gaps[gaps > 0].min() - gaps[gaps < 0].max() - 1)
    assert all(value in sampling.acceleration for value in found)
    assert min(found) - sampling.acceleration.low < 0.15
    assert sampling.acceleration.high - max(found) < 0.15
    assert sampling.acceleration.low < 1.9, "the ACS lines of equispaced masks were forgotten"
    assert sampling.acs_lines.low == min(widths) == 4
    assert 6 < max(widths) <= sampling.acs_lines.high < 32


def test_networks_with_fourier_transforms_inside_take_no_other_size(
    bundle_of: Callable[[str], Bundle],
) -> None:
    bundle = bundle_of("fft")
    with pytest.raises(ShapeError, match=r"has shape \(1, 2, 30, 48\), but the engine was built for"):
        eager(bundle, (32, 48), 3)(*inputs_of(bundle.manifest, (30, 48), 3))


def test_image_network(trained: dict[str, Path], tmp_path: Path) -> None:
    bundle, manifest = built(trained["image"], tmp_path / "tiny")
    assert manifest.task == "image"
    assert manifest.lowering == "none"
    assert manifest.input_image == "zero-filled"
    assert manifest.shapes.coils is None
    assert [spec.axes for spec in (*manifest.inputs, *manifest.outputs)] == 2 * [("batch", 1, "k1", "k0")]
    (image,) = inputs_of(manifest, (32, 48), 1)
    model, _ = load_model(trained["image"])
    with torch.inference_mode():
        expected = model(image)
    torch.testing.assert_close(eager(bundle, (32, 48), None)(image), expected, rtol=1e-5, atol=1e-5)


def test_vectors_are_validation_samples(unrolled: Bundle) -> None:
    cases = read_cases("unrolled", unrolled.vectors())
    data = read_config(copy.deepcopy(UNROLLED), "tiny").data
    samples = SimulatedSamples(data, "validation")
    for case, index in zip(cases.values(), (0, 2, 4), strict=True):
        sample = samples[SampleKey(0, 0, index)]
        assert torch.equal(case["truth"], sample["target"])
        assert torch.equal(case["mask"], sample["mask"])
        assert torch.equal(case["noise"], sample["noise"])


def test_int8_is_calibrated_with_training_samples(unrolled: Bundle) -> None:
    """They are none of those that engines are judged on, in half precision."""
    cases = read_cases("unrolled", unrolled.calibration())
    data = read_config(copy.deepcopy(UNROLLED), "tiny").data
    samples = SimulatedSamples(data, "train")
    for i, case in enumerate(cases.values()):
        sample = samples[SampleKey(0, i, i * data.batch_size)]
        assert torch.equal(case["truth"], sample["target"].half().float())
    assert len(cases) == 3
    assert unrolled.manifest.files[unrolled.manifest.calibration or ""].size < LARGEST_VECTORS / 2
    inputs = BundleSource(unrolled, (32, 32), 3, "principal").calibration()
    assert [one.shape for one in inputs[0]] == [
        one.shape for one in inputs_of(unrolled.manifest, (32, 32), 3)
    ]


def test_cases_to_calibrate_with_are_added_to_a_bundle_that_has_none(
    unrolled: Bundle, tmp_path: Path
) -> None:
    folder = tmp_path / "older"
    with BundleWriter(folder) as writer:
        for path in unrolled.manifest.files:
            if path != unrolled.manifest.calibration:
                writer.path(path).write_bytes(unrolled.read(path))
        fields = {name: value for name, value in unrolled.manifest if name not in ("files", "calibration")}
        writer.finish(**fields)
    assert Bundle.open(folder).calibration() == {}
    add_calibration(folder)
    assert Bundle.open(folder).manifest == unrolled.manifest


def test_bf16_is_close_and_not_the_same(unrolled: Bundle) -> None:
    inputs = inputs_of(unrolled.manifest, (32, 32), 3)
    source = BundleSource(unrolled, (32, 32), 3, "principal")
    full, half = (bind(source, precision)(*inputs) for precision in ("fp32", "bf16"))
    error = float((full - half).norm() / full.norm())
    assert 0 < error < 2e-2
    assert half.dtype == torch.float32


@pytest.mark.slow
def test_weights_of_half_the_size(trained: dict[str, Path], tmp_path: Path, unrolled: Bundle) -> None:
    bundle, manifest = built(trained["unrolled"], tmp_path / "tiny", weights="float16")
    name = "weights.safetensors"
    assert manifest.files[name].size < 0.7 * unrolled.manifest.files[name].size
    inputs = inputs_of(manifest, (32, 32), 3)
    for key, tensor in bundle.weights().items():
        assert torch.equal(tensor, unrolled.weights()[key].half()), key
    result, whole = (eager(one, (32, 32), 3)(*inputs) for one in (bundle, unrolled))
    assert 0 < float((result - whole).norm() / whole.norm()) < 1e-2


def test_runs_that_cannot_become_a_bundle(trained: dict[str, Path], tmp_path: Path) -> None:
    options = BuildOptions(name="tiny", buckets=BUCKETS)
    output = tmp_path / "out"
    with pytest.raises(ConfigError, match=r"no folder of a training run: it has no config.yaml"):
        build_bundle(tmp_path, output, options)
    run = Path(shutil.copytree(trained["unrolled"], tmp_path / "run"))
    weights = run / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(FormatError, match="truncated"):
        build_bundle(run, output, options)
    (run / "training.json").unlink()
    with pytest.raises(ConfigError, match=r"is not finished: .*--resume"):
        build_bundle(run, output, options)
    assert not output.exists()


def test_networks_that_cannot_become_a_bundle(trained: dict[str, Path], tmp_path: Path) -> None:
    run = Path(shutil.copytree(trained["unrolled"], tmp_path / "run"))
    config = (run / "config.yaml").read_text("utf-8")
    (run / "config.yaml").write_text(config.replace("sensitivities: null", "sensitivities: {}"), "utf-8")
    with pytest.raises(ConfigError, match="estimates its coil maps"):
        build_bundle(run, tmp_path / "out", BuildOptions(name="tiny", buckets=BUCKETS))


def test_options_that_cannot_be_met(trained: dict[str, Path], tmp_path: Path) -> None:
    run, output = trained["image"], tmp_path / "out"
    with pytest.raises(BundleError, match=r"at most 0\.0 MB are allowed"):
        build_bundle(run, output, BuildOptions(name="tiny", buckets=BUCKETS, size_limit=1000))
    with pytest.raises(ConfigError, match=r"bucket 30x32: .*divisible by 4; take 32x32"):
        build_bundle(run, output, BuildOptions(name="tiny", buckets=((30, 32),)))
    assert not output.exists()
    output.mkdir()
    with pytest.raises(FileExistsError):
        build_bundle(run, output, BuildOptions(name="tiny", buckets=BUCKETS))


FILM_DATA: dict[str, Any] = UNROLLED["data"] | {
    "sources": [{"kind": "beating-hearts", "n_subjects": 6, "films_per_subject": 1, "frames": 6, "size": 48}],
    "simulation": SIMULATION
    | {"task": {"kind": "dynamic", "time": 4, "masks": {"acceleration": [3, 4], "acs": [4, 6]}}},
    "validation_samples": 3,
}
TEMPORAL = UNROLLED | {
    "model": {
        "kind": "temporal",
        "n_frames": 4,
        "n_cascades": 1,
        "channels": 4,
        "pools": 1,
        "shared_iterations": 1,
    },
    "data": FILM_DATA,
}
DUAL = UNROLLED | {
    "model": {"kind": "dual-unet", "n_frames": 4, "channels": 2, "pools": 1, "fusion_channels": 2},
    "data": FILM_DATA,
}


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, Bundle]]:
    """Runs of networks for films and their bundles: with data consistency, and without."""
    root = tmp_path_factory.mktemp("films")
    made = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SCANSIDE_CACHE", str(root / "cache"))
        for name, settings in (("temporal", TEMPORAL), ("dual", DUAL)):
            train(read_config(copy.deepcopy(settings), name), root / name)
            bundle, _ = built(root / name, root / "bundles" / name, anatomy=("heart",))
            made[name] = (root / name, bundle)
    return made


@pytest.mark.slow
def test_networks_for_films(films: dict[str, tuple[Path, Bundle]]) -> None:
    for name, (run, bundle) in films.items():
        manifest = bundle.manifest
        assert manifest.task == "dynamic"
        assert manifest.shapes.frames == 4
        assert manifest.input_image == "adjoint"
        assert manifest.lowering == ("pmatrix" if name == "temporal" else "none")
        assert manifest.shapes.coils == (Range(low=2, high=3) if name == "temporal" else None)
        # Gradient steps do not ask for the noise: it is no input of the graph.
        offered = film_specs(manifest.lowering)
        assert manifest.inputs == tuple(spec for spec in offered if spec.name != "noise")
        assert manifest.outputs[0].axes == manifest.inputs[0].axes
        inputs = film_inputs(manifest.lowering, (32, 48))
        network, _ = load_model(run)
        if name == "temporal":
            lowered = network.config.model_copy(update={"lowering": "pmatrix"})  # type: ignore[union-attr]
            weights = network.state_dict()
            network = lowered.build().eval()
            network.load_state_dict(weights)
        with torch.inference_mode():
            expected = network(*inputs)
        found = eager(bundle, (32, 48), 3)(*taken(manifest, inputs))
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def taken(manifest: Manifest, offered: list[torch.Tensor]) -> list[torch.Tensor]:
    """Of the inputs of a network for films, those that its graph takes."""
    names = [spec.name for spec in manifest.inputs]
    specs = film_specs(manifest.lowering)
    return [one for spec, one in zip(specs, offered, strict=True) if spec.name in names]


def film_inputs(lowering: Any, size: tuple[int, int]) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    image = torch.randn(1, 2, 4, *size, generator=generator)
    if lowering == "none":
        return [image]
    maps = torch.randn(1, 3, 2, *size, generator=generator)
    maps = maps / maps.square().sum((1, 2), keepdim=True).sqrt()
    mask = (torch.rand(1, 4, size[0], 1, generator=generator) < 0.6).float()
    return [image, maps, torch.full((1, 1, 1, 1), 0.02), *film_sampling_inputs(lowering, mask)]


@pytest.mark.slow
def test_smaller_films_are_padded(films: dict[str, tuple[Path, Bundle]]) -> None:
    """With data consistency nothing beyond the film takes part: what was trained at its size holds at others."""
    _, bundle = films["temporal"]
    inputs = taken(bundle.manifest, film_inputs("pmatrix", (30, 44)))
    place = fit("pmatrix", bundle.manifest.shapes, 30, 44)
    large = place.surround(bundle.manifest.inputs, inputs)
    expected = place.crop(bind(BundleSource(bundle, place.bucket, 3))(*large))
    torch.testing.assert_close(eager(bundle, place.bucket, 3)(*inputs), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_manifest_of_a_network_for_films(films: dict[str, tuple[Path, Bundle]]) -> None:
    _, bundle = films["temporal"]
    sampling = bundle.manifest.sampling
    assert sampling.kinds == ("variable-density",)
    assert sampling.anatomy == ("heart",)
    rng = np.random.default_rng(7)
    masks = FrameMaskConfig(acceleration=(3, 4), acs=(4, 6))
    for _ in range(100):
        n = int(rng.choice([32, 48]))
        lines, _ = random_frame_masks(masks, n, 4, rng)
        assert all(n / frame.sum() in sampling.acceleration for frame in lines)
    sheet = (bundle.folder / "datasheet.md").read_text("utf-8")
    assert "films, windows of 4 frames" in sheet
    assert "films of" in bundle.manifest.trained_on[0].what
    vectors = bundle.vectors()
    assert sum(tensor.nbytes for tensor in vectors.values()) < LARGEST_VECTORS
    cases = read_cases("dynamic", vectors, "pmatrix")
    assert all(case["truth"].shape[1] == 4 for case in cases.values())
    assert all(float(case["noise"]) > 0 for case in cases.values())


@pytest.mark.slow
def test_films_in_bf16_are_close_and_not_the_same(films: dict[str, tuple[Path, Bundle]]) -> None:
    for _, bundle in films.values():
        inputs = taken(bundle.manifest, film_inputs(bundle.manifest.lowering, (32, 32)))
        source = BundleSource(bundle, (32, 32), 3)
        full, half = (bind(source, precision)(*inputs) for precision in ("fp32", "bf16"))
        assert 0 < float((full - half).norm() / full.norm()) < 2e-2
        assert half.dtype == torch.float32


def test_there_are_no_engines_for_masks_over_planes() -> None:
    simulation = SimulationConfig.model_validate({"masks": {"plane": {}}, "readout_crop": None})
    with pytest.raises(ConfigError, match="no engine is built for masks over two phase encodings"):
        sampling_of(simulation, ())
