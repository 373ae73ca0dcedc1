"""Unrolled networks: cascades of a U-Net's correction and data consistency.

Sriram et al., *End-to-end variational networks for accelerated MRI reconstruction*, MICCAI 2020 (gradient steps,
sensitivities by a network); Aggarwal et al., *MoDL*, IEEE TMI 38:394-405 (2019) (conjugate gradients, shared
weights); Schlemper et al., *A deep cascade of CNNs*, IEEE TMI 37:491-503 (2018) (hard replacement); Giannakopoulos et
al., *Accelerated MRI reconstructions via variational network and feature domain learning*, Sci Rep 14:10991 (2024)
(features that pass from cascade to cascade).
"""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field
from torch import nn

from scanside.engines.manifest import TensorSpec
from scanside.engines.shapes import unrolled_specs
from scanside.recon.consistency import Lowering
from scanside_training.models.base import ExactForm, Network, NetworkConfig
from scanside_training.models.cascades import ExactCascades
from scanside_training.models.consistency import NormalOperator, hermitian_sum
from scanside_training.models.rules import (
    WEIGHT_LIMITS,
    Consistency,
    GradientConfig,
    HardConfig,
    ProximalConfig,
    consistency_steps,
    initial_weights,
)
from scanside_training.models.sensitivities import SensitivityConfig, SensitivityNetwork
from scanside_training.models.unet import UnetBody

__all__ = [
    "Cascades",
    "CascadesConfig",
    "GradientConfig",
    "HardConfig",
    "ProximalConfig",
    "Regulariser",
    "Unrolled",
    "UnrolledConfig",
]


class CascadesConfig(NetworkConfig):
    """U-Nets that alternate with data consistency.

    Attributes:
        n_cascades: how often network and data consistency alternate.
        share_weights: whether all cascades use one network, as MoDL does.
        channels: features of the U-Nets at full resolution.
        pools: how often they halve the image.
        dropout: share of features that are dropped in training.
        memory: channels that pass from one cascade's network to the next beside the image.
    """

    n_cascades: int = Field(5, ge=1)
    share_weights: bool = False
    channels: int = Field(16, ge=1)
    pools: int = Field(3, ge=1, le=6)
    dropout: float = Field(0.0, ge=0, lt=1)
    memory: int = Field(0, ge=0)

    def networks(self, more: int = 0) -> nn.ModuleList:
        """Fresh ones: one for all cascades, or one for each, which see so many further channels."""
        return nn.ModuleList(
            Regulariser(self.channels, self.pools, self.dropout, self.memory, more)
            for _ in range(1 if self.share_weights else self.n_cascades)
        )


class UnrolledConfig(CascadesConfig):
    """Multi-coil reconstruction with data consistency.

    Attributes:
        consistency: how images are made to fit the data.
        lowering: how the normal operator is computed (see `scanside.recon.consistency`); the weights are the same.
        sensitivities: a network that estimates the coil maps jointly, from images of the calibration lines; without
            it, maps are given.
    """

    kind: Literal["unrolled"] = "unrolled"
    consistency: Consistency = ProximalConfig()
    lowering: Lowering = "fft"
    sensitivities: SensitivityConfig | None = None

    def build(self) -> Unrolled:
        """The network with fresh weights."""
        return Unrolled(self)

    @property
    def takes_lines_alone(self) -> bool:
        """A point spread along k1 is, and so are products with the transform along k1."""
        return self.lowering != "fft"

    def lowered(self, lowering: Lowering) -> UnrolledConfig:
        """The same network with its data consistency written in another way."""
        return self.model_copy(update={"lowering": lowering})

    @property
    def unfit(self) -> str | None:
        """No stage makes what a network for coil maps takes."""
        if self.sensitivities is None:
            return None
        return (
            "a network that estimates its coil maps takes coil images, which no engine stage makes: "
            "train it with given maps (leave out model.sensitivities)"
        )

    @property
    def multiple_of(self) -> int:
        """What the sizes of images must be multiples of: they are halved so often."""
        pools = 0 if self.sensitivities is None else self.sensitivities.pools
        return int(2 ** max(self.pools, pools))


