"""Optimisers by their settings."""

from __future__ import annotations

from collections.abc import Iterable

import torch

from scanside_training.config import OptimiserConfig

__all__ = ["build_optimiser"]


def build_optimiser(
    config: OptimiserConfig, parameters: Iterable[torch.nn.Parameter]
) -> torch.optim.Optimizer:
    """The optimiser over those parameters that are trained."""
    trained = [parameter for parameter in parameters if parameter.requires_grad]
    if config.kind == "adam":
        return torch.optim.Adam(trained, lr=config.lr, betas=config.betas)
    return torch.optim.AdamW(trained, lr=config.lr, betas=config.betas, weight_decay=config.weight_decay)
