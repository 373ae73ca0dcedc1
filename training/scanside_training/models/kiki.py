"""Networks in k-space and in the image, taking turns, with data consistency after each pair.

Eo et al., *KIKI-net: cross-domain convolutional neural networks for reconstructing undersampled magnetic resonance
images*, MRM 80:2188-2201 (2018), for many coils: the networks see the combined image and its k-space. Both Fourier
transforms are products with matrices, which every backend has.
"""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field
from torch import nn
from torch.nn.functional import leaky_relu

from scanside.engines.manifest import TensorSpec
from scanside.engines.shapes import unrolled_specs
from scanside.recon.consistency import Lowering
from scanside_training.models.base import Body, Network, NetworkConfig
from scanside_training.models.consistency import NormalOperator
from scanside_training.models.rules import Consistency, HardConfig, consistency_steps, initial_weights

__all__ = ["Kiki", "KikiConfig"]

_LEAK = 0.1
_TRANSFORMS = (TensorSpec(name="dft1", axes=(2, "k1", "k1")), TensorSpec(name="dft0", axes=(2, "k0", "k0")))


class KikiConfig(NetworkConfig):
    """Multi-coil reconstruction with networks in both domains.

    Attributes:
        n_cascades: how often the networks and data consistency alternate.
        domains: of the networks in each cascade, in their order; with one domain alone it is a plain cascade, to
            compare with.
        channels: features of each network.
        depth: convolutions of each network.
        consistency: how images are made to fit the data.
        lowering: how the normal operator is computed (see `scanside.recon.consistency`); the weights are the same.
    """

    kind: Literal["kiki"] = "kiki"
    n_cascades: int = Field(2, ge=1)
    domains: tuple[Literal["kspace", "image"], ...] = Field(("kspace", "image"), min_length=1)
    channels: int = Field(32, ge=1)
    depth: int = Field(5, ge=2)
    consistency: Consistency = HardConfig()
    lowering: Lowering = "fft"

    @property
    def multiple_of(self) -> int:
        """Sizes are any: nothing is halved."""
        return 1

    def build(self) -> Kiki:
        """The network with fresh weights."""
        return Kiki(self)

    @property
    def takes_lines_alone(self) -> bool:
        """A point spread along k1 is, and so are products with the transform along k1."""
        return self.lowering != "fft"

    def lowered(self, lowering: Lowering) -> KikiConfig:
        """The same network with its data consistency written in another way."""
        return self.model_copy(update={"lowering": lowering})


class _Convolutions(Body):
    """A correction: ``(B, 2, y, x)`` to the same. It begins by changing nothing."""

    def __init__(self, channels: int, depth: int) -> None:
        super().__init__()
        self.first = nn.ModuleList()
        for n_in in [2, *[channels] * (depth - 2)]:
            layer = nn.Conv2d(n_in, channels, 3, padding=1, bias=False)
            # Without norms, features keep their size only if weights begin with the size that keeps it.
            nn.init.kaiming_normal_(layer.weight, _LEAK, nonlinearity="leaky_relu")
            self.first.append(layer)
        self.last = nn.Conv2d(channels, 2, 3, padding=1, bias=False)
        nn.init.zeros_(self.last.weight)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Apply the network."""
        x = x.to(self.last.weight.dtype)
        for layer in self.first:
            x = leaky_relu(layer(x), _LEAK)
        out: torch.Tensor = self.last(x)
        return out.float()


class Kiki(Network):
    """Task ``unrolled``: from ``Aᴴ y``, coil maps, sampling and both Fourier transforms to an image."""

    task = "unrolled"
    config: KikiConfig

    def __init__(self, config: KikiConfig) -> None:
        super().__init__(config)
        self.lowering = config.lowering
        self.networks = nn.ModuleList(
            _Convolutions(config.channels, config.depth)
            for _ in range(config.n_cascades * len(config.domains))
        )
        self.log_weights = initial_weights(config.consistency, config.n_cascades)

    def offered(self) -> tuple[TensorSpec, ...]:
        """Image, maps, noise, the inputs of the lowering, and those transforms that are not among them."""
        specs = unrolled_specs(self.config.lowering)
        return (*specs, *(one for one in _TRANSFORMS if one not in specs))

    def forward(
        self, image: torch.Tensor, maps: torch.Tensor, noise: torch.Tensor, *others: torch.Tensor
    ) -> torch.Tensor:
        """Reconstruct.

        Args:
            image: ``(B, 2, k1, k0)`` ``Aᴴ y``, scaled.
            maps: ``(B, coil, 2, k1, k0)`` coil sensitivities.
            noise: ``(B, 1, 1, 1)`` standard deviation of the noise's real and imaginary part in the voxels of a coil,
                on the scale of the image.
            *others: the inputs of the lowering (`scanside.recon.consistency.sampling_inputs`), and the transforms.

        Returns:
            ``(B, 2, k1, k0)`` float32.
        """
        n_sampling = len(unrolled_specs(self.config.lowering)) - 3
        dft1, dft0 = others[-2:]
        normal = NormalOperator(self.config.lowering, maps, others[:n_sampling])
        x, steps = consistency_steps(
            self.config.consistency, normal, image, self.log_weights.exp(), noise, self.config.n_cascades
        )
        networks = iter(self.networks)
        for step in steps:
            for domain in self.config.domains:
                network = next(networks)
                if domain == "kspace":
                    x = x + transformed(network(transformed(x, dft1, dft0)), _inverse(dft1), _inverse(dft0))
                else:
                    x = x + network(x)
            x = x + step(image - normal(x))
        # Where no coil sees anything, there are no data, and what the networks put there is nothing.
        return x * (maps.square().sum((1, 2)) > 0).unsqueeze(1)


def transformed(image: torch.Tensor, along_k1: torch.Tensor, along_k0: torch.Tensor) -> torch.Tensor:
    """Products of an image ``(B, 2, k1, k0)`` with complex matrices ``(2, k1, k1)`` and ``(2, k0, k0)``."""
    real, imaginary = image.unbind(1)
    a, b = along_k1.unbind(0)
    real, imaginary = a @ real - b @ imaginary, a @ imaginary + b @ real
    a, b = (one.mT for one in along_k0.unbind(0))
    return torch.stack((real @ a - imaginary @ b, real @ b + imaginary @ a), dim=1)


def _inverse(dft: torch.Tensor) -> torch.Tensor:
    """Of an orthonormal transform, which is symmetric: its conjugate."""
    real, imaginary = dft.unbind(0)
    return torch.stack((real, -imaginary))