class Regulariser(nn.Module):
    """A U-Net that sees the image and what data consistency changed last, and corrects the image.

    Args:
        channels: features at full resolution.
        pools: how often the U-Net halves the image.
        dropout: share of features that are dropped in training.
        memory: channels that pass from cascade to cascade.
        more: further channels that it sees.
    """

    def __init__(self, channels: int, pools: int, dropout: float, memory: int, more: int = 0) -> None:
        super().__init__()
        self.body = UnetBody(4 + memory + more, 2 + memory, channels, pools, dropout)

    def forward(
        self, image: torch.Tensor, change: torch.Tensor, memory: torch.Tensor, *more: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The corrected image ``(B, 2, k1, k0)`` and the memory ``(B, n, k1, k0)`` for the next cascade."""
        # TensorRT need not take tensors without elements, so none goes into the graph where there is no memory.
        seen = (image, change, memory) if memory.shape[1] else (image, change)
        out = self.body(torch.cat((*seen, *more), dim=1))
        return image + out[:, :2], out[:, 2:] if memory.shape[1] else memory


class Cascades(Network):
    """U-Nets that alternate with data consistency, whatever the operator ``A`` of the scan.

    Args:
        config: its settings.
        rule: how images are made to fit the data.
    """

    task = "unrolled"
    config: CascadesConfig

    def __init__(self, config: CascadesConfig, rule: HardConfig | GradientConfig | ProximalConfig) -> None:
        super().__init__(config)
        self._rule = rule
        self.networks = config.networks()
        self.log_weights = initial_weights(rule, config.n_cascades)

    def reconstructed(
        self, normal: NormalOperator, image: torch.Tensor, maps: torch.Tensor, noise: torch.Tensor
    ) -> torch.Tensor:
        """The image ``(B, 2, k1, k0)`` of all cascades.

        Args:
            normal: ``Aᴴ A``.
            image: ``(B, 2, k1, k0)`` ``Aᴴ y``, scaled.
            maps: ``(B, coil, 2, k1, k0)``.
            noise: ``(B, 1, 1, 1)``, on the scale of the image.
        """
        n, memory_channels = self.config.n_cascades, self.config.memory
        x, steps = consistency_steps(self._rule, normal, image, self.log_weights.exp(), noise, n)
        # What data consistency changed last shows the network where it erred; the first one sees the aliasing.
        change = image
        memory = x.new_zeros(x.shape[0], memory_channels, *x.shape[2:])
        for cascade, step in enumerate(steps):
            network = self.networks[0 if self.config.share_weights else cascade]
            x, memory = network(x, change, memory)
            change = step(image - normal(x))
            x = x + change
        # Where no coil sees anything, there are no data, and what the networks put there is nothing.
        return x * (maps.square().sum((1, 2)) > 0).unsqueeze(1)


class Unrolled(Cascades):
    """Task ``unrolled``: from ``Aᴴ y``, coil maps and sampling to an image."""

    config: UnrolledConfig

    def __init__(self, config: UnrolledConfig) -> None:
        super().__init__(config, config.consistency)
        self.lowering = config.lowering
        self.sensitivities = (
            None if config.sensitivities is None else SensitivityNetwork(config.sensitivities)
        )

    def offered(self) -> tuple[TensorSpec, ...]:
        """Image, maps, noise and the inputs of the lowering; coil images where it finds maps itself."""
        image, maps, *others = unrolled_specs(self.lowering)
        if self.sensitivities is None:
            return (image, maps, *others)
        coils = (TensorSpec(name=role, axes=maps.axes) for role in ("coil_images", "calibration"))
        return (*coils, *others)

    def exact(self) -> ExactForm | None:
        """What its steps converge to, and what training does, where these are conjugate gradients for given maps
        (`scanside_training.models.consistency.ProximalSolver`); parameters are shared, under the same names.
        """
        if self.sensitivities is not None or self.config.consistency.kind != "cg":
            return None
        config = self.config
        network = ExactCascades(self.networks, self.log_weights, config.n_cascades, config.memory)
        return ExactForm(network, float(self.log_weights.detach().exp()), WEIGHT_LIMITS)

    def forward(
        self, image: torch.Tensor, maps: torch.Tensor, noise: torch.Tensor, *sampling: torch.Tensor
    ) -> torch.Tensor:
        """Reconstruct.

        Args:
            image: ``(B, 2, k1, k0)`` ``Aᴴ y``, scaled; with a sensitivity network ``(B, coil, 2, k1, k0)``, the
                zero-filled coil images.
            maps: ``(B, coil, 2, k1, k0)`` coil sensitivities; with a sensitivity network, coil images of the
                calibration lines.
            noise: ``(B, 1, 1, 1)`` standard deviation of the noise's real and imaginary part in the voxels of a coil,
                on the scale of the image.
            *sampling: the inputs of the lowering (`scanside.recon.consistency.sampling_inputs`).

        Returns:
            ``(B, 2, k1, k0)`` float32.
        """
        if self.sensitivities is not None:
            maps = self.sensitivities(maps)
            image = hermitian_sum(maps, image)
        return self.reconstructed(NormalOperator(self.config.lowering, maps, sampling), image, maps, noise)
