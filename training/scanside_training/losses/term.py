"""What the terms of a loss have in common: settings, tensors in a precision that errors can be summed in, ROIs."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar, TypeAlias

import torch
from pydantic import Field, model_validator
from torch import nn

from scanside.errors import ConfigError, ShapeError
from scanside_training.models.base import Batch, Network
from scanside_training.plugins import PluginSettings

__all__ = ["NetworkOf", "Term", "TermConfig", "entry", "magnitude", "mean_within", "no_networks"]

NetworkOf: TypeAlias = Callable[[Path], Network]
"""Reads the trained network of a run's folder."""


def no_networks(run: Path) -> Network:
    """For losses that look through no network.

    Raises:
        ConfigError: always.
    """
    raise ConfigError(f"the loss looks through the network of {run}: hand in what reads it, as network_of")


class Term(nn.Module):
    """One kind of error, pixel by pixel."""

    def forward(self, output: torch.Tensor, target: torch.Tensor, batch: Batch) -> torch.Tensor:
        """The error of each pixel.

        Args:
            output: ``(B, 1 or 2, k1, k0)``, at least float32.
            target: the same.
            batch: everything that came with the target.

        Returns:
            ``(B, 1, k1 − 2 b, k0 − 2 b)``, non-negative; b pixels along each edge have no error where the term
            looks at whole neighbourhoods.
        """
        raise NotImplementedError

    def learn(self, output: torch.Tensor, target: torch.Tensor, step: int) -> dict[str, torch.Tensor]:
        """Learn from a batch of a training before it is judged; most terms have nothing to learn.

        Args:
            output: as `forward` gets it, without gradient.
            target: the same.
            step: of the training.

        Returns:
            Scalars for the log, by name.
        """
        return {}

    def learned(self) -> dict[str, Any]:
        """What a resumed training must have of it again: tensors and plain values."""
        return {}

    def restore(self, learned: dict[str, Any]) -> None:
        """Go on with what `learned` gave; called only where that was anything."""
        raise NotImplementedError


class TermConfig(PluginSettings):
    """Settings that every term has; a term of one's own is registered in the entry points ``scanside.losses``.

    Attributes:
        weight: what the term is multiplied by in the total.
        within_roi: whether only the pixels of ``batch["roi"]`` count.
    """

    GROUP: ClassVar = "scanside.losses"
    NOUN: ClassVar = "term of a loss"

    weight: float = Field(1.0, gt=0)
    within_roi: bool = False

    caution: ClassVar[str | None] = None
    """What people must be told of networks that were trained with it."""

    by_pixel: ClassVar[bool] = True
    """Whether its errors belong to pixels of the image, so that there are some within a region."""

    @property
    def begins_at(self) -> int:
        """The step of a training at which the term begins to count."""
        return 0

    @model_validator(mode="after")
    def _region_has_pixels(self) -> TermConfig:
        if self.within_roi and not self.by_pixel:
            raise ValueError(f"'{self.kind}' has no errors of pixels, and so no region: leave within_roi out")
        return self

    @abstractmethod
    def build(self, network_of: NetworkOf) -> Term:
        """The term.

        Args:
            network_of: reads the networks that it looks through.
        """


def magnitude(image: torch.Tensor) -> torch.Tensor:
    """Length of the channels' vector, with a gradient of zero, not NaN, where it is zero.

    Args:
        image: ``(B, 1 or 2, k1, k0)``.

    Returns:
        ``(B, 1, k1, k0)``.
    """
    length: torch.Tensor = torch.linalg.vector_norm(image, dim=1, keepdim=True)
    return length


def mean_within(error: torch.Tensor, roi: torch.Tensor | None) -> torch.Tensor:
    """Mean over all pixels, or over those of a region: zero where it is empty.

    Args:
        error: ``(B, 1, k1 − 2 b, k0 − 2 b)``.
        roi: ``(B, 1, k1, k0)``, 1 inside and 0 outside.
    """
    if roi is None:
        return error.mean()
    border = (roi.shape[-1] - error.shape[-1]) // 2
    inside = roi[..., border : roi.shape[-2] - border, border : roi.shape[-1] - border]
    return (error * inside).sum() / inside.sum().clamp_min(1)


def entry(batch: Batch, key: str, output: torch.Tensor, remedy: str) -> torch.Tensor:
    """A map ``(B, 1, k1, k0)`` that came with the batch, on the output's device.

    Raises:
        ConfigError: the batch has no such entry; `remedy` says what to do.
        ShapeError: it does not fit the output.
    """
    if key not in batch:
        raise ConfigError(f"the batch has no '{key}', only {', '.join(sorted(batch))}: {remedy}")
    expected = (output.shape[0], 1, *output.shape[-2:])
    if batch[key].shape != expected:
        raise ShapeError(
            f"batch['{key}'] is {tuple(batch[key].shape)} beside an output of {tuple(output.shape)}: "
            f"it must be {expected}"
        )
    return batch[key].to(output)
