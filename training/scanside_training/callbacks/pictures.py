"""What the network makes of the first validation samples, to look at."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import matplotlib.image
import numpy as np
import numpy.typing as npt
import torch
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loggers import TensorBoardLogger

__all__ = ["ERROR_GAIN", "ValidationPictures", "strip"]

_FRAME_WIDTH = 4
"""Pixels of a frame in the course of a column along time."""

ERROR_GAIN = 5.0
"""How much brighter than the images their error is shown."""


def strip(image: torch.Tensor, output: torch.Tensor, target: torch.Tensor) -> npt.NDArray[np.float32]:
    """Magnitudes of input, output and target, and the error's times `ERROR_GAIN`, side by side.

    Args:
        image: ``(1 or 2, k1, k0)``; or a film ``(1 or 2, time, k1, k0)``, of which the frame in its middle is shown,
            and beside it the course of its middle column along time.
        output: the same shape.
        target: the same shape.

    Returns:
        ``(k1, 4 k0)``, for films wider, from 0, black, to 1, the 99.5 percent quantile of the target.
    """
    shown = [torch.linalg.vector_norm(one.detach().float().cpu(), dim=0) for one in (image, output, target)]
    white = float(torch.quantile(shown[2].flatten()[:: max(1, shown[2].numel() // 2**20)], 0.995)) or 1.0
    shown.append(ERROR_GAIN * (shown[1] - shown[2]).abs())
    if image.ndim == 4:
        shown = [_with_course(film) for film in shown]
    row: npt.NDArray[np.float32] = torch.cat(shown, dim=1).div(white).nan_to_num().clamp(0, 1).numpy()
    return row


def _with_course(film: torch.Tensor) -> torch.Tensor:
    """``(time, k1, k0)``: the frame in the middle, and its middle column along time."""
    n_frames, _, k0 = film.shape
    course = film[:, :, k0 // 2].T.repeat_interleave(_FRAME_WIDTH, dim=1)
    return torch.cat((film[n_frames // 2], course), dim=1)


class ValidationPictures(Callback):
    """Shows input, output, target and error of the first validation samples, in TensorBoard and as PNG.

    Args:
        folder: where ``step-<step>.png`` are written.
        n_samples: how many samples are shown.
    """

    def __init__(self, folder: Path, n_samples: int) -> None:
        self.folder = folder
        self.n_samples = n_samples
        self._rows: list[npt.NDArray[np.float32]] = []

    def on_validation_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Keep what is shown of a batch; `outputs` are the network's, from ``validation_step``."""
        wanted = self.n_samples - len(self._rows)
        samples = zip(batch["image"][:wanted], outputs[:wanted], batch["target"][:wanted], strict=True)
        self._rows += [strip(*sample) for sample in samples]

    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Write the picture."""
        rows, self._rows = self._rows, []
        if not rows or not trainer.is_global_zero:
            return
        width = max(row.shape[1] for row in rows)
        picture = np.concatenate([np.pad(row, ((0, 0), (0, width - row.shape[1]))) for row in rows])
        self.folder.mkdir(exist_ok=True)
        path = self.folder / f"step-{trainer.global_step:07d}.png"
        matplotlib.image.imsave(path, picture, cmap="gray", vmin=0, vmax=1)
        for logger in trainer.loggers:
            if isinstance(logger, TensorBoardLogger):
                logger.experiment.add_image(
                    "validation/input, output, target, error", picture, trainer.global_step, dataformats="HW"
                )
