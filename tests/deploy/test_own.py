"""Bundles of networks that were trained elsewhere."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from typer.testing import CliRunner

from scanside.cli.app import app
from scanside.engines.build import BundleSource
from scanside.engines.bundle import Bundle
from scanside.engines.graph import bind
from scanside.engines.trust import TrustPolicy
from scanside.errors import ConfigError, ShapeError
from scanside.stages._learned import Learned
from scanside_deploy.build import BuildOptions
from scanside_deploy.own import build_own, read_module, read_ports
from scanside_training.data import SampleKey, SimulatedSamples


@pytest.fixture(autouse=True, scope="module")
def slices(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SCANSIDE_CACHE", str(tmp_path_factory.mktemp("slices")))
        yield


PORTS: dict[str, Any] = {
    "inputs": [{"name": "image", "axes": ["batch", 2, "k1", "k0"]}],
    "divisor": 2,
    "trained_on": [{"name": "my-heads", "licence": "clean", "what": "heads of a day"}],
    "data": {
        "sources": [{"kind": "synthetic", "n_subjects": 12, "slices_per_subject": 1, "size": 48}],
        "simulation": {
            "task": {"kind": "image", "channels": "complex"},
            "k1": [48, 64],
            "k0": [48, 64],
            "readout_crop": None,
            "coils": {"n_coils": [4, 4], "measured": 0},
            "masks": {"acceleration": [2, 3], "acs": [11, 12]},
            "espirit": {"probability": 0},
        },
        "validation_samples": 3,
    },
}
UNROLLED = [
    {"name": "image", "axes": ["batch", 2, "k1", "k0"]},
    {"name": "maps", "axes": ["batch", "coil", 2, "k1", "k0"]},
    {"name": "p", "axes": ["batch", 2, "k1", "k1"]},
]
OPTIONS = BuildOptions(name="mine", anatomy=("head",), buckets=((64, 64),))


class Smooth(torch.nn.Module):
    """Someone's network: the mean with what lies above and below."""

    def __init__(self) -> None:
        super().__init__()
        self.share = torch.nn.Parameter(torch.tensor(0.2))

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        neighbours = torch.roll(image, 1, -2) + torch.roll(image, -1, -2)
        return (1 - self.share) * image + 0.5 * self.share * neighbours


class Doubting(Smooth):
    """The same, which expects errors of a part of what it changes."""

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        made = super().forward(image)
        return torch.cat((made, 0.1 * (made - image).square().sum(1, keepdim=True).sqrt() + 0.01), 1)


class Step(torch.nn.Module):
    """Someone's unrolled network: a step down the misfit."""

    def __init__(self) -> None:
        super().__init__()
        self.length = torch.nn.Parameter(torch.tensor(0.7))

    def forward(self, image: torch.Tensor, maps: torch.Tensor, p: torch.Tensor) -> torch.Tensor:
        sensitivities = maps.square().sum((1, 2)).unsqueeze(1)
        real = p[:, 0].unsqueeze(1) @ image - p[:, 1].unsqueeze(1) @ image.flip(1) * _sign(image)
        return self.length * (image + 0.1 * real) * (sensitivities > 0)


def _sign(image: torch.Tensor) -> torch.Tensor:
    return torch.tensor([1.0, -1.0], dtype=image.dtype).view(1, 2, 1, 1)


def smooth() -> Smooth:
    return Smooth()


def written(ports: dict[str, Any], folder: Path) -> Path:
    path = folder / "ports.yaml"
    path.write_text(yaml.safe_dump(ports), "utf-8")
    return path


def changed(path: str, value: Any) -> dict[str, Any]:
    ports = copy.deepcopy(PORTS)
    *groups, last = path.split(".")
    place = ports
    for group in groups:
        place = place[group]
    place[last] = value
    return ports


def test_a_module_becomes_a_bundle_whose_engines_compute_what_it_computes(tmp_path: Path) -> None:
    ports = read_ports(written(PORTS, tmp_path))
    manifest = build_own(Smooth(), ports, tmp_path / "mine", OPTIONS)
    assert (manifest.task, manifest.lowering, manifest.input_image) == ("image", "none", "zero-filled")
    assert manifest.trained_on[0].name == "my-heads"
    assert manifest.precisions == ("fp32",)
    assert (manifest.sampling.n_coils.low, manifest.sampling.anatomy) == (4, ("head",))
    bundle = Bundle.open(tmp_path / "mine")
    image = torch.randn(1, 2, 64, 64)
    with torch.inference_mode():
        found = bind(BundleSource(bundle, (64, 64), None))(image)
        torch.testing.assert_close(found, Smooth()(image))


