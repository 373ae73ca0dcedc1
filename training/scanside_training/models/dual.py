"""Films by two U-Nets, one for the real and one for the imaginary part, and a residual network over time.

Every frame goes through the 2-D U-Nets (Ronneberger et al., MICCAI 2015), with attention to channels and places where
wanted (Woo et al., ECCV 2018). What they make of all frames is joined by 3-D residual blocks (He et al., *Deep
residual learning for image recognition*, CVPR 2016). Cascades of that alternate with data consistency (Schlemper et
al., *A deep cascade of CNNs for dynamic MR image reconstruction*, IEEE TMI 37:491-503 (2018)); their features are not
kept for the gradient but computed again (Chen et al., *Training deep nets with sublinear memory cost*,
arXiv:1604.06174 (2016)), so that several take hardly more memory than one.
"""

from __future__ import annotations

from typing import Annotated, Literal

import torch
from pydantic import Field, model_validator
from torch import nn
from torch.utils.checkpoint import checkpoint

from scanside.engines.manifest import TensorSpec
from scanside.engines.shapes import film_specs
from scanside.recon.consistency import Lowering
from scanside_training.models.base import Body, Network, NetworkConfig
from scanside_training.models.frames import film_operator, fold, unfold
from scanside_training.models.rules import GradientConfig, HardConfig, consistency_steps, initial_weights
from scanside_training.models.unet import UnetBody

__all__ = ["DualUnet", "DualUnetConfig", "FusionBody"]


class DualUnetConfig(NetworkConfig):
    """Film to film.

    Attributes:
        n_frames: length of the film, which is fixed.
        channels: features of each U-Net at full resolution; each pooling doubles them.
        pools: how often they halve the frames.
        dropout: share of their features that are dropped in training.
        attention: whether their blocks attend to channels and places.
        fusion_channels: features of the network over time, half from each U-Net.
        fusion_blocks: its residual blocks.
        n_cascades: how often all of this and data consistency alternate.
        consistency: how images are made to fit the data; without it a single network goes from image to image.
        checkpointing: compute the features of cascades again for their gradient, instead of keeping them.
        lowering: how the normal operator is computed (see `scanside.recon.consistency`); the weights are the same.
    """

    kind: Literal["dual-unet"] = "dual-unet"
    n_frames: int = Field(12, ge=2)
    channels: int = Field(32, ge=1)
    pools: int = Field(4, ge=1, le=6)
    dropout: float = Field(0.3, ge=0, lt=1)
    attention: bool = False
    fusion_channels: int = Field(16, ge=2, multiple_of=2)
    fusion_blocks: int = Field(2, ge=1)
    n_cascades: int = Field(1, ge=1)
    consistency: Annotated[HardConfig | GradientConfig, Field(discriminator="kind")] | None = None
    checkpointing: bool = True
    lowering: Lowering = "fft"

    @model_validator(mode="after")
    def _cascades_need_consistency(self) -> DualUnetConfig:
        if self.n_cascades > 1 and self.consistency is None:
            raise ValueError(
                f"{self.n_cascades} cascades alternate with data consistency: set consistency, or n_cascades to 1"
            )
        return self

    def build(self) -> DualUnet:
        """The network with fresh weights."""
        return DualUnet(self)

    def lowered(self, lowering: Lowering) -> DualUnetConfig:
        """The same network with its data consistency written in another way."""
        return self.model_copy(update={"lowering": lowering})

    @property
    def multiple_of(self) -> int:
        """What the sizes of images must be multiples of: they are halved so often."""
        return int(2**self.pools)


class ResidualBlock(nn.Module):
    """Two 3-D convolutions, whose result is added. ``(B, channels, time, y, x)`` to the same."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv3d(channels, channels, 3, padding=1, bias=False),
            nn.InstanceNorm3d(channels),
            nn.LeakyReLU(0.2),
            nn.Conv3d(channels, channels, 3, padding=1, bias=False),
            nn.InstanceNorm3d(channels),
        )
        self.activation = nn.LeakyReLU(0.2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Apply the block."""
        out: torch.Tensor = self.activation(x + self.body(x))
        return out


