"""Hooks last as long as their context, and networks come out of it as they went in."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from scanside.errors import ConfigError
from scanside_training.features import captured, undisturbed


def network() -> nn.Sequential:
    return nn.Sequential(nn.Linear(3, 4), nn.Sequential(nn.ReLU(), nn.Dropout(0.5)), nn.Linear(4, 2))


def test_outputs_are_caught_with_their_gradient() -> None:
    net = network().eval()
    x = torch.randn(5, 3, generator=torch.Generator().manual_seed(0))
    with captured(net, ["0", "1.0"]) as features:
        net(x)
    assert torch.equal(features["0"], net[0](x))
    assert torch.equal(features["1.0"], net[0](x).relu())
    assert features["1.0"].requires_grad


def test_last_run_counts() -> None:
    net = nn.Linear(2, 2)
    holder = nn.ModuleDict({"shared": net})
    with captured(holder, ["shared"]) as features:
        net(torch.zeros(1, 2))
        last = net(torch.ones(1, 2))
    assert features["shared"] is last


def test_hooks_are_gone_afterwards() -> None:
    net = network()
    with captured(net, ["0", "1.0"]) as features:
        assert net[0]._forward_hooks
    net(torch.ones(1, 3))
    assert not features
    with pytest.raises(RuntimeError, match="shapes"), captured(net, ["0", "1.0"]):
        net(torch.ones(1, 7))
    assert not any(module._forward_hooks for module in net.modules())


def test_names_that_are_not_there() -> None:
    net = network()
    with (
        pytest.raises(ConfigError, match=r"Sequential has no layer '1\.2'.*1\.0"),
        captured(net, ["0", "1.2"]),
    ):
        pass
    assert not net[0]._forward_hooks


def test_modes_come_back() -> None:
    net = network().train()
    net[2].eval()
    before = [module.training for module in net.modules()]
    with undisturbed(net):
        assert not any(module.training for module in net.modules())
        assert not net(torch.ones(1, 3)).requires_grad
    assert [module.training for module in net.modules()] == before
    with pytest.raises(RuntimeError, match="shapes"), undisturbed(net):
        net(torch.ones(1, 7))
    assert [module.training for module in net.modules()] == before
