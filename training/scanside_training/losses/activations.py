"""A penalty on what a network's last features are, so that few of them make each part of an image."""

from __future__ import annotations

from typing import ClassVar, Literal

import torch

from scanside.errors import ConfigError
from scanside_training.losses.term import NetworkOf, Term, TermConfig
from scanside_training.models.base import Batch

__all__ = ["ActivationsConfig"]


class ActivationsConfig(TermConfig):
    """Mean magnitude of the features that a network gives in training beside its image, as ``automap`` does.

    In a validation it is zero: only images are compared there.
    """

    kind: Literal["activations"] = "activations"
    by_pixel: ClassVar[bool] = False

    def build(self, network_of: NetworkOf) -> Term:
        """The term."""
        return _Activations()


class _Activations(Term):
    def forward(self, output: torch.Tensor, target: torch.Tensor, batch: Batch) -> torch.Tensor:
        if not self.training:
            return output.new_zeros(len(output), 1, 1, 1)
        if "activations" not in batch:
            raise ConfigError(
                "the loss 'activations' is for networks that give their features in training, such as 'automap', and "
                "this one does not: leave the term out"
            )
        return batch["activations"].abs().mean((1, 2, 3), keepdim=True)
