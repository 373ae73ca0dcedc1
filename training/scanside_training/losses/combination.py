"""A loss: the weighted sum of its terms."""

from __future__ import annotations

import torch
from pydantic import BaseModel, ConfigDict, Field, model_validator
from torch import nn

from scanside.errors import ShapeError
from scanside_training.losses.pixelwise import L1Config
from scanside_training.losses.term import NetworkOf, TermConfig, entry, mean_within, no_networks
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
    """The weighted sum of terms; nothing in it is trained.

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
        output, batch = as_images(output, batch)
        target = batch["target"]
        if output.shape != target.shape or output.ndim != 4 or output.shape[1] not in (1, 2):
            raise ShapeError(
                f"an output of {tuple(output.shape)} cannot be compared with a target of {tuple(target.shape)}: "
                "both must be (B, 1 or 2, k1, k0) or (B, 1 or 2, time, k1, k0)"
            )
        losses = {}
        total = output.new_zeros((), dtype=torch.promote_types(output.dtype, torch.float32))
        with torch.autocast(output.device.type, enabled=False):
            output, target = output.to(total.dtype), target.to(total.dtype)
            for settings, term in zip(self.config.terms, self.terms, strict=True):
                value = self._value(settings.within_roi, term, output, target, batch)
                total = total + settings.weight * value
                losses[_name(settings)] = value.detach()
        return {**losses, "total": total}

    def _value(
        self, within_roi: bool, term: nn.Module, output: torch.Tensor, target: torch.Tensor, batch: Batch
    ) -> torch.Tensor:
        roi = None
        if within_roi:
            roi = entry(
                batch, "roi", output, "let the data bring regions of interest, or set within_roi: false"
            )
        return mean_within(term(output, target, batch), roi)


def _name(term: TermConfig) -> str:
    return f"{term.kind}_roi" if term.within_roi else term.kind
