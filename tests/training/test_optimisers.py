"""Optimisers by their settings."""

from __future__ import annotations

import torch

from scanside_training.config import OptimiserConfig
from scanside_training.optimisers import build_optimiser


def test_settings_reach_the_optimiser() -> None:
    weight = torch.nn.Parameter(torch.ones(3))
    config = OptimiserConfig(lr=0.1, weight_decay=0.5, betas=(0.8, 0.9))
    made = build_optimiser(config, [weight])
    assert isinstance(made, torch.optim.AdamW)
    assert {key: made.defaults[key] for key in ("lr", "betas", "weight_decay")} == {
        "lr": 0.1,
        "betas": (0.8, 0.9),
        "weight_decay": 0.5,
    }
    weight.grad = torch.zeros(3)
    made.step()
    torch.testing.assert_close(
        weight.detach(), torch.full((3,), 1 - 0.1 * 0.5)
    )  # decoupled: decay alone moves it


def test_adam() -> None:
    made = build_optimiser(OptimiserConfig(kind="adam"), [torch.nn.Parameter(torch.ones(3))])
    assert type(made) is torch.optim.Adam


def test_frozen_parameters_are_left_out() -> None:
    frozen, free = torch.nn.Parameter(torch.ones(1), requires_grad=False), torch.nn.Parameter(torch.ones(2))
    made = build_optimiser(OptimiserConfig(), [frozen, free])
    assert [p is free for group in made.param_groups for p in group["params"]] == [True]
