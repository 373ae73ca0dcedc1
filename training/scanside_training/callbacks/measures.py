"""Measures of each validation."""

from __future__ import annotations

from typing import Any

import lightning.pytorch as pl
from lightning.pytorch.callbacks import Callback

from scanside_training.measures import ReconstructionMeasures

__all__ = ["ValidationMeasures"]


class ValidationMeasures(Callback):
    """Logs PSNR, SSIM and the rest as ``validation/<measure>``, over the samples of all processes.

    It must stand before the callbacks that look at these figures.
    """

    def __init__(self) -> None:
        self._measures = ReconstructionMeasures()

    def on_validation_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Begin anew."""
        self._measures.to(pl_module.device).reset()

    def on_validation_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Compare what ``validation_step`` gave."""
        self._measures.update(outputs, batch)

    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Log the figures."""
        figures = {f"validation/{name}": value.float() for name, value in self._measures.compute().items()}
        # The measures have been summed over the processes: their mean is what they are.
        pl_module.log_dict({**figures, "step": float(trainer.global_step)}, sync_dist=True)
