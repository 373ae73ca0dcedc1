"""A network's own word on its errors: where the loss is smallest, and what the word is worth."""

from __future__ import annotations

import pytest
import torch

from scanside.errors import ConfigError
from scanside_training.losses import LossConfig, build_loss
from scanside_training.losses.uncertainty import trust_in
from scanside_training.models import UnetConfig

SHAPE = (2, 1, 16, 12)


@pytest.fixture
def error() -> torch.Tensor:
    """Of each pixel."""
    return torch.rand(SHAPE, generator=torch.Generator().manual_seed(3)) + 0.1


def test_the_loss_is_smallest_where_what_is_expected_is_the_error(error: torch.Tensor) -> None:
    loss = build_loss(LossConfig.model_validate({"terms": [{"kind": "uncertainty"}]}))
    expected = torch.ones(SHAPE, requires_grad=True)
    target = torch.zeros(2, 2, 16, 12)
    output = torch.cat((0.6 * error, 0.8 * error), 1)
    optimiser = torch.optim.Adam([expected], lr=0.02)
    for _ in range(400):
        optimiser.zero_grad()
        loss(output, {"target": target, "uncertainty": expected})["total"].backward()
        optimiser.step()
    torch.testing.assert_close(expected.detach(), error, rtol=0.01, atol=0.01)


def test_what_is_not_seen_is_not_judged(error: torch.Tensor) -> None:
    loss = build_loss(LossConfig.model_validate({"terms": [{"kind": "uncertainty"}]}))
    batch = {"target": torch.zeros(SHAPE), "uncertainty": torch.zeros(SHAPE, requires_grad=True)}
    total = loss(error, batch)["total"]
    total.backward()
    assert float(total.detach()) == 0
    assert bool(batch["uncertainty"].grad.isfinite().all())


def test_a_network_that_expects_nothing_is_told() -> None:
    loss = build_loss(LossConfig.model_validate({"terms": [{"kind": "uncertainty"}]}))
    with pytest.raises(ConfigError, match=r"model\.uncertainty: true"):
        loss(torch.zeros(SHAPE), {"target": torch.zeros(SHAPE)})


def test_trust(error: torch.Tensor) -> None:
    roi = torch.zeros(SHAPE)
    roi[..., 2:9] = 1
    found = trust_in(error, torch.zeros(SHAPE), 0.5 * error, roi)
    assert float(found.correlation) == pytest.approx(1, abs=1e-5)
    assert float(found.ratio) == pytest.approx(2, rel=1e-5)
    other = torch.rand(SHAPE, generator=torch.Generator().manual_seed(4))
    chance = trust_in(error, torch.zeros(SHAPE), other, roi)
    assert abs(float(chance.correlation)) < 0.3
    assert float(trust_in(error, torch.zeros(SHAPE), torch.ones(SHAPE), roi).correlation) == 0


@pytest.mark.parametrize("channels", [1, 2])
def test_networks_give_it_behind_the_image(channels: int) -> None:
    network = UnetConfig(image_channels=channels, channels=4, pools=1, uncertainty=True).build().eval()
    image = torch.randn(3, channels, 8, 8, generator=torch.Generator().manual_seed(5))
    image[:, :, :2] = 0
    with torch.inference_mode():
        made, others = network.split(network(image))
    assert made.shape == image.shape
    assert [spec.name for spec in network.outputs()] == ["image", "uncertainty"]
    assert others["uncertainty"].shape == (3, 1, 8, 8)
    assert float(others["uncertainty"][:, :, 2:].min()) > 0
    assert float(others["uncertainty"][:, :, :2].abs().max()) == 0
