"""The scale of an image, by which networks see scans of any gain alike."""

from __future__ import annotations

import torch

from scanside.errors import ShapeError

__all__ = ["image_scale"]


def image_scale(image: torch.Tensor, quantile: float = 0.99) -> torch.Tensor:
    """The magnitude below which a share of the pixels lies.

    Unlike the maximum it does not hang on one bright pixel, and unlike the mean hardly on how much air there is.

    Args:
        image: ``(*, y, x)``, complex or real.
        quantile: the share.

    Returns:
        ``(*)`` the scale, 1 where it would be 0: an empty image stays one.

    Raises:
        ShapeError: the image is empty or has no two axes.
    """
    if image.ndim < 2 or not image.numel():
        raise ShapeError(f"the scale of an image (*, y, x) was asked for, got the shape {tuple(image.shape)}")
    magnitude = image.abs().flatten(-2)
    rank = max(1, round(quantile * magnitude.shape[-1]))
    scale = magnitude.kthvalue(rank, dim=-1).values
    return torch.where(scale > 0, scale, torch.ones_like(scale))
