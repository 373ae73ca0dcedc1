"""Errors that a trained network sees: differences of its features.

Johnson et al., *Perceptual losses for real-time style transfer and super-resolution*, ECCV 2016, with features of a
network of one's own instead of one for photographs.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import torch
from pydantic import Field
from torch.nn.functional import interpolate

from scanside.errors import ConfigError, ShapeError
from scanside_training.features import captured
from scanside_training.losses.term import NetworkOf, Term, TermConfig, magnitude
from scanside_training.models.base import Batch, Network

__all__ = ["PerceptualConfig"]


class PerceptualConfig(TermConfig):
    """Mean squared difference of features of a trained network for images, which stays as it is.

    Attributes:
        run: folder of the run that trained it.
        layers: whose features; differences of several are added.
    """

    kind: Literal["perceptual"] = "perceptual"
    run: Path
    layers: tuple[str, ...] = Field(("body.encoder.0", "body.encoder.1"), min_length=1)

    def build(self, network_of: NetworkOf) -> Term:
        """The term; the network is read here.

        Raises:
            ConfigError: there is no such run, or its network takes more than an image, or has no such layer.
            FormatError: its weights are damaged.
        """
        return _Perceptual(network_of(self.run), self.layers, self.run)


class _Perceptual(Term):
    def __init__(self, network: Network, layers: tuple[str, ...], run: Path) -> None:
        super().__init__()
        if network.task != "image":
            raise ConfigError(
                f"the network of {run} is of kind '{network.config.kind}': features for a loss come from a network "
                "that takes an image alone, such as 'unet'"
            )
        with captured(network, layers):
            pass  # says which layers there are
        self.layers = layers
        # In a tuple, the network is no submodule: neither saved nor trained.
        self._unregistered: tuple[Network] = (network.requires_grad_(False).eval(),)

    def forward(self, output: torch.Tensor, target: torch.Tensor, batch: Batch) -> torch.Tensor:
        error = torch.zeros_like(output[:, :1])
        seen = self._features(output)
        with torch.no_grad():
            wanted = self._features(target)
        for name in self.layers:
            difference = (seen[name] - wanted[name]).square().mean(1, keepdim=True)
            error = error + interpolate(difference, size=output.shape[-2:], mode="nearest")
        return error

    def _features(self, image: torch.Tensor) -> dict[str, torch.Tensor]:
        network = self._unregistered[0].to(image.device)
        (taken,), multiple = network.offered(), network.multiple_of
        shown = magnitude(image) if taken.axes[1] == 1 else image
        if shown.shape[1] != taken.axes[1] or any(n % multiple for n in shown.shape[-2:]):
            raise ShapeError(
                f"the network of the perceptual loss takes images of {taken.axes[1]} channel(s) whose sizes "
                f"are multiples of {multiple}, and these are {tuple(image.shape[1:])}"
            )
        with captured(network, self.layers) as features:
            network(shown)
        return features
