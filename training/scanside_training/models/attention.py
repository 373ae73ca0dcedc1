"""Attention to channels and places: Woo et al., *CBAM: convolutional block attention module*, ECCV 2018."""

from __future__ import annotations

import torch
from torch import nn

__all__ = ["BlockAttention"]

_REDUCTION = 8
_KERNEL = 7


class BlockAttention(nn.Module):
    """Weighs the channels of features by what they hold in the whole image, then the places by what is there.

    Args:
        channels: of the features.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        few = max(channels // _REDUCTION, 2)
        self.channel = nn.Sequential(
            nn.Conv2d(channels, few, 1, bias=False), nn.ReLU(), nn.Conv2d(few, channels, 1, bias=False)
        )
        self.place = nn.Conv2d(2, 1, _KERNEL, padding=_KERNEL // 2, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """``(B, channels, y, x)`` to the same."""
        # Sums, not means: exported to ONNX, the axes of a mean are computed, which TensorRT's parser refuses.
        average = x.sum((2, 3), keepdim=True) / (x.shape[2] * x.shape[3])
        largest = x.amax((2, 3), keepdim=True)
        x = x * (self.channel(average) + self.channel(largest)).sigmoid()
        places = torch.cat((x.sum(1, keepdim=True) / x.shape[1], x.amax(1, keepdim=True)), dim=1)
        attended: torch.Tensor = x * self.place(places).sigmoid()
        return attended
