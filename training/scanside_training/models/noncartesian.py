"""Unrolled networks for samples anywhere in k-space: radial, spiral, any trajectory, with the same weights.

Data consistency is the Toeplitz form of ``Aᴴ W A`` (`scanside.recon.noncartesian.toeplitz`), whose kernel is an
input, written as products with the matrices of the transform to twice the grid: an engine needs neither a NUFFT nor
an FFT nor complex numbers. Networks as in Aggarwal et al., *MoDL*, IEEE TMI 38:394-405 (2019); for other trajectories
Ramzi et al., *NC-PDNet*, IEEE TMI 41:1625-1638 (2022), who compensate the density in data consistency as it is here.
"""

from __future__ import annotations

from functools import cached_property
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import nn

from scanside.engines.manifest import TensorSpec
from scanside.engines.shapes import noncartesian_specs
from scanside.recon.noncartesian.toeplitz import toeplitz_normal
from scanside_training.models.consistency import NormalOperator, blocks, numbers_of
from scanside_training.models.rules import GradientConfig, ProximalConfig
from scanside_training.models.unrolled import Cascades, CascadesConfig

__all__ = ["NonCartesian", "NonCartesianConfig", "ToeplitzOperator"]


class NonCartesianConfig(CascadesConfig):
    """Multi-coil reconstruction of samples anywhere in k-space, with given coil maps.

    Attributes:
        consistency: how images are made to fit the data: gradient steps, or conjugate gradients.
    """

    kind: Literal["noncartesian"] = "noncartesian"
    consistency: Annotated[GradientConfig | ProximalConfig, Field(discriminator="kind")] = ProximalConfig(
        iterations=3, initial_iterations=6
    )

    def build(self) -> NonCartesian:
        """The network with fresh weights."""
        return NonCartesian(self)

    @property
    def multiple_of(self) -> int:
        """What the sizes of images must be multiples of: they are halved so often."""
        return int(2**self.pools)


class NonCartesian(Cascades):
    """Task ``unrolled``: from ``Aᴴ W y``, coil maps and the kernel of the trajectory to an image."""

    lowering = "dft_matmul"
    config: NonCartesianConfig

    def __init__(self, config: NonCartesianConfig) -> None:
        super().__init__(config, config.consistency)
        for name, parameter in self.networks.named_parameters():
            # Networks begin with corrections of nothing: with the image of conjugate gradients, not with noise.
            if name.endswith(("body.last.weight", "body.last.bias")):
                nn.init.zeros_(parameter)

    def offered(self) -> tuple[TensorSpec, ...]:
        """Image, maps, noise, kernel and transforms."""
        return noncartesian_specs()

    def forward(
        self,
        image: torch.Tensor,
        maps: torch.Tensor,
        noise: torch.Tensor,
        toeplitz: torch.Tensor,
        double1: torch.Tensor,
        double0: torch.Tensor,
    ) -> torch.Tensor:
        """Reconstruct.

        Args:
            image: ``(B, 2, k1, k0)`` ``Aᴴ W y``, scaled.
            maps: ``(B, coil, 2, k1, k0)`` coil sensitivities.
            noise: ``(B, 1, 1, 1)`` standard deviation of the real and imaginary part of the noise in the voxels of
                ``Fᴴ W y``, on the scale of the image.
            toeplitz: ``(B, 2, 2, k1, k0)``, see `scanside.engines.roles`, as the next two.
            double1: ``(2, 2, k1, k1)``.
            double0: ``(2, 2, k0, k0)``.

        Returns:
            ``(B, 2, k1, k0)`` float32.
        """
        normal = ToeplitzOperator(maps, toeplitz, (double1, double0))
        return self.reconstructed(normal, image, maps, noise)


class ToeplitzOperator(NormalOperator):
    """``Aᴴ W A`` of any trajectory and one set of maps.

    Args:
        maps: ``(B, coil, 2, k1, k0)`` coil sensitivities.
        kernel: ``(B, 2, 2, k1, k0)``, from `scanside.recon.noncartesian.toeplitz.split_kernel`.
        transforms: along k1 and k0, ``(2, 2, n, n)`` each, from `doubled_dft` there.
    """

    few_steps = True
    along_k1_alone = False

    def __init__(
        self, maps: torch.Tensor, kernel: torch.Tensor, transforms: tuple[torch.Tensor, torch.Tensor]
    ) -> None:
        super().__init__("dft_matmul", maps, (kernel, *transforms))

    def compute(self, image: torch.Tensor) -> torch.Tensor:
        """Apply to ``(B, 2, k1, k0)`` without a trace for gradients, by fast transforms."""
        maps, kernels = self._numbers
        coils = maps * numbers_of(image).unsqueeze(1)
        applied = torch.stack([toeplitz_normal(*one) for one in zip(coils, kernels, strict=True)])
        combined = (maps.conj() * applied).sum(1)
        return torch.view_as_real(combined).movedim(-1, -3).contiguous()

    @cached_property
    def _numbers(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Maps as complex numbers, and kernels ``(B, 2 k1, 2 k0)`` as `toeplitz_normal` has them."""
        kernel = self.sampling[0]
        whole = kernel.permute(0, 3, 1, 4, 2).reshape(len(kernel), 2 * kernel.shape[-2], 2 * kernel.shape[-1])
        return numbers_of(self.maps), whole

    @cached_property
    def _products(self) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Once for all applications: the matrices, and the kernel ``(B, 1, 1, 2 k0, 2 k1)`` in the order in which
        they leave the spectrum.
        """
        kernel, *transforms = self.sampling
        along1, along0 = (blocks(one.flatten(1, 2)) for one in transforms)
        ordered = kernel.permute(0, 2, 4, 1, 3).flatten(3, 4).flatten(1, 2)
        return along1, along0, ordered[:, None, None]

    def _project(self, coils: torch.Tensor) -> torch.Tensor:
        """``Fᴴ W F`` on coil images ``(B, coil, 2, k1, k0)``; gives ``(B, coil, 2, 1, k1, k0)``."""
        along1, along0, kernel = self._products
        spectrum = _multiplied(along1, coils)
        spectrum = _multiplied(along0, spectrum.mT) * kernel
        # The transposed matrix of blocks is the conjugate transpose of the complex one.
        spectrum = _multiplied(along0.mT, spectrum)
        return _multiplied(along1.mT, spectrum.mT).unsqueeze(3)


def _multiplied(matrix: torch.Tensor, coils: torch.Tensor) -> torch.Tensor:
    """A matrix of blocks ``(2 m, 2 n)`` times ``(B, coil, 2, n, columns)``: ``(B, coil, 2, m, columns)``."""
    product = torch.matmul(matrix, coils.flatten(2, 3))
    return product.reshape(*product.shape[:2], 2, -1, product.shape[-1])