class FusionBody(Body):
    """3-D residual network: ``(B, channels, time, y, x)`` to ``(B, 2, time, y, x)``."""

    def __init__(self, channels: int, n_blocks: int) -> None:
        super().__init__()
        self.blocks = nn.Sequential(*(ResidualBlock(channels) for _ in range(n_blocks)))
        self.last = nn.Conv3d(channels, 2, 1)
        # It begins by changing nothing, instead of by putting noise on the film.
        nn.init.zeros_(self.last.weight)
        assert self.last.bias is not None
        nn.init.zeros_(self.last.bias)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Apply the network."""
        out: torch.Tensor = self.last(self.blocks(x.to(self.last.weight.dtype)))
        return out.float()


class DualNetwork(nn.Module):
    """Adds a correction to a film ``(B, 2, time, k1, k0)``."""

    def __init__(self, config: DualUnetConfig) -> None:
        super().__init__()
        features = config.fusion_channels // 2
        self.real, self.imaginary = (
            UnetBody(1, features, config.channels, config.pools, config.dropout, attention=config.attention)
            for _ in range(2)
        )
        self.fusion = FusionBody(config.fusion_channels, config.fusion_blocks)
        self.n_frames = config.n_frames

    def forward(self, film: torch.Tensor) -> torch.Tensor:
        """Apply the network."""
        frames = fold(film)
        features = torch.cat((self.real(frames[:, :1]), self.imaginary(frames[:, 1:])), dim=1)
        corrected: torch.Tensor = film + self.fusion(unfold(features, self.n_frames))
        return corrected


class DualUnet(Network):
    """Task ``dynamic``: from the zero-filled frames of a film to the film."""

    task = "dynamic"
    config: DualUnetConfig
    n_frames: int

    def __init__(self, config: DualUnetConfig) -> None:
        super().__init__(config)
        self.n_frames = config.n_frames
        self.lowering = "none" if config.consistency is None else config.lowering
        self.networks = nn.ModuleList(DualNetwork(config) for _ in range(config.n_cascades))
        self.log_weights = (
            None if config.consistency is None else initial_weights(config.consistency, config.n_cascades)
        )

    def offered(self) -> tuple[TensorSpec, ...]:
        """The film, and what tells of the scan where there is data consistency."""
        return film_specs(self.lowering)

    def forward(self, image: torch.Tensor, *scan: torch.Tensor) -> torch.Tensor:
        """Reconstruct.

        Args:
            image: ``(B, 2, time, k1, k0)`` ``Aᴴ y`` of every frame, scaled.
            *scan: nothing where there is no data consistency; otherwise coil maps ``(B, coil, 2, k1, k0)``, noise
                ``(B, 1, 1, 1)`` and the inputs of the lowering (`scanside.recon.consistency.film_sampling_inputs`).

        Returns:
            ``(B, 2, time, k1, k0)`` float32.
        """
        rule, log_weights = self.config.consistency, self.log_weights
        if rule is None or log_weights is None:
            # Where the image is exactly zero no coil sees anything, and there is nothing to correct.
            seen = image.abs().sum(1, keepdim=True) > 0
            film: torch.Tensor = self.networks[0](image)
            return film * seen
        maps, noise, *sampling = scan
        normal = film_operator(self.config.lowering, maps, tuple(sampling))
        measured = fold(image)
        x, steps = consistency_steps(rule, normal, measured, log_weights.exp(), noise, self.config.n_cascades)
        again = self.config.checkpointing and self.training and torch.is_grad_enabled()
        for network, step in zip(self.networks, steps, strict=True):
            film = unfold(x, self.n_frames)
            x = fold(checkpoint(network, film, use_reentrant=False) if again else network(film))
            x = x + step(measured - normal(x))
        seen = maps.square().sum((1, 2)) > 0
        return unfold(x, self.n_frames) * seen[:, None, None]
