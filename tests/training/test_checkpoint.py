"""What a run leaves behind can be read again, and what is damaged says so."""

from __future__ import annotations

import pickle
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from scanside.errors import BundleError, ConfigError, FormatError
from scanside_training.checkpoint import (
    begin_with,
    load_model,
    load_weights,
    read_checkpoint,
    save_weights,
    write_config,
)
from scanside_training.config import TrainConfig, read_config
from scanside_training.models import ExactConfig, Network, UnetConfig, Unrolled, UnrolledConfig


@pytest.fixture
def run(tiny: dict[str, Any], tmp_path: Path) -> tuple[Path, TrainConfig, torch.nn.Module]:
    """A run's folder as `scanside train` leaves it, as far as loading needs it."""
    config = read_config(tiny, "tiny")
    model = config.model.build()
    write_config(config, tmp_path)
    save_weights(model, tmp_path / "model.safetensors", step=3)
    return tmp_path, config, model


def test_load_model(run: tuple[Path, TrainConfig, torch.nn.Module]) -> None:
    folder, config, model = run
    loaded, loaded_config = load_model(folder)
    assert loaded_config == config
    assert not loaded.training
    image = torch.randn(1, 2, 16, 16, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert torch.equal(loaded(image), model.eval()(image))
    assert sorted(path.name for path in folder.iterdir()) == ["config.yaml", "model.safetensors"], "no parts"


def test_weights_of_an_earlier_run(run: tuple[Path, TrainConfig, torch.nn.Module]) -> None:
    """They are those of transposed convolutions, ``(n_in, n_out, 2, 2)``."""
    folder, _, model = run
    path = folder / "model.safetensors"
    tensors = load_file(path)
    for name in [name for name in tensors if name.endswith(".up.0.weight")]:
        tensor = tensors[name]
        tensors[name] = tensor.reshape(-1, 2, 2, tensor.shape[1]).permute(3, 0, 1, 2).contiguous()
        assert tensors[name].shape[2:] == (2, 2)
    save_file(tensors, path)
    loaded, _ = load_model(folder)
    for name, tensor in loaded.state_dict().items():
        assert torch.equal(tensor, model.state_dict()[name]), name


def test_no_run(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"is no folder of a training run.*scanside train"):
        load_model(tmp_path)


def test_no_weights_yet(run: tuple[Path, TrainConfig, torch.nn.Module]) -> None:
    (run[0] / "model.safetensors").unlink()
    with pytest.raises(FormatError, match="which it writes at each validation"):
        load_model(run[0])


@pytest.mark.parametrize("length", [0, 5, 500, -1])
def test_truncated_weights(run: tuple[Path, TrainConfig, torch.nn.Module], length: int) -> None:
    path = run[0] / "model.safetensors"
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(FormatError, match="truncated or no safetensors file"):
        load_model(run[0])


def test_weights_of_another_network(run: tuple[Path, TrainConfig, torch.nn.Module]) -> None:
    folder, config, model = run
    wider = config.model.model_copy(update={"channels": 6}).build()
    with pytest.raises(FormatError, match=r"another network: \S+ is \(4.*expected \(6.* and \d+ more"):
        load_weights(wider, folder / "model.safetensors")
    tensors = load_file(folder / "model.safetensors")
    save_file({**tensors, "extra": torch.zeros(1)}, folder / "model.safetensors")
    with pytest.raises(FormatError, match="extra is not in the network"):
        load_weights(model, folder / "model.safetensors")


def test_checkpoint(tmp_path: Path) -> None:
    torch.save({"global_step": 3, "weights": torch.arange(3)}, tmp_path / "last.ckpt")
    assert read_checkpoint(tmp_path / "last.ckpt")["global_step"] == 3


def test_no_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match="nothing to resume; start without --resume"):
        read_checkpoint(tmp_path / "last.ckpt")


@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.99])
def test_truncated_checkpoint(tmp_path: Path, share: float) -> None:
    path = tmp_path / "last.ckpt"
    torch.save({"global_step": 3, "weights": torch.randn(1000)}, path)
    data = path.read_bytes()
    path.write_bytes(data[: int(share * len(data))])
    with pytest.raises(FormatError, match=r"truncated or no checkpoint \([^.]*\): restore it from a copy"):
        read_checkpoint(path)


def test_checkpoint_of_something_else(tmp_path: Path) -> None:
    torch.save({"weights": torch.arange(3)}, tmp_path / "last.ckpt")
    with pytest.raises(FormatError, match="tells no step"):
        read_checkpoint(tmp_path / "last.ckpt")


def test_nothing_else_is_unpickled(tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple[Any, ...]:
            return (Path.touch, (tmp_path / "sprung",))

    torch.save({"global_step": 3, "trap": Trap()}, tmp_path / "last.ckpt")
    with pytest.raises(
        FormatError, match=r"more than tensors and plain values, which is not read\. Restore it"
    ):
        read_checkpoint(tmp_path / "last.ckpt")
    assert not (tmp_path / "sprung").exists()
    pickle.loads(pickle.dumps(Trap()))  # the trap works
    assert (tmp_path / "sprung").exists()


def test_what_is_not_learned_stays_as_configured(tmp_path: Path) -> None:
    def network(weight: float, learned: bool) -> Unrolled:
        consistency = {"kind": "cg", "weight": weight, "learned": learned}
        return UnrolledConfig.model_validate(
            {"n_cascades": 1, "channels": 2, "pools": 1, "consistency": consistency}
        ).build()

    first = network(90.0, True)
    save_weights(first, tmp_path / "model.safetensors", step=0)
    for learned, weight in ((True, 90.0), (False, 40.0)):
        second = network(40.0, learned)
        begin_with(second, tmp_path)
        assert second.log_weights.detach().exp().item() == pytest.approx(weight)
        torch.testing.assert_close(second.networks.state_dict(), first.networks.state_dict())


def test_exact_consistency_begins_with_an_unrolled_network(tmp_path: Path) -> None:
    settings = {"n_cascades": 2, "channels": 2, "pools": 1, "memory": 1}
    first = UnrolledConfig.model_validate({**settings, "consistency": {"kind": "cg"}}).build()
    save_weights(first, tmp_path / "model.safetensors", step=0)
    second = ExactConfig.model_validate(settings).build()
    begin_with(second, tmp_path)
    torch.testing.assert_close(
        second.networks[1].body.bottleneck.state_dict(), first.networks[1].body.bottleneck.state_dict()
    )
    wider = ExactConfig.model_validate({**settings, "channels": 4}).build()
    with pytest.raises(FormatError, match="holds the weights of another network: networks"):
        begin_with(wider, tmp_path)


def test_begins_with_a_bundle(learned_bundles: Path, tmp_path: Path) -> None:
    bundle = Path(shutil.copytree(learned_bundles / "smooth", tmp_path / "bundle"))
    model = Network(UnetConfig())
    model.register_parameter("weight", torch.nn.Parameter(torch.zeros(1)))
    begin_with(model, bundle)
    assert model.weight.item() == 0.25
    (bundle / "weights.safetensors").write_bytes(b"another")
    with pytest.raises(BundleError, match=r"weights\.safetensors"):
        begin_with(model, bundle)
