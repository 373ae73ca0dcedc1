"""The progress bar."""

from __future__ import annotations

from typing import Any

import lightning.pytorch as pl
from lightning.pytorch.callbacks import Callback
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

__all__ = ["ProgressLine"]


class ProgressLine(Callback):
    """One line with the steps made, the time left, the loss and the last validation's PSNR.

    Args:
        console: where it is drawn; nothing is drawn where that is no terminal.
        n_steps: optimiser steps of the whole run.
    """

    def __init__(self, console: Console, n_steps: int) -> None:
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[figures]}"),
        )
        self._bar = Progress(*columns, console=console, disable=not console.is_terminal)
        self._task = self._bar.add_task("training", total=n_steps, figures="")

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Show it, on the first process."""
        if trainer.is_global_zero:
            self._bar.start()

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Count the step."""
        self._bar.update(self._task, completed=trainer.global_step)
        if self._bar.disable or trainer.global_step % 10:
            return
        seen = trainer.callback_metrics
        names = {"train/loss": "loss {:.4g}", "validation/psnr": "PSNR {:.2f} dB"}
        figures = "  ".join(text.format(float(seen[name])) for name, text in names.items() if name in seen)
        self._bar.update(self._task, figures=figures)

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Say what goes on."""
        self._bar.update(self._task, description="validation")

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Go back to training."""
        self._bar.update(self._task, description="training")

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Leave the finished line."""
        self._bar.stop()

    def on_exception(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException
    ) -> None:
        """Give the terminal back."""
        self._bar.stop()
