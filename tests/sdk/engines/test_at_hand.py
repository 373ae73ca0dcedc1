"""The network as it is, in any size, without an engine that was built."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from scanside.engines.at_hand import AtHand
from scanside.engines.backends import eager
from scanside.engines.build import BundleSource, Workshop
from scanside.engines.bundle import Bundle
from scanside.engines.cache import EngineCache
from scanside.engines.engine import Engine
from scanside.engines.gate import Reference, accept
from scanside.engines.graph import bind
from scanside.engines.probes import Probe
from scanside.errors import EngineRejected, ShapeError
from scanside.recon.consistency import sampling_inputs


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SCANSIDE_ENGINE_CACHE", str(tmp_path / "engines"))


@pytest.fixture
def bundle(bundle_folder: Path) -> Bundle:
    return Bundle.open(bundle_folder)


def test_it_is_the_network(bundle: Bundle) -> None:
    at_hand = AtHand(bundle)
    for shape in ((96, 104), (256, 96)):
        engine = at_hand.engine(shape, None, "nothing else is there")
        assert engine.shape == shape
        image = torch.randn(1, 2, *shape)
        assert torch.equal(engine(image), 2 * image)
        assert str(engine.choice) == "eager fp32: chosen, nothing else is there"
        assert engine.provenance["shape"] == f"{shape[0]}×{shape[1]}"
        (check,) = engine.report.checks
        assert check.name == "error-to-truth/real-0"
        assert check.value == 0
    with pytest.raises(ShapeError, match="65×200 does not fit into this engine of 96×104"):
        at_hand.engine((96, 104), None, "")(torch.randn(1, 2, 65, 200))
    assert list(EngineCache().entries()) == []


@pytest.mark.parametrize("name", ["gradient", "exact", "smooth"])
def test_same_image_as_of_the_engine_that_was_accepted(learned_bundles: Path, name: str) -> None:
    bundle = Bundle.open(learned_bundles / name)
    n_coils = None if bundle.manifest.shapes.coils is None else 4
    engine = AtHand(bundle).engine((64, 64), n_coils, "")
    accepted = Engine.load(bundle, (64, 64), n_coils, name="eager")
    inputs = [torch.rand(spec.shape) for spec in BundleSource(bundle, (64, 64), n_coils).inputs]
    assert torch.equal(engine(*inputs), accepted(*inputs))
    assert engine.n_coils == accepted.n_coils


@pytest.mark.parametrize("size", [(64, 512), (511, 65), (131, 98), (320, 322)])
def test_padded_result_is_that_of_the_size_itself(learned_bundles: Path, size: tuple[int, int]) -> None:
    """Networks that look at no neighbours: what data consistency makes of an image does not depend on the engine."""
    generator = torch.Generator().manual_seed(size[0])
    k1, k0 = size
    image, fitted = torch.randn(2, 1, 2, k1, k0, generator=generator)
    maps = torch.randn(1, 2, 2, k1, k0, generator=generator) / 2
    mask = (torch.rand(1, k1, 1, generator=generator) < 0.3).float()
    kept = torch.randn(1, 2, k0, k1, k1, generator=generator) / k1**0.5
    inputs = {
        "gradient": (image, maps, *sampling_inputs("pmatrix", mask)),
        "exact": (image, fitted, kept, torch.ones(1, 1, k1, k0)),
    }
    for name, given in inputs.items():
        at_hand = AtHand(Bundle.open(learned_bundles / name))
        own, larger = (
            at_hand.engine((k1 + k1 % 2 + more, k0 + k0 % 2 + more), 2, "")(*given) for more in (0, 30)
        )
        assert own.shape == image.shape
        assert float((own - larger).norm() / own.norm()) < 1e-6, name
        if k1 % 2 == k0 % 2 == 0:
            alone = bind(BundleSource(Bundle.open(learned_bundles / name), size, 2))(*given)
            assert float((own - alone).norm() / own.norm()) < 1e-6, name


def test_network_and_trial_serve_all_sizes(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    run = eager.EagerRunner._run

    def counted(runner: eager.EagerRunner, tensors: tuple[torch.Tensor, ...]) -> torch.Tensor:
        calls.append(tensors)
        return run(runner, tensors)

    monkeypatch.setattr(eager.EagerRunner, "_run", counted)
    at_hand = AtHand(bundle)
    engines = [at_hand.engine(shape, None, "") for shape in ((96, 96), (640, 96), (96, 96))]
    assert len(calls) == 1
    assert engines[0] is engines[2]


def broken(what: float) -> type[torch.nn.Module]:
    class Broken(torch.nn.Module):
        def forward(self, image: torch.Tensor) -> torch.Tensor:
            return image * what

    return Broken


@pytest.mark.parametrize(
    ("what", "said"), [(float("nan"), "NaN or infinity"), (-2.0, "than nothing would be")]
)
def test_a_network_that_makes_nothing_of_its_own_case(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch, what: float, said: str
) -> None:
    monkeypatch.setattr("scanside.engines.at_hand.bind", lambda _: broken(what)())
    with pytest.raises(EngineRejected, match=said):
        AtHand(bundle).engine((96, 96), None, "")


def test_a_size_in_which_the_gate_refused_the_network(bundle: Bundle) -> None:
    source, cache, one = BundleSource(bundle, (96, 96)), EngineCache(), eager.Eager()
    image = torch.randn(1, 2, 96, 96)
    wrong = Reference((Probe("real-0", (image,)),), (3 * bind(source)(image).detach(),))
    with cache.building(Workshop(source, cache)._key(one, "fp32")) as draft:
        assert not draft.keep(accept(one, source, "fp32", draft.folder, wrong)).report.passed
    with pytest.raises(EngineRejected, match=r"refused on this machine.*relative-error/real-0"):
        AtHand(bundle).engine((96, 96), None, "")
    assert AtHand(bundle).engine((96, 104), None, "").shape == (96, 104)
