"""How far the echoes that maps of T2 and M0 explain are from those that were measured: it needs no true map."""

from __future__ import annotations

from typing import Literal

import torch

from scanside.errors import ConfigError
from scanside_training.losses.term import NetworkOf, Term, TermConfig, entry
from scanside_training.models.base import Batch
from scanside_training.relaxation import T2_UNIT_MS, multi_echo_signal

__all__ = ["MultiEchoSignalConfig"]


class MultiEchoSignalConfig(TermConfig):
    """``|M0 exp(−TE / T2) − echo|²``, its mean over the echoes, of networks that give T2 and M0.

    Magnitude images of low SNR do not decay to zero but to their noise, so that alone it makes T2 too long there, as
    a fit to them does.
    """

    kind: Literal["multi-echo-signal"] = "multi-echo-signal"

    def build(self, network_of: NetworkOf) -> Term:
        """The term."""
        return _MultiEchoSignal()


class _MultiEchoSignal(Term):
    def forward(self, output: torch.Tensor, target: torch.Tensor, batch: Batch) -> torch.Tensor:
        remedy = "train a network that gives it (model.kind: t2-map), or leave the term out"
        m0 = entry(batch, "parameter-map:M0", output, remedy)
        if "echo_times_ms" not in batch:
            raise ConfigError(
                "the batch has no 'echo_times_ms': take a task whose samples say them (simulation.task.kind: "
                "multi-echo), or leave the term 'multi-echo-signal' out"
            )
        expected = multi_echo_signal(m0, T2_UNIT_MS * output, batch["echo_times_ms"].to(output))
        return (expected - batch["image"].to(output)).square().mean(1, keepdim=True)