class Transform(torch.nn.Module):
    """Someone's network of one size: a weight for each number of k-space."""

    def __init__(self, k1: int, k0: int) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.randn(2, k1, k0))

    def forward(self, kspace: torch.Tensor) -> torch.Tensor:
        return kspace * self.weight


def of_one_size(size: list[int]) -> dict[str, Any]:
    ports = changed("inputs", [{"name": "kspace", "axes": ["batch", 2, "k1", "k0"]}]) | {"size": size}
    ports["data"]["simulation"] |= {"k1": [48, 48], "k0": [64, 64]}
    return ports


def test_a_module_may_take_kspace_of_one_size(tmp_path: Path) -> None:
    ports = read_ports(written(of_one_size([48, 64]), tmp_path))
    module = Transform(48, 64)
    manifest = build_own(module, ports, tmp_path / "mine", BuildOptions(name="mine"))
    assert manifest.shapes.fixed
    assert manifest.shapes.buckets == ((48, 64),)
    bundle = Bundle.open(tmp_path / "mine")
    kspace = torch.randn(1, 2, 48, 64)
    with torch.inference_mode():
        torch.testing.assert_close(bind(BundleSource(bundle, (48, 64)))(kspace), module(kspace))
    with pytest.raises(ShapeError, match="takes images of 48×64 and no others"):
        BundleSource(bundle, (64, 64))
    with pytest.raises(ConfigError, match="bucket 64x64: the network takes images of 48x64 and no others"):
        build_own(module, ports, tmp_path / "other", OPTIONS)


def test_a_module_may_tell_its_uncertainty(tmp_path: Path) -> None:
    ports = read_ports(written(changed("uncertainty", True), tmp_path))
    manifest = build_own(Doubting(), ports, tmp_path / "mine", OPTIONS)
    assert [spec.axes for spec in manifest.outputs] == [
        ("batch", 2, "k1", "k0"),
        ("batch", 1, "k1", "k0"),
    ]
    assert manifest.uncertainty is not None
    assert manifest.uncertainty.correlation > 0
    with pytest.raises(ConfigError, match=r"gives \(1, 3, 64, 64\).*the shape \(1, 2, 64, 64\)"):
        build_own(Doubting(), read_ports(written(PORTS, tmp_path)), tmp_path / "other", OPTIONS)


class Certain(Doubting):
    """It expects least where it changes most."""

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        made = super().forward(image)
        return torch.cat((made[:, :2], 1 / made[:, 2:]), 1)


def test_a_word_that_does_not_follow_the_errors_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="uncertainty does not follow its errors"):
        build_own(
            Certain(), read_ports(written(changed("uncertainty", True), tmp_path)), tmp_path / "mine", OPTIONS
        )


def test_by_the_command_and_in_the_stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SCANSIDE_ENGINE_CACHE", str(tmp_path / "cache"))
    made = CliRunner().invoke(
        app,
        [
            "engines", "build", "--module", f"{__name__}:smooth", "--ports", str(written(PORTS, tmp_path)),
            "--output", str(tmp_path / "mine"), "--anatomy", "head", "--bucket", "64x64", "--backend", "eager",
        ],
    )  # fmt: skip
    assert made.exit_code == 0, made.output
    learned = Learned(str(tmp_path / "mine"), TrustPolicy(), "eager", "fp32")
    assert learned.wants == "adjoint"
    engine = learned.engine_now((60, 50), 4)
    image = torch.randn(60, 50, dtype=torch.complex64)
    maps = torch.ones(4, 60, 50, dtype=torch.complex64) / 2
    inputs = learned.inputs(engine, image, maps, torch.ones(60), torch.tensor(0.01))
    found = learned.image(engine(*inputs), image)
    assert found.shape == (60, 50)
    inside = Smooth()(torch.view_as_real(image).movedim(-1, 0)[None])[0, :, 1:-1]
    torch.testing.assert_close(torch.view_as_real(found).movedim(-1, 0)[:, 1:-1], inside)


def test_an_exported_program_is_a_module_too(tmp_path: Path) -> None:
    sizes = {2: 2 * torch.export.Dim("k1", min=2), 3: 2 * torch.export.Dim("k0", min=2)}
    program = torch.export.export(Smooth(), (torch.zeros(1, 2, 32, 48),), dynamic_shapes=(sizes,))
    torch.export.save(program, tmp_path / "smooth.pt2")
    ports = read_ports(written(PORTS, tmp_path))
    build_own(read_module(str(tmp_path / "smooth.pt2")), ports, tmp_path / "mine", OPTIONS)
    image = torch.randn(1, 2, 64, 64)
    source = BundleSource(Bundle.open(tmp_path / "mine"), (64, 64), None)
    with torch.inference_mode():
        torch.testing.assert_close(bind(source)(image), Smooth()(image))


