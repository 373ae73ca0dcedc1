"""A U-Net that is told numbers of the scan, such as its acceleration and echo time: one network for many protocols.

Perez et al., *FiLM: Visual reasoning with a general conditioning layer*, AAAI 2018: a small network makes, of what it
is told, a factor and an offset for every feature after each norm.
"""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field, field_validator
from torch import nn

from scanside.engines.manifest import TensorSpec
from scanside.engines.parameters import Parameter
from scanside_training.models.base import Network, NetworkConfig
from scanside_training.models.unet import Modulation, UnetBody

__all__ = ["ConditionedUnet", "ConditionedUnetConfig"]


class ConditionedUnetConfig(NetworkConfig):
    """Image to image, with numbers of the scan beside the image.

    Attributes:
        parameters: which, in this order; see `scanside.engines.parameters`.
        image_channels: 1 for magnitude images, 2 for complex ones (real and imaginary part).
        channels: features at full resolution; each pooling doubles them.
        pools: how often the image is halved.
        hidden: features of the network that is told the numbers.
    """

    kind: Literal["conditioned-unet"] = "conditioned-unet"
    parameters: tuple[Parameter, ...] = Field(min_length=1)
    image_channels: Literal[1, 2] = 2
    channels: int = Field(32, ge=1)
    pools: int = Field(4, ge=1, le=6)
    hidden: int = Field(32, ge=1)

    @field_validator("parameters")
    @classmethod
    def _once(cls, parameters: tuple[Parameter, ...]) -> tuple[Parameter, ...]:
        if len(set(parameters)) != len(parameters):
            raise ValueError(f"each number is told once, got {', '.join(parameters)}")
        return parameters

    def build(self) -> ConditionedUnet:
        """The network with fresh weights."""
        return ConditionedUnet(self)

    @property
    def multiple_of(self) -> int:
        """What the sizes of images must be multiples of: they are halved so often."""
        return int(2**self.pools)


class ConditionedUnet(Network):
    """Adds to an image the correction of a U-Net whose features numbers of the scan modulate: task ``image``."""

    task = "image"
    config: ConditionedUnetConfig

    def __init__(self, config: ConditionedUnetConfig) -> None:
        super().__init__(config)
        self.takes_parameters = config.parameters
        n = config.image_channels
        self.body = UnetBody(n, n, config.channels, config.pools)
        # Beside the body: a few numbers, of which the third digit counts, stay in float32.
        self.told = nn.Sequential(
            nn.Linear(len(config.parameters), config.hidden),
            nn.SiLU(),
            nn.Linear(config.hidden, 2 * sum(self.body.widths)),
        )

    def offered(self) -> tuple[TensorSpec, ...]:
        """Image and parameters."""
        return (
            TensorSpec(name="image", axes=("batch", self.config.image_channels, "k1", "k0")),
            TensorSpec(name="parameters", axes=("batch", len(self.config.parameters))),
        )

    def forward(self, image: torch.Tensor, parameters: torch.Tensor) -> torch.Tensor:
        """Correct an image.

        Args:
            image: ``(B, 1 or 2, k1, k0)``; k1 and k0 are multiples of `multiple_of`.
            parameters: ``(B, n)``, normalised.

        Returns:
            Of the image's shape, float32.
        """
        # Where the image is exactly zero no coil sees anything, and there is nothing to correct.
        seen = image.abs().sum(1, keepdim=True) > 0
        body: torch.Tensor = self.body(image, self._modulations(parameters))
        return image + body * seen

    def _modulations(self, parameters: torch.Tensor) -> list[Modulation]:
        """Of each block of the body."""
        parts = self.told(parameters)[..., None, None].split([2 * n for n in self.body.widths], dim=1)
        return [(1 + factor, offset) for factor, offset in (part.chunk(2, dim=1) for part in parts)]
