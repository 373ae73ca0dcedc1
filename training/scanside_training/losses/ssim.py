"""Structural similarity of magnitude images, differentiable, as scikit-image has it by default.

Wang et al., *Image quality assessment: from error visibility to structural similarity*, IEEE Trans Image Process
13:600 (2004), with a uniform 7 × 7 window and sample covariances: the same as `scanside.metrics.ssim`, but for many
images at once and without a fit of the scale.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch.nn.functional import avg_pool2d

from scanside.errors import ShapeError
from scanside_training.losses.term import NetworkOf, Term, TermConfig, magnitude
from scanside_training.models.base import Batch

__all__ = ["WINDOW", "SsimConfig", "ssim_map"]

WINDOW = 7
_K1, _K2 = 0.01, 0.03


class SsimConfig(TermConfig):
    """1 − SSIM of the magnitudes; the peak is the maximum of each target."""

    kind: Literal["ssim"] = "ssim"

    def build(self, network_of: NetworkOf) -> Term:
        """The term."""
        return _Ssim()


class _Ssim(Term):
    def forward(self, output: torch.Tensor, target: torch.Tensor, batch: Batch) -> torch.Tensor:
        reference = magnitude(target)
        peak = reference.amax(dim=(1, 2, 3))
        # A target without signal has no scale of its own.
        peak = torch.where(peak > 0, peak, torch.ones_like(peak))
        return 1 - ssim_map(magnitude(output), reference, peak)


def ssim_map(image: torch.Tensor, reference: torch.Tensor, peak: torch.Tensor) -> torch.Tensor:
    """Structural similarity around every pixel whose window lies within the image.

    Args:
        image: ``(B, 1, k1, k0)`` magnitudes.
        reference: the same.
        peak: ``(B,)`` largest value that a pixel can have, positive.

    Returns:
        ``(B, 1, k1 − 6, k0 − 6)``.

    Raises:
        ShapeError: the images are smaller than the window.
    """
    if min(image.shape[-2:]) < WINDOW:
        raise ShapeError(f"SSIM needs images of at least {WINDOW} × {WINDOW}, got {tuple(image.shape[-2:])}")
    c1, c2 = ((k * peak.view(-1, 1, 1, 1)).square() for k in (_K1, _K2))
    # Covariances do not change with an offset; without the mean, fewer digits cancel in them.
    offset = reference.mean(dim=(1, 2, 3), keepdim=True).detach()
    a, b = image - offset, reference - offset
    mean_a, mean_b, square_a, square_b, product = (
        avg_pool2d(plane, WINDOW, stride=1) for plane in (a, b, a * a, b * b, a * b)
    )
    unbiased = WINDOW**2 / (WINDOW**2 - 1)
    variances = unbiased * (square_a - mean_a.square() + square_b - mean_b.square())
    covariance = unbiased * (product - mean_a * mean_b)
    mean_a, mean_b = mean_a + offset, mean_b + offset
    luminance = (2 * mean_a * mean_b + c1) / (mean_a.square() + mean_b.square() + c1)
    return luminance * (2 * covariance + c2) / (variances + c2)
