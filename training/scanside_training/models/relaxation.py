"""A U-Net that makes a map of T2 from the echoes of a slice, and of the signal at TE = 0 beside it."""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field
from torch.nn.functional import softplus

from scanside.engines.manifest import TensorSpec
from scanside_training.models.base import Network, NetworkConfig
from scanside_training.models.unet import UnetBody

__all__ = ["T2Map", "T2MapConfig"]

_WIDEST = 3.0
"""T2 is within exp(±3) of its unit: 5 ms to 2 s."""


class T2MapConfig(NetworkConfig):
    """Echoes in, T2 and M0 out.

    Attributes:
        n_echoes: images that go in, as channels.
        channels: features at full resolution; each pooling doubles them.
        pools: how often the images are halved.
    """

    kind: Literal["t2-map"] = "t2-map"
    n_echoes: int = Field(8, ge=2)
    channels: int = Field(16, ge=1)
    pools: int = Field(3, ge=1, le=6)

    def build(self) -> T2Map:
        """The network with fresh weights."""
        return T2Map(self)

    @property
    def multiple_of(self) -> int:
        """What the sizes of images must be multiples of: they are halved so often."""
        return int(2**self.pools)

    @property
    def unfit(self) -> str:
        """No stage takes maps."""
        return (
            "a network that gives parameter maps has no place in the stream yet, where networks give images"
        )


class T2Map(Network):
    """Gives what cannot be negative as what is not: T2 by an exponential, M0 by a softplus."""

    task = "image"
    config: T2MapConfig

    def __init__(self, config: T2MapConfig) -> None:
        super().__init__(config)
        self.body = UnetBody(config.n_echoes, 2, config.channels, config.pools)

    def offered(self) -> tuple[TensorSpec, ...]:
        """The echoes."""
        return (TensorSpec(name="image", axes=("batch", self.config.n_echoes, "k1", "k0")),)

    def outputs(self) -> tuple[TensorSpec, ...]:
        """The maps."""
        axes = ("batch", 1, "k1", "k0")
        return tuple(TensorSpec(name=f"parameter-map:{name}", axes=axes) for name in ("T2", "M0"))

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """From echoes ``(B, echo, k1, k0)``, scaled, to ``(B, 2, k1, k0)``.

        T2 is in units of `scanside_training.relaxation.T2_UNIT_MS`, M0 on the scale of the echoes.
        """
        t2, m0 = self.body(image).split(1, dim=1)
        return torch.cat((torch.exp(_WIDEST * torch.tanh(t2 / _WIDEST)), softplus(m0)), dim=1)
