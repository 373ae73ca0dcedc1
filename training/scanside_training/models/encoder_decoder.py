"""The small network of the literature on weighted losses: one pooling, no skip connections.

With its defaults it has 365,761 parameters: convolutions with biases and without normalisation, of 64 features at
full and 128 at half resolution. Without skips, the image that goes in reaches the end by the residual alone.
"""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import nn

from scanside.engines.manifest import TensorSpec
from scanside_training.models.base import Body, Network, NetworkConfig
from scanside_training.models.upsampling import Upsampling

__all__ = ["EncoderDecoder", "EncoderDecoderConfig"]


class EncoderDecoderConfig(NetworkConfig):
    """Image to image by an encoder and a decoder alone.

    Attributes:
        image_channels: 1 for magnitude images, 2 for complex ones (real and imaginary part).
        channels: features at full resolution, half of those behind the pooling.
    """

    multiple_of: ClassVar[int] = 2

    kind: Literal["encoder-decoder"] = "encoder-decoder"
    image_channels: Literal[1, 2] = 1
    channels: int = Field(64, ge=1)

    def build(self) -> EncoderDecoder:
        """The network with fresh weights."""
        return EncoderDecoder(self)


class _Body(Body):
    def __init__(self, n_image: int, channels: int) -> None:
        super().__init__()
        self.encoder = _block(n_image, channels)
        self.bottleneck = _block(channels, 2 * channels)
        self.up = Upsampling(2 * channels, channels)
        self.bias = nn.Parameter(torch.zeros(channels, 1, 1))
        self.decoder = _block(channels, channels)
        self.last = nn.Conv2d(channels, n_image, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.encoder(x.to(self.last.weight.dtype))
        x = self.bottleneck(nn.functional.max_pool2d(x, 2))
        out: torch.Tensor = self.last(self.decoder(self.up(x) + self.bias))
        return out.float()


class EncoderDecoder(Network):
    """Adds the correction of the network to an image: task ``image``."""

    task = "image"
    config: EncoderDecoderConfig

    def __init__(self, config: EncoderDecoderConfig) -> None:
        super().__init__(config)
        self.body = _Body(config.image_channels, config.channels)

    def offered(self) -> tuple[TensorSpec, ...]:
        """The image alone."""
        return (TensorSpec(name="image", axes=("batch", self.config.image_channels, "k1", "k0")),)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """From ``(B, 1 or 2, k1, k0)`` to the same, float32; k1 and k0 are even."""
        # Where the image is exactly zero no coil sees anything, and there is nothing to correct.
        seen = image.abs().sum(1, keepdim=True) > 0
        corrected: torch.Tensor = image + self.body(image) * seen
        return corrected


def _block(n_in: int, n_out: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(n_in, n_out, 3, padding=1), nn.ReLU(), nn.Conv2d(n_out, n_out, 3, padding=1), nn.ReLU()
    )
