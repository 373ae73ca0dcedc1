"""How far a training moves each layer."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loggers import TensorBoardLogger
from torch import nn

__all__ = ["WeightChanges"]

_COLUMNS = ("name", "n", "norm_before", "norm_of_change", "relative_change")


class WeightChanges(Callback):
    """Writes how far each layer's weights and biases moved, and their histograms before and after.

    It must stand behind the moving average, which in the end puts the weights in place that the run leaves.

    Args:
        path: of a table with a row for each tensor ``w``: how many numbers it has, their Euclidean norm ``‖w₀‖``
            before, ``‖w − w₀‖``, and the ratio of both, which is left empty where all began as zero.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._before: dict[str, torch.Tensor] = {}

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Keep what a run begins with; one that is resumed brings it along."""
        if not self._before:
            self._before = _trained(pl_module)
            self._show(trainer, self._before, 0)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Compare."""
        if not trainer.is_global_zero:
            return
        after = _trained(pl_module)
        self._show(trainer, after, trainer.global_step)
        with self.path.open("w", encoding="utf-8", newline="") as file:
            table = csv.writer(file, lineterminator="\n")
            table.writerow(_COLUMNS)
            for name, before in self._before.items():
                norm, change = float(before.norm()), float((after[name] - before).norm())
                ratio = f"{change / norm:.6g}" if norm else ""
                table.writerow([name, before.numel(), f"{norm:.6g}", f"{change:.6g}", ratio])

    def state_dict(self) -> dict[str, Any]:
        """What a resumed run compares with."""
        return dict(self._before)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Compare with what the interrupted run began with."""
        self._before = dict(state_dict)

    @staticmethod
    def _show(trainer: pl.Trainer, weights: dict[str, torch.Tensor], step: int) -> None:
        for logger in trainer.loggers:
            if isinstance(logger, TensorBoardLogger) and trainer.is_global_zero:
                for name, values in weights.items():
                    logger.experiment.add_histogram(f"weights/{name}", values, step)


def _trained(module: pl.LightningModule) -> dict[str, torch.Tensor]:
    """The network's trained tensors by name, copied."""
    network = module.model
    assert isinstance(network, nn.Module)
    return {
        name: one.detach().cpu().float().clone()
        for name, one in network.named_parameters()
        if one.requires_grad
    }
