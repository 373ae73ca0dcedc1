"""A loss: the weighted sum of its terms."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from pydantic import BaseModel, ConfigDict, Field, model_validator
from torch import nn

from scanside.errors import ShapeError
from scanside_training.losses.pixelwise import L1Config
from scanside_training.losses.term import NetworkOf, Term, TermConfig, entry, mean_within, no_networks
from scanside_training.models.base import Batch
from scanside_training.models.frames import as_images

__all__ = ["Loss", "LossConfig", "build_loss"]


class LossConfig(BaseModel):
    """Settings of a loss; unknown keys are errors.

    Attributes:
        terms: what is added up, each times its ``weight``.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    terms: tuple[TermConfig, ...] = Field((L1Config(),), min_length=1)

    @model_validator(mode="after")
    def _terms_differ(self) -> LossConfig:
        names = [_name(term) for term in self.terms]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(
                f"terms given more than once: {', '.join(twice)}; keep one of each, and add their weights"
            )
        return self

    @property
    def cautions(self) -> tuple[str, ...]:
        """What people must be told of networks that are trained with it."""
        return tuple(term.caution for term in self.terms if term.caution is not None)


def build_loss(config: LossConfig, network_of: NetworkOf = no_networks) -> Loss:
    """The loss that a configuration asks for.

    Args:
        config: its terms.
        network_of: reads the networks that terms look through.

    Raises:
        ConfigError: a file that it names cannot be used.
    """
    return Loss(config, network_of)


class Loss(nn.Module):
    """The weighted sum of terms.

    Nothing in it is trained with the network. Where a term learns something of its own it does so in `learn`, and
    `learned` and `restore` carry that over into a resumed training.

    Args:
        config: the terms and their weights.
        network_of: reads the networks that terms look through.
    """

    def __init__(self, config: LossConfig, network_of: NetworkOf = no_networks) -> None:
        super().__init__()
        self.config = config
        self.terms = nn.ModuleList(term.build(network_of) for term in config.terms)

    def forward(self, output: torch.Tensor, batch: Batch) -> dict[str, torch.Tensor]:
        """Compare an output with ``batch["target"]``.

        Half precisions are raised to float32, also under autocast.

        Args:
            output: ``(B, 1 or 2, k1, k0)``, or films ``(B, 1 or 2, time, k1, k0)``, every frame of which counts as
                an image; two channels are real and imaginary part.
            batch: ``target`` like the output; ``roi`` and ``weight`` ``(B, 1, k1, k0)`` where terms ask for them.

        Returns:
            Scalars: ``total`` with its gradient, and each term under its kind (with ``_roi`` behind it where it
            looks at the region only), without weight and gradient, for the log.

        Raises:
            ShapeError: output, target or a map do not fit.
            ConfigError: the batch lacks what a term needs.
        """
        output, target, batch = _comparable(output, batch)
        losses = {}
        total = output.new_zeros(())
        with torch.autocast(output.device.type, enabled=False):
            for settings, term in zip(self.config.terms, self.terms, strict=True):
                value = self._value(settings.within_roi, term, output, target, batch)
                total = total + settings.weight * value
                losses[_name(settings)] = value.detach()
        return {**losses, "total": total}

    def learn(self, output: torch.Tensor, batch: Batch, step: int) -> dict[str, torch.Tensor]:
        """Let terms learn from a batch of a training that have something to learn, before it is judged.

        Args:
            output: as `forward` gets it.
            batch: the same.
            step: of the training.

        Returns:
            Scalars for the log, under the term's kind and their own name.

        Raises:
            ShapeError: output and target do not fit.
            NonFiniteError: what a term learns from is no number.
        """
        output, target, _ = _comparable(output.detach(), batch)
        told: dict[str, torch.Tensor] = {}
        with torch.autocast(output.device.type, enabled=False):
            for kind, term in self._named():
                told |= {f"{kind}_{name}": value for name, value in term.learn(output, target, step).items()}
        return told

    def learned(self) -> dict[str, dict[str, Any]]:
        """What terms have learned, by their names; those that learn nothing are left out."""
        return {name: learned for name, term in self._named() if (learned := term.learned())}

    def restore(self, learned: dict[str, dict[str, Any]]) -> None:
        """Go on with what `learned` gave."""
        for name, term in self._named():
            if name in learned:
                term.restore(learned[name])

    def _named(self) -> Iterator[tuple[str, Term]]:
        for settings, term in zip(self.config.terms, self.terms, strict=True):
            assert isinstance(term, Term)
            yield _name(settings), term

    def _value(
        self, within_roi: bool, term: nn.Module, output: torch.Tensor, target: torch.Tensor, batch: Batch
    ) -> torch.Tensor:
        roi = None
        if within_roi:
            roi = entry(
                batch, "roi", output, "let the data bring regions of interest, or set within_roi: false"
            )
        return mean_within(term(output, target, batch), roi)


def _comparable(output: torch.Tensor, batch: Batch) -> tuple[torch.Tensor, torch.Tensor, Batch]:
    """Output and target as images in at least float32, and the batch that goes with them."""
    output, batch = as_images(output, batch)
    target = batch["target"]
    if output.shape != target.shape or output.ndim != 4 or output.shape[1] not in (1, 2):
        raise ShapeError(
            f"an output of {tuple(output.shape)} cannot be compared with a target of {tuple(target.shape)}: "
            "both must be (B, 1 or 2, k1, k0) or (B, 1 or 2, time, k1, k0)"
        )
    dtype = torch.promote_types(output.dtype, torch.float32)
    return output.to(dtype), target.to(dtype), batch


def _name(term: TermConfig) -> str:
    return f"{term.kind}_roi" if term.within_roi else term.kind
