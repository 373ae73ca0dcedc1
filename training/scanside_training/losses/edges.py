"""Errors of edges: the difference of Sobel gradients."""

from __future__ import annotations

from typing import Literal

import torch
from torch.nn.functional import conv2d

from scanside.errors import ShapeError
from scanside_training.losses.term import NetworkOf, Term, TermConfig, magnitude
from scanside_training.models.base import Batch

__all__ = ["EdgeConfig", "sobel"]


class EdgeConfig(TermConfig):
    """Mean length of the difference of the magnitudes' gradients, by Sobel's filters.

    The difference is that of vectors, so that an edge that points elsewhere counts as much as one of another height.
    """

    kind: Literal["edge"] = "edge"

    def build(self, network_of: NetworkOf) -> Term:
        """The term."""
        return _Edge()


class _Edge(Term):
    def forward(self, output: torch.Tensor, target: torch.Tensor, batch: Batch) -> torch.Tensor:
        # The filters are linear: the gradient of the difference is the difference of the gradients.
        return magnitude(sobel(magnitude(output) - magnitude(target)))


def sobel(image: torch.Tensor) -> torch.Tensor:
    """Gradient by Sobel's 3 × 3 filters, in units of the image per pixel.

    Args:
        image: ``(B, 1, k1, k0)``.

    Returns:
        ``(B, 2, k1 − 2, k0 − 2)``: along k1, along k0.

    Raises:
        ShapeError: the image is smaller than the filters.
    """
    if min(image.shape[-2:]) < 3:
        raise ShapeError(f"Sobel's filters need images of at least 3 × 3, got {tuple(image.shape[-2:])}")
    slope, smooth = image.new_tensor([-0.5, 0.0, 0.5]), image.new_tensor([0.25, 0.5, 0.25])
    kernels = torch.stack((torch.outer(slope, smooth), torch.outer(smooth, slope)))
    return conv2d(image, kernels.unsqueeze(1))
