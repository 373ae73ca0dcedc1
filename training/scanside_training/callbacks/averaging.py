"""The moving average of the weights."""

from __future__ import annotations

import torch
from lightning.pytorch.callbacks import WeightAveraging

__all__ = ["MovingAverage"]


class MovingAverage(WeightAveraging):
    """Exponential moving average of the weights, which validation, pictures and the final weights use.

    The decay begins lower, at ``(1 + n) / (10 + n)`` after n steps, so that the first random weights are
    forgotten within some ten steps and not only after ``1 / (1 − decay)``.

    Args:
        decay: share of the average that a step leaves as it was, once warm.
    """

    def __init__(self, decay: float) -> None:
        def average(
            averaged: torch.Tensor, current: torch.Tensor, n_averaged: torch.Tensor | int
        ) -> torch.Tensor:
            n = int(n_averaged)
            return averaged.lerp(current, 1 - min(decay, (1 + n) / (10 + n)))

        # Buffers (masks, Fourier matrices) are what they are: copied, not averaged.
        super().__init__(use_buffers=False, avg_fn=average)
