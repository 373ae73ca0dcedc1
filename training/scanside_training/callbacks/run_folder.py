"""The files that a run writes as it goes on."""

from __future__ import annotations

import logging
import math
import shutil
from pathlib import Path
from time import monotonic
from typing import Any

import lightning.pytorch as pl
from lightning.pytorch.callbacks import Callback
from torch import nn

from scanside_training.checkpoint import BEST_WEIGHTS, LAST_CHECKPOINT, WEIGHTS, save_weights

logger = logging.getLogger(__name__)

__all__ = ["RunFolder"]


class RunFolder(Callback):
    """Writes weights at each validation, those of the best one apart, and the checkpoint to resume from.

    It must stand among the callbacks after the measures, and before the moving average, which puts the weights in
    training back when a validation ends.

    Args:
        folder: the run's folder.
        by_loss: whether the best validation is that of the lowest loss, rather than of the highest PSNR.
    """

    def __init__(self, folder: Path, *, by_loss: bool = False) -> None:
        self.folder = folder
        self.by_loss = by_loss
        self.best_psnr = -math.inf
        self.lowest_loss = math.inf
        self.validated_step = -1
        self.measures: dict[str, float] = {}
        """Of the last validation."""
        self._measures_of_best: dict[str, float] = {}
        self._seconds_before = 0.0
        self._started: float | None = None

    @property
    def seconds(self) -> float:
        """Time spent in training, over all parts of a resumed run."""
        return self._seconds_before + (0.0 if self._started is None else monotonic() - self._started)

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start the clock."""
        self._started = monotonic()

    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Write the weights that were validated, so that a long run can be used while it goes on."""
        step = trainer.global_step
        self.validated_step = step
        self.measures = {
            name.partition("/")[2]: float(value)
            for name, value in trainer.callback_metrics.items()
            if name.startswith("validation/")
        }
        psnr, loss = self.measures.get("psnr", -math.inf), self.measures.get("loss", math.inf)
        better = loss < self.lowest_loss if self.by_loss else psnr > self.best_psnr
        self.best_psnr, self.lowest_loss = max(psnr, self.best_psnr), min(loss, self.lowest_loss)
        if better:
            self._measures_of_best = self.measures
        if trainer.is_global_zero:
            assert isinstance(pl_module.model, nn.Module)
            save_weights(pl_module.model, self.folder / WEIGHTS, step=step)
            if better:
                save_weights(pl_module.model, self.folder / BEST_WEIGHTS, step=step)
            shown = ("loss", "psnr", "ssim", "psnr_inside", "ssim_inside")
            figures = ", ".join(
                f"{name} {self.measures[name]:.5g}" for name in shown if name in self.measures
            )
            logger.info("step %d, %.0f s: %s%s", step, self.seconds, figures, " (best)" if better else "")

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Write the checkpoint; by now the weights in training are back in place."""
        if trainer.training or trainer.state.fn == "fit":
            trainer.save_checkpoint(self.folder / LAST_CHECKPOINT)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Write the checkpoint of the last step, where no validation has."""
        if self.validated_step != trainer.global_step:
            trainer.save_checkpoint(self.folder / LAST_CHECKPOINT)

    def on_exception(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException
    ) -> None:
        """Tell whoever stops the run by hand how it goes on."""
        if isinstance(exception, KeyboardInterrupt) and trainer.is_global_zero:
            kept = max(self.validated_step, 0)
            logger.warning(
                "interrupted at step %d; --resume goes on from step %d, of the last validation",
                trainer.global_step,
                kept,
            )

    def go_back_to_best(self) -> None:
        """Make the weights of the best validation, and its figures, those of the run."""
        shutil.copyfile(self.folder / BEST_WEIGHTS, self.folder / WEIGHTS)
        self.measures = self._measures_of_best

    def state_dict(self) -> dict[str, Any]:
        """What a resumed run goes on with."""
        return {
            "best_psnr": self.best_psnr,
            "lowest_loss": self.lowest_loss,
            "measures_of_best": self._measures_of_best,
            "seconds": self.seconds,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on with what the interrupted run had."""
        self.best_psnr = state_dict["best_psnr"]
        self.lowest_loss = state_dict.get("lowest_loss", math.inf)  # not in runs before 0.2
        self._measures_of_best = state_dict.get("measures_of_best", {})
        self._seconds_before = state_dict["seconds"]
