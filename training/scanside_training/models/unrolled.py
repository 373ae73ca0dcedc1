"""Unrolled networks: cascades of a U-Net's correction and data consistency.

Sriram et al., *End-to-end variational networks for accelerated MRI reconstruction*, MICCAI 2020 (gradient steps,
sensitivities by a network); Aggarwal et al., *MoDL*, IEEE TMI 38:394-405 (2019) (conjugate gradients, shared
weights); Schlemper et al., *A deep cascade of CNNs*, IEEE TMI 37:491-503 (2018) (hard replacement); Giannakopoulos et
al., *Accelerated MRI reconstructions via variational network and feature domain learning*, Sci Rep 14:10991 (2024)
(features that pass from cascade to cascade).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import nn

from scanside.recon.consistency import Lowering, sampling_inputs
from scanside_training.models.base import Batch, ModelConfig
from scanside_training.models.consistency import NormalOperator, ProximalSolver, hermitian_sum
from scanside_training.models.sensitivities import SensitivityConfig, SensitivityNetwork
from scanside_training.models.unet import UnetBody

__all__ = ["GradientConfig", "HardConfig", "ProximalConfig", "Regulariser", "Unrolled", "UnrolledConfig"]


class HardConfig(ModelConfig):
    """Acquired samples replace those of the image."""

    kind: Literal["hard"] = "hard"


class GradientConfig(ModelConfig):
    """One gradient step on the misfit, its length learned for each cascade.

    Attributes:
        step: where learning starts.
    """

    kind: Literal["gradient"] = "gradient"
    step: float = Field(1.0, gt=0)


class ProximalConfig(ModelConfig):
    """The image nearest to the network's that explains the data as well as their noise allows.

    The weight λ of the network's image against the data, one for all cascades, is in units of the noise's variance:
    the noisier the data, the less they count. A weight that is the same for all scans is an order of magnitude too
    large for quiet ones, and leaves aliasing that their data would have resolved. One that is learned is as large as
    the network's errors in training are small; for scans unlike those, which it corrects less well, it is too large.

    Attributes:
        iterations: conjugate-gradient steps in each cascade, in use; for training see
            `scanside_training.models.consistency.ProximalSolver`.
        weight: λ / noise², which is 1 / the squared error that the network's image has.
        learned: whether that is only where learning starts.
        initial_iterations: steps from zero to the image that the first network sees.
    """

    kind: Literal["cg"] = "cg"
    iterations: int = Field(8, ge=1)
    weight: float = Field(60.0, gt=0)
    learned: bool = True
    initial_iterations: int = Field(10, ge=1)


Consistency = Annotated[HardConfig | GradientConfig | ProximalConfig, Field(discriminator="kind")]


class UnrolledConfig(ModelConfig):
    """Multi-coil reconstruction with data consistency.

    Attributes:
        n_cascades: how often network and data consistency alternate.
        share_weights: whether all cascades use one network, as MoDL does.
        channels: features of the U-Nets at full resolution.
        pools: how often they halve the image.
        dropout: share of features that are dropped in training.
        memory: channels that pass from one cascade's network to the next beside the image.
        consistency: how images are made to fit the data.
        lowering: how the normal operator is computed (see `scanside.recon.consistency`); the weights are the same.
        sensitivities: a network that estimates the coil maps jointly, from images of the calibration lines; without
            it, maps are given.
    """

    kind: Literal["unrolled"] = "unrolled"
    n_cascades: int = Field(5, ge=1)
    share_weights: bool = False
    channels: int = Field(16, ge=1)
    pools: int = Field(3, ge=1, le=6)
    dropout: float = Field(0.0, ge=0, lt=1)
    memory: int = Field(0, ge=0)
    consistency: Consistency = ProximalConfig()
    lowering: Lowering = "fft"
    sensitivities: SensitivityConfig | None = None

    def build(self) -> Unrolled:
        """The network with fresh weights."""
        return Unrolled(self)


class Regulariser(nn.Module):
    """A U-Net that sees the image and what data consistency changed last, and corrects the image.

    Args:
        config: of the unrolled network.
    """

    def __init__(self, config: UnrolledConfig) -> None:
        super().__init__()
        self.body = UnetBody(
            4 + config.memory, 2 + config.memory, config.channels, config.pools, config.dropout
        )

    def forward(
        self, image: torch.Tensor, change: torch.Tensor, memory: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The corrected image ``(B, 2, k1, k0)`` and the memory ``(B, n, k1, k0)`` for the next cascade."""
        # TensorRT need not take tensors without elements, so none goes into the graph where there is no memory.
        seen = (image, change, memory) if memory.shape[1] else (image, change)
        out = self.body(torch.cat(seen, dim=1))
        return image + out[:, :2], out[:, 2:]


