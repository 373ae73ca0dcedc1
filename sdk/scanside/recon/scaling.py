"""The scale of an image, by which networks see scans of any gain alike."""

from __future__ import annotations

import torch

from scanside.errors import ShapeError

__all__ = ["film_scale", "image_scale"]


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


def film_scale(film: torch.Tensor, quantile: float = 0.99) -> torch.Tensor:
    """The scale of a film: that of the root mean square of its frames, one for all of them.

    Args:
        film: ``(*, time, y, x)``, complex or real.
        quantile: the share, as `image_scale` has it.

    Returns:
        ``(*)`` the scale, 1 where it would be 0.

    Raises:
        ShapeError: the film is empty or has no three axes.
    """
    if film.ndim < 3 or not film.numel():
        raise ShapeError(
            f"the scale of a film (*, time, y, x) was asked for, got the shape {tuple(film.shape)}"
        )
    return image_scale(film.abs().square().mean(-3).sqrt(), quantile)
