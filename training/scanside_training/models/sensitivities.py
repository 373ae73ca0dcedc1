"""Coil maps by a network that is trained with the reconstruction.

Sriram et al., *End-to-end variational networks for accelerated MRI reconstruction*, MICCAI 2020.
"""

from __future__ import annotations

import torch
from pydantic import Field
from torch import nn

from scanside_training.models.base import PartConfig
from scanside_training.models.unet import UnetBody

__all__ = ["SensitivityConfig", "SensitivityNetwork"]


class SensitivityConfig(PartConfig):
    """Settings.

    Attributes:
        channels: features of the U-Net at full resolution.
        pools: how often it halves the image.
    """

    channels: int = Field(8, ge=1)
    pools: int = Field(3, ge=1, le=6)


class SensitivityNetwork(nn.Module):
    """One U-Net for all coils, which sees one coil at a time; any number of coils will do."""

    def __init__(self, config: SensitivityConfig) -> None:
        super().__init__()
        self.body = UnetBody(2, 2, config.channels, config.pools)

    def forward(self, calibration: torch.Tensor) -> torch.Tensor:
        """From coil images of the calibration lines to maps with ``Σ|S|² = 1``, both ``(B, coil, 2, k1, k0)``."""
        images = unit_sum_of_squares(calibration)
        correction: torch.Tensor = self.body(images.flatten(0, 1)).unflatten(0, images.shape[:2])
        return unit_sum_of_squares(images + correction)


def unit_sum_of_squares(coils: torch.Tensor) -> torch.Tensor:
    """Scale ``(B, coil, 2, k1, k0)`` so that the coils' squares add up to 1 in each pixel."""
    return coils * torch.rsqrt(coils.square().sum((1, 2), keepdim=True) + 1e-12)
