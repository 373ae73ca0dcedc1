"""The moving average of the weights."""

from __future__ import annotations

import lightning.pytorch as pl
import pytest
import torch

from scanside_training.callbacks import MovingAverage


class Weight(pl.LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.register_buffer("mask", torch.zeros(1))


@pytest.mark.parametrize("decay", [0.5, 0.99])
def test_average_with_warm_up(decay: float) -> None:
    module, callback = Weight(), MovingAverage(decay)
    callback.setup(None, module, "fit")  # type: ignore[arg-type]
    averaged = callback._average_model
    assert averaged is not None
    expected = None
    for n in range(40):
        value = float(n * n)
        with torch.no_grad():
            module.weight.fill_(value)
            module.mask.fill_(value)
        averaged.update_parameters(module)
        share = min(decay, (1 + n) / (10 + n))
        expected = value if expected is None else share * expected + (1 - share) * value
        assert averaged.module.weight.item() == pytest.approx(expected, rel=1e-5)
        assert float(averaged.module.mask) == value, "what is no weight is copied"
