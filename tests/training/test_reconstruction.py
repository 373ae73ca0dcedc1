"""The network in training: what it does when numbers stop being numbers, and in which precision it computes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from scanside.errors import NonFiniteError
from scanside_training.config import read_config
from scanside_training.reconstruction import Reconstruction


def samples(seed: int = 0) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {
        "image": torch.randn(2, 2, 16, 16, generator=generator),
        "target": torch.randn(2, 2, 16, 16, generator=generator),
        "roi": torch.ones(2, 1, 16, 16),
    }


@pytest.fixture
def module(tiny: dict[str, Any], tmp_path: Path) -> Reconstruction:
    made = Reconstruction(read_config(tiny, "tiny"), 10, tmp_path, samples())
    made.log = lambda *args, **kwargs: None  # type: ignore[method-assign]  # outside a trainer
    return made


def test_loss_of_a_batch(module: Reconstruction) -> None:
    module.eval()
    batch = samples()
    expected = (module.model(batch["image"]) - batch["target"]).norm(dim=1).mean()
    assert module.training_step(batch, 0).item() == pytest.approx(expected.item(), rel=1e-5)


@pytest.mark.parametrize(
    ("broken", "cause"),
    [
        ("target", "the batch itself holds NaN or infinity, in target"),
        ("weights", "the network's output is not"),
    ],
)
def test_non_finite_loss_saves_the_batch(
    module: Reconstruction, tmp_path: Path, broken: str, cause: str
) -> None:
    batch = samples()
    if broken == "target":
        batch["target"][1, 0, 3, 4] = torch.nan
    else:
        with torch.no_grad():
            next(module.model.parameters()).fill_(torch.inf)
    with pytest.raises(NonFiniteError, match=rf"step 0 \(process 0\).*{cause}.*\.safetensors") as caught:
        module.training_step(batch, 0)
    saved = load_file(tmp_path / "nonfinite-step0-rank0.safetensors")
    assert str(tmp_path) in str(caught.value)
    assert saved.keys() == batch.keys()
    for name, tensor in saved.items():
        torch.testing.assert_close(tensor, batch[name], rtol=0, atol=0, equal_nan=True)


def test_non_finite_gradient_does_not_reach_the_weights(module: Reconstruction) -> None:
    optimiser = module.configure_optimizers()["optimizer"]
    module.training_step(samples(), 0).backward()
    module.on_before_optimizer_step(optimiser)
    gradient = next(module.model.parameters()).grad
    assert gradient is not None
    gradient.view(-1)[0] = torch.inf
    with pytest.raises(NonFiniteError, match="the gradient at step 0 is inf"):
        module.on_before_optimizer_step(optimiser)


def test_network_computes_in_16_bits_and_loss_in_32(module: Reconstruction) -> None:
    seen: dict[str, torch.dtype] = {}
    module.model.body.bottleneck.register_forward_hook(
        lambda _m, _i, output: seen.update(network=output.dtype)
    )
    module.loss.register_forward_hook(
        lambda _m, inputs, _o: seen.update(loss=inputs[0].dtype, cast=torch.is_autocast_enabled("cpu"))
    )
    module.loss.register_forward_pre_hook(
        lambda _m, _i: seen.update(inside=torch.is_autocast_enabled("cpu"))  # type: ignore[arg-type]
    )
    with torch.autocast("cpu", torch.bfloat16):
        module.training_step(samples(), 0)
    assert seen["network"] == torch.bfloat16
    assert seen["loss"] == torch.float32
    assert seen["inside"] is False


def test_dropout_follows_from_the_step(module: Reconstruction) -> None:
    def loss(batch_idx: int) -> float:
        module.on_train_batch_start(samples(), batch_idx)
        return module.training_step(samples(), batch_idx).item()

    module.config = module.config.model_copy(update={"accumulate": 2})
    first = [loss(0), loss(1)]
    assert first[0] != first[1], "dropout draws anew for each batch"
    assert [loss(0), loss(1)] == first
