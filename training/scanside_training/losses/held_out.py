"""Errors of lines that a network did not get, for trainings without truth."""

from __future__ import annotations

from typing import ClassVar, Literal

import torch

from scanside.errors import ConfigError
from scanside.recon.fourier import to_kspace
from scanside_training.losses.term import NetworkOf, Term, TermConfig, magnitude
from scanside_training.models.base import Batch

__all__ = ["HeldOutConfig"]


class HeldOutConfig(TermConfig):
    """Mean modulus of what the acquired lines that were held out differ by from those of the image.

    Over all coils; as `scanside_training.data.self_supervised` has them, lines along k1 and columns of the image.
    """

    by_pixel: ClassVar = False

    kind: Literal["held-out"] = "held-out"

    def build(self, network_of: NetworkOf) -> Term:
        """The term."""
        return _HeldOut()


class _HeldOut(Term):
    def forward(self, output: torch.Tensor, target: torch.Tensor, batch: Batch) -> torch.Tensor:
        if missing := [name for name in ("maps", "held_out", "lines") if name not in batch]:
            raise ConfigError(
                f"the samples have no '{missing[0]}': the loss 'held-out' is for the tasks 'self-supervised' and "
                "'recorded-scans' (data.simulation.task)"
            )
        image, maps = torch.complex(*output.unbind(1)), torch.complex(*batch["maps"].to(output).unbind(2))
        lines = torch.complex(*batch["lines"].to(output).unbind(2))
        held_out = batch["held_out"].to(output).unsqueeze(1)
        difference = (to_kspace(maps * image[:, None], (-2,)) - lines) * held_out
        error = magnitude(torch.view_as_real(difference).movedim(-1, 1).flatten(1, 2))
        # Of held-out lines alone, where the mean over all pixels is taken.
        return error / held_out.mean(dim=(1, 2, 3), keepdim=True).clamp_min(1e-6)
