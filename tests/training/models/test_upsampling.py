"""Doubling the size computes what transposed convolutions did, with the weights that they had."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from scanside_training.models import DualUnetConfig, NetworkConfig, UnetConfig, UnrolledConfig
from scanside_training.models.upsampling import Upsampling, renewed


def layers(n_in: int = 6, n_out: int = 3) -> tuple[nn.ConvTranspose2d, Upsampling]:
    """A transposed convolution, and the layer with its weights."""
    torch.manual_seed(3)
    transposed = nn.ConvTranspose2d(n_in, n_out, 2, stride=2, bias=False)
    layer = Upsampling(n_in, n_out)
    layer.load_state_dict(transposed.state_dict())
    return transposed, layer


def with_transposed(network: nn.Module) -> nn.Module:
    """The network as it was before, with weights of its own."""
    earlier = copy.deepcopy(network)
    for module in earlier.modules():
        for name, child in module.named_children():
            if isinstance(child, Upsampling):
                n_out = child.out_channels // 4
                setattr(module, name, nn.ConvTranspose2d(child.in_channels, n_out, 2, stride=2, bias=False))
    return earlier


def test_is_a_transposed_convolution() -> None:
    transposed, layer = layers()
    x = torch.randn(2, 6, 5, 7)
    with torch.no_grad():
        torch.testing.assert_close(layer(x), transposed(x), rtol=1e-6, atol=1e-6)
        # The order of what goes to the four pixels matters.
        layer.weight.copy_(layer.weight.reshape(3, 2, 2, 6).transpose(1, 2).reshape(12, 6, 1, 1))
        assert float((layer(x) - transposed(x)).abs().max()) > 0.1


def test_draws_the_weights_that_a_transposed_convolution_draws() -> None:
    """So that a network that was trained before can be trained again, from the same seed."""
    torch.manual_seed(5)
    transposed, after = nn.ConvTranspose2d(8, 4, 2, stride=2, bias=False), torch.rand(1)
    torch.manual_seed(5)
    layer, again = Upsampling(8, 4), torch.rand(1)
    assert torch.equal(after, again)
    assert torch.equal(layer.weight, layer.renewed(transposed.weight))


def test_weights_of_today_are_left_alone() -> None:
    _, layer = layers(1, 1)  # the smallest, whose axes could be taken for each other
    before = layer.weight.detach().clone()
    layer.load_state_dict(layer.state_dict())
    assert torch.equal(layer.weight, before)


@pytest.mark.parametrize(
    "config",
    [
        UnetConfig(channels=4, pools=2),
        UnrolledConfig(channels=4, pools=2, n_cascades=2),
        DualUnetConfig(channels=4, pools=1, n_frames=3, fusion_channels=4),
    ],
    ids=lambda config: config.kind,
)
def test_networks_take_the_weights_of_earlier_ones(config: NetworkConfig) -> None:
    network = config.build().eval()
    earlier = with_transposed(network).eval()
    weights = earlier.state_dict()
    shapes = {name: tensor.shape for name, tensor in weights.items()}
    assert any(shape[-2:] == (2, 2) for shape in shapes.values())
    network.load_state_dict(weights)
    assert {name: tensor.shape for name, tensor in weights.items()} == shapes, "the caller's dictionary"
    for name, tensor in renewed(network, weights).items():
        assert torch.equal(tensor, network.state_dict()[name]), name
    body, old = (
        next(module for name, module in one.named_modules() if name.endswith(("body", "real")))
        for one in (network, earlier)
    )
    x = torch.randn(1, body.encoder[0][0].in_channels, 16, 24)
    with torch.no_grad():
        expected, found = old(x), body(x)
    assert float((found - expected).norm() / expected.norm()) < 1e-6
