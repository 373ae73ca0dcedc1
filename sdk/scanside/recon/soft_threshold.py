"""Soft thresholds: the proximal map of an L1 norm."""

from __future__ import annotations

import torch

__all__ = ["soft_threshold_"]


def soft_threshold_(values: torch.Tensor, threshold: float, joint: int | None = None) -> torch.Tensor:
    """Make magnitudes smaller by a threshold, those below it zero; in place.

    Args:
        values: complex, of any shape.
        threshold: at least 0.
        joint: an axis along which values have one magnitude together, their root sum of squares.
    """
    real, imaginary = torch.view_as_real(values).unbind(-1)
    power = torch.addcmul(real * real, imaginary, imaginary)
    if joint is not None:
        power = power.sum(joint, keepdim=True)
    least = max(threshold**2, torch.finfo(power.dtype).tiny)
    values *= power.clamp_(min=least).rsqrt_().mul_(-threshold).add_(1)
    return values
