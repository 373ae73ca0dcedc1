"""The loss that a trained network sees."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from scanside.errors import ConfigError, ShapeError
from scanside_training.checkpoint import WEIGHTS, load_model, network_of, save_weights, write_config
from scanside_training.config import read_config
from scanside_training.losses import Loss, LossConfig, build_loss


@pytest.fixture
def run(tiny: dict[str, Any], tmp_path: Path) -> Path:
    torch.manual_seed(1)
    config = read_config(tiny, "tiny")
    write_config(config, tmp_path)
    save_weights(config.model.build(), tmp_path / WEIGHTS, step=0)
    return tmp_path


def loss_of(run: Path, *layers: str) -> Loss:
    return build_loss(
        LossConfig.model_validate({"terms": [{"kind": "perceptual", "run": run, "layers": layers}]}),
        network_of,
    )


def test_it_is_the_difference_of_features(run: Path) -> None:
    output, target = torch.randn(2, 2, 2, 16, 16, generator=torch.Generator().manual_seed(2))
    loss = loss_of(run, "body.encoder.0", "body.encoder.1")
    found = loss(output.requires_grad_(), {"target": target})
    network, _ = load_model(run)
    expected = 0.0
    for image in (output, target):
        assert image.shape == (2, 2, 16, 16)
    with torch.no_grad():
        first, second = (network.body.encoder[0](image) for image in (output, target))
        expected += float((first - second).square().mean())
        first, second = (
            network.body.encoder[1](torch.nn.functional.avg_pool2d(one, 2)) for one in (first, second)
        )
        expected += float((first - second).square().mean())
    assert float(found["perceptual"]) == pytest.approx(expected, rel=1e-5)
    assert float(loss(target, {"target": target})["total"]) == 0
    found["total"].backward()
    assert output.grad is not None
    assert output.grad.abs().sum() > 0


def test_without_what_reads_networks_it_says_so(run: Path) -> None:
    config = LossConfig.model_validate({"terms": [{"kind": "perceptual", "run": run}]})
    with pytest.raises(ConfigError, match=r"hand in what reads it, as network_of"):
        build_loss(config)


def test_the_network_is_neither_trained_nor_saved(run: Path) -> None:
    loss = loss_of(run, "body.encoder.0")
    assert not list(loss.parameters())
    assert not loss.state_dict()


def test_films_are_looked_at_frame_by_frame(run: Path) -> None:
    output, target = torch.randn(2, 1, 2, 3, 16, 16, generator=torch.Generator().manual_seed(2))
    loss = loss_of(run, "body.encoder.0")
    frames = [float(loss(output[:, :, t], {"target": target[:, :, t]})["total"]) for t in range(3)]
    assert float(loss(output, {"target": target})["total"]) == pytest.approx(sum(frames) / 3, rel=1e-5)


def test_what_cannot_work(run: Path) -> None:
    with pytest.raises(ConfigError, match=r"Unet has no layer 'body.encoder.9'"):
        loss_of(run, "body.encoder.9")
    with pytest.raises(ConfigError, match="is no folder of a training run"):
        loss_of(run / "nowhere", "body.encoder.0")
    image = torch.zeros(1, 2, 15, 16)
    with pytest.raises(ShapeError, match="sizes are multiples of 4"):
        loss_of(run, "body.encoder.0")(image, {"target": image})