class Unrolled(nn.Module):
    """Task ``unrolled``: from ``Aᴴ y``, coil maps and sampling to an image."""

    task = "unrolled"

    def __init__(self, config: UnrolledConfig) -> None:
        super().__init__()
        self.config = config
        self.multiple_of = 2**config.pools
        n_networks = 1 if config.share_weights else config.n_cascades
        self.networks = nn.ModuleList(Regulariser(config) for _ in range(n_networks))
        rule = config.consistency
        # The logarithm is learned: weights and steps stay positive.
        start = {"hard": 1.0, "gradient": getattr(rule, "step", 1.0), "cg": getattr(rule, "weight", 1.0)}[
            rule.kind
        ]
        n_weights = 1 if rule.kind == "cg" else config.n_cascades
        self.log_weights = nn.Parameter(
            torch.full((n_weights,), start).log(),
            requires_grad=rule.kind == "gradient" or (rule.kind == "cg" and rule.learned),
        )
        self.sensitivities = (
            None if config.sensitivities is None else SensitivityNetwork(config.sensitivities)
        )

    def inputs(self, batch: Batch) -> tuple[torch.Tensor, ...]:
        """What `forward` takes, from a batch of training samples."""
        sampling = sampling_inputs(self.config.lowering, batch["mask"])
        noise = batch["noise"].view(-1, 1, 1, 1)
        if self.sensitivities is not None:
            return (batch["coil_images"], batch["calibration"], noise, *sampling)
        return (batch["image"], batch["maps"], noise, *sampling)

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
        normal = NormalOperator(self.config.lowering, maps, sampling)
        x, steps = self._data_consistency(normal, image, noise)
        # What data consistency changed last shows the network where it erred; the first one sees the aliasing.
        change = image
        memory = x.new_zeros(x.shape[0], self.config.memory, *x.shape[2:])
        for cascade, step in enumerate(steps):
            network = self.networks[0 if self.config.share_weights else cascade]
            x, memory = network(x, change, memory)
            change = step(image - normal(x))
            x = x + change
        # Where no coil sees anything, there are no data, and what the networks put there is nothing.
        return x * (maps.square().sum((1, 2)) > 0).unsqueeze(1)

    def _data_consistency(
        self, normal: NormalOperator, image: torch.Tensor, noise: torch.Tensor
    ) -> tuple[torch.Tensor, list[Callable[[torch.Tensor], torch.Tensor]]]:
        """The image that the first network sees, and what each cascade adds for a misfit ``Aᴴ y − Aᴴ A x``."""
        rule = self.config.consistency
        weights = self.log_weights.exp()
        if not isinstance(rule, ProximalConfig):
            return image, [partial(torch.mul, weight) for weight in weights]
        solve = ProximalSolver(normal, _bounded(weights * noise.square()))
        step = partial(solve, iterations=rule.iterations)
        return solve(image, rule.initial_iterations), [step] * self.config.n_cascades


def _bounded(weight: torch.Tensor) -> torch.Tensor:
    """λ within what a few conjugate-gradient steps solve, and what still lets the data count."""
    return weight.clamp(2e-3, 1.0)
