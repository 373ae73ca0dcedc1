"""The U-Net in the form that fastMRI made common, as a network that puts out a correction.

Ronneberger et al., *U-Net*, MICCAI 2015; Zbontar et al., *fastMRI*, arXiv:1811.08839 (2018).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, TypeAlias

import torch
from pydantic import Field
from torch import nn
from torch.nn.functional import softplus

from scanside.engines.manifest import TensorSpec
from scanside.engines.roles import contrast_role
from scanside_training.models.attention import BlockAttention
from scanside_training.models.base import Body, Network, NetworkConfig
from scanside_training.models.upsampling import Upsampling

__all__ = ["Modulation", "Unet", "UnetBody", "UnetConfig"]

Modulation: TypeAlias = tuple[torch.Tensor, torch.Tensor]
"""Factors and offsets of features, ``(B, n, 1, 1)`` each."""

_SMALLEST = 1e-3
_USUAL = -3.0  # from where networks begin: errors of a twentieth of bright tissue


class ConvBlock(nn.Sequential):
    """Twice: convolution, instance norm, leaky ReLU, dropout. ``(B, n_in, y, x)`` to ``(B, n_out, y, x)``.

    With attention the features are weighted in the end (`BlockAttention`). They may be modulated after each norm.
    """

    def __init__(self, n_in: int, n_out: int, dropout: float, attention: bool = False) -> None:
        layers: list[nn.Module] = []
        for n in (n_in, n_out):
            layers += [
                nn.Conv2d(n, n_out, 3, padding=1, bias=False),
                nn.InstanceNorm2d(n_out),
                nn.LeakyReLU(0.2),
            ]
            if dropout:
                layers.append(nn.Dropout2d(dropout))
        if attention:
            layers.append(BlockAttention(n_out))
        super().__init__(*layers)

    def forward(self, x: torch.Tensor, modulation: Modulation | None = None) -> torch.Tensor:
        """Apply it; modulated, the features of each norm are multiplied with factors, and offsets are added."""
        for layer in self:
            x = layer(x)
            if modulation is not None and isinstance(layer, nn.InstanceNorm2d):
                factor, offset = (one.to(x.dtype) for one in modulation)
                x = torch.addcmul(offset, x, factor)
        return x


class UpBlock(nn.Module):
    """Doubles the size, joins what the encoder had there, and convolves."""

    def __init__(self, n_in: int, n_out: int, dropout: float, attention: bool = False) -> None:
        super().__init__()
        self.up = nn.Sequential(
            Upsampling(n_in, n_out),
            nn.InstanceNorm2d(n_out),
            nn.LeakyReLU(0.2),
        )
        self.block = ConvBlock(2 * n_out, n_out, dropout, attention)

    def forward(
        self, x: torch.Tensor, skip: torch.Tensor, modulation: Modulation | None = None
    ) -> torch.Tensor:
        """``(B, n_in, y, x)`` and ``(B, n_out, 2y, 2x)`` to ``(B, n_out, 2y, 2x)``."""
        joined: torch.Tensor = self.block(torch.cat((self.up(x), skip), dim=1), modulation)
        return joined


class UnetBody(Body):
    """The network alone: ``(B, n_in, y, x)`` to ``(B, n_out, y, x)``, sizes divisible by ``2**pools``.

    Attributes:
        widths: features of its blocks, in the order in which they are computed.
    """

    def __init__(
        self,
        n_in: int,
        n_out: int,
        channels: int,
        pools: int,
        dropout: float = 0.0,
        *,
        attention: bool = False,
    ) -> None:
        super().__init__()
        widths = [channels * 2**level for level in range(pools + 1)]
        self.encoder = nn.ModuleList(
            ConvBlock(a, b, dropout, attention)
            for a, b in zip([n_in, *widths[:-2]], widths[:-1], strict=True)
        )
        self.bottleneck = ConvBlock(widths[-2] if pools else n_in, widths[-1], dropout, attention)
        self.decoder = nn.ModuleList(
            UpBlock(b, a, dropout, attention) for a, b in zip(widths[-2::-1], widths[:0:-1], strict=True)
        )
        self.last = nn.Conv2d(channels, n_out, 1)
        self.widths = (*widths, *widths[-2::-1])

    def forward(self, x: torch.Tensor, modulations: Sequence[Modulation] | None = None) -> torch.Tensor:
        """Apply the network.

        Args:
            x: ``(B, n_in, y, x)``.
            modulations: of the features of each block, see `widths`.
        """
        x = x.to(self.last.weight.dtype)
        modulation = iter([None] * len(self.widths) if modulations is None else modulations)
        skips = []
        for block in self.encoder:
            x = block(x, next(modulation))
            skips.append(x)
            x = nn.functional.avg_pool2d(x, 2)
        x = self.bottleneck(x, next(modulation))
        for block in self.decoder:
            x = block(x, skips.pop(), next(modulation))
        out: torch.Tensor = self.last(x)
        return out.float()


class UnetConfig(NetworkConfig):
    """Image to image: zero-filled or classical in, corrected image out.

    Attributes:
        image_channels: 1 for magnitude images, 2 for complex ones (real and imaginary part).
        channels: features at full resolution; each pooling doubles them.
        pools: how often the image is halved.
        dropout: share of features that are dropped in training.
        contrasts: names of further contrasts of the same slice, whose images it sees beside the scan's.
        uncertainty: also give the error to be expected of each pixel, which the loss ``uncertainty`` teaches.
    """

    kind: Literal["unet"] = "unet"
    image_channels: Literal[1, 2] = 2
    channels: int = Field(32, ge=1)
    pools: int = Field(4, ge=1, le=6)
    dropout: float = Field(0.0, ge=0, lt=1)
    contrasts: tuple[str, ...] = ()
    uncertainty: bool = False

    def build(self) -> Unet:
        """The network with fresh weights."""
        return Unet(self)

    @property
    def multiple_of(self) -> int:
        """What the sizes of images must be multiples of: they are halved so often."""
        return int(2**self.pools)


class Unet(Network):
    """Adds the correction of a U-Net to an image: task ``image``."""

    task = "image"
    config: UnetConfig

    def __init__(self, config: UnetConfig) -> None:
        super().__init__(config)
        self.tells_uncertainty = config.uncertainty
        n = config.image_channels
        n_seen = n + len(config.contrasts)
        self.body = UnetBody(n_seen, n + config.uncertainty, config.channels, config.pools, config.dropout)

    def offered(self) -> tuple[TensorSpec, ...]:
        """The image, and those of other contrasts."""
        image = TensorSpec(name="image", axes=("batch", self.config.image_channels, "k1", "k0"))
        roles = (contrast_role(name) for name in self.config.contrasts)
        return (image, *(TensorSpec(name=role, axes=("batch", 1, "k1", "k0")) for role in roles))

    def forward(self, image: torch.Tensor, *contrasts: torch.Tensor) -> torch.Tensor:
        """From ``(B, 1 or 2, k1, k0)`` to `outputs`, float32; k1 and k0 are multiples of `multiple_of`."""
        # Where the image is exactly zero no coil sees anything, and there is nothing to correct.
        seen = image.abs().sum(1, keepdim=True) > 0
        body: torch.Tensor = self.body(torch.cat((image, *contrasts), dim=1) if contrasts else image)
        n = self.config.image_channels
        corrected = image + body[:, :n] * seen
        if not self.tells_uncertainty:
            return corrected
        # Never nothing, as it is divided by: a thousandth of bright tissue at least.
        return torch.cat((corrected, (softplus(body[:, n:] + _USUAL) + _SMALLEST) * seen), dim=1)