def test_a_network_with_data_consistency_of_its_own(tmp_path: Path) -> None:
    settings = changed("data.simulation.task", {"kind": "unrolled"}) | {
        "inputs": UNROLLED,
        "lowering": "pmatrix",
    }
    ports = read_ports(written(settings, tmp_path))
    manifest = build_own(Step(), ports, tmp_path / "mine", OPTIONS)
    assert (manifest.task, manifest.lowering) == ("unrolled", "pmatrix")
    assert manifest.shapes.coils is not None
    assert [spec.name for spec in manifest.inputs] == ["image", "maps", "p"]
    sample = SimulatedSamples(ports.data, "validation")[SampleKey(0, 0, 0)]
    assert sample["image"].shape[-2:] == (64, 64)


def test_research_makes_no_clean_bundle(tmp_path: Path) -> None:
    settings = PORTS | {"trained_on": [{"name": "my-heads", "licence": "research", "what": "heads"}]}
    options = replace(OPTIONS, licence="clean")
    with pytest.raises(ConfigError, match="trained on my-heads must not be given away"):
        build_own(Smooth(), read_ports(written(settings, tmp_path)), tmp_path / "mine", options)


class Branches(Smooth):
    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return super().forward(image) if image.sum() > 0 else image


class Halves(Smooth):
    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return super().forward(image)[..., ::2]


def not_finite() -> torch.nn.Module:
    module = Smooth()
    module.share.data.fill_(float("nan"))
    return module


@pytest.mark.parametrize(
    ("module", "ports", "said"),
    [
        (Smooth(), changed("inputs", UNROLLED), r"not given the role 'maps'.*given: .*image"),
        (Step(), PORTS, r"cannot be called with its ports, image \(batch, 2, k1, k0\): TypeError"),
        (
            Smooth(),
            changed("inputs", [{"name": "image", "axes": ["batch", 1, "k1", "k0"]}]),
            r"port 'image \(batch, 1, k1, k0\)' stands for the shape \(1, 1, .*gives \(1, 2",
        ),
        (Halves(), PORTS, r"gives \(1, 2, 64, 32\) for an image of \(1, 2, 64, 64\)"),
        (Branches(), PORTS, r"torch.export cannot take the module: .*without branches"),
        (not_finite(), PORTS, r"weights that are NaN or infinite: share"),
        (
            Transform(64, 64),
            of_one_size([64, 64]),
            "size: the module takes images of 64x64, and data.simulation gives 48x64",
        ),
    ],
)
def test_what_does_not_fit_is_told(
    tmp_path: Path, module: torch.nn.Module, ports: dict[str, Any], said: str
) -> None:
    with pytest.raises(ConfigError, match=said):
        build_own(module, read_ports(written(ports, tmp_path)), tmp_path / "mine", OPTIONS)
    assert not (tmp_path / "mine").exists()


@pytest.mark.parametrize(
    ("ports", "said"),
    [
        (
            changed("inputs", [{"name": "contrast", "axes": ["batch", 2, "k1", "k0"]}]),
            "nothing makes the role contrast",
        ),
        (changed("divider", 2), r"has no setting 'divider' \(did you mean 'divisor'\?\)"),
        ({name: one for name, one in PORTS.items() if name != "trained_on"}, "trained_on is missing"),
    ],
)
def test_ports_are_read_with_care(tmp_path: Path, ports: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        read_ports(written(ports, tmp_path))


@pytest.mark.parametrize(
    ("where", "said"),
    [
        ("no_such_package:network", "ModuleNotFoundError.*package.module:name"),
        (f"{__name__}:no_such_name", "AttributeError"),
        (f"{__name__}:written", "TypeError"),
        ("collections:OrderedDict", "gives a OrderedDict"),
        ("missing.pt2", "missing.pt2 cannot be read as an exported program"),
    ],
)
def test_modules_that_are_none(where: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        read_module(where)


@pytest.mark.parametrize(
    "arguments", [[], ["--module", "a:b"], ["somewhere", "--module", "a:b", "--ports", "ports.yaml"]]
)
def test_the_command_takes_one_kind_of_source(arguments: list[str]) -> None:
    made = CliRunner().invoke(app, ["engines", "build", *arguments])
    assert made.exit_code == 2
    assert "--module and --ports" in made.output.replace("\n", " ")
