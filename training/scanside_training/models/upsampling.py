"""Twice the size by a convolution and a re-ordering, which every engine has in every precision.

A transposed convolution of kernel 2 and stride 2 writes each pixel of its input into four pixels that no other one
reaches: it is a 1×1 convolution to four times the channels, which are moved to space (Shi et al., *Real-time single
image and video super-resolution*, CVPR 2016). TensorRT has no transposed convolution in bfloat16.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn
from torch.nn.functional import pixel_shuffle

__all__ = ["Upsampling", "renewed"]


class Upsampling(nn.Conv2d):
    """``(B, n_in, y, x)`` to ``(B, n_out, 2y, 2x)``: what a transposed convolution of kernel and stride 2 computes.

    Networks were trained with transposed convolutions before; their weights are taken too, and re-ordered when they
    are loaded. Fresh weights are those that such a layer would draw, so that a training can be done again.

    Args:
        n_in: channels.
        n_out: channels at twice the size.
    """

    def __init__(self, n_in: int, n_out: int) -> None:
        super().__init__(n_in, 4 * n_out, 1, bias=False)

    def reset_parameters(self) -> None:
        """Draw weights as a transposed convolution does."""
        drawn = torch.empty(self.in_channels, self.out_channels // 4, 2, 2)
        nn.init.kaiming_uniform_(drawn, a=math.sqrt(5))
        with torch.no_grad():
            self.weight.copy_(_of_convolution(drawn))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Apply the layer."""
        return pixel_shuffle(super().forward(x), 2)

    def renewed(self, weight: torch.Tensor) -> torch.Tensor:
        """This layer's weights, or what belongs to each of them, from either order."""
        earlier = (self.in_channels, self.out_channels // 4, 2, 2)
        return _of_convolution(weight) if tuple(weight.shape) == earlier else weight

    def _load_from_state_dict(
        self, state_dict: dict[str, torch.Tensor], prefix: str, *arguments: Any, **others: Any
    ) -> None:
        if (name := f"{prefix}weight") in state_dict:
            state_dict[name] = self.renewed(state_dict[name])
        super()._load_from_state_dict(state_dict, prefix, *arguments, **others)


def renewed(network: nn.Module, weights: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Weights of a network, those of earlier versions in today's order."""
    layers = {
        f"{name}.weight": module for name, module in network.named_modules() if isinstance(module, Upsampling)
    }
    return {
        name: layers[name].renewed(tensor) if name in layers else tensor for name, tensor in weights.items()
    }


def _of_convolution(transposed: torch.Tensor) -> torch.Tensor:
    """``(n_in, n_out, 2, 2)`` of a transposed convolution as ``(4 n_out, n_in, 1, 1)`` of one."""
    return transposed.permute(1, 2, 3, 0).reshape(-1, transposed.shape[0], 1, 1)
