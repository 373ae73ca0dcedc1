"""Structural similarity of magnitude images, differentiable, as scikit-image has it by default.

Wang et al., *Image quality assessment: from error visibility to structural similarity*, IEEE Trans Image Process
13:600 (2004), with a uniform 7 × 7 window and sample covariances: the same as `scanside.metrics.ssim`, but for many
images at once and without a fit of the scale. The Gaussian window is that of the paper.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch.nn.functional import avg_pool2d, conv2d
from torchmetrics.functional.image import multiscale_structural_similarity_index_measure

from scanside.errors import ShapeError
from scanside_training.losses.term import NetworkOf, Term, TermConfig, magnitude
from scanside_training.models.base import Batch

__all__ = ["GAUSSIAN", "UNIFORM", "MultiScaleSsimConfig", "SsimConfig", "Window", "ssim_map"]

_K1, _K2 = 0.01, 0.03
_SCALES = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)


@dataclass(frozen=True)
class Window:
    """Over which pixels SSIM takes means, variances and the covariance.

    Attributes:
        size: width and height in pixels, odd.
        sigma: of a Gaussian weight, whose variances are weighted ones; None weighs all pixels alike, and variances
            are those of samples, over n − 1.
    """

    size: int
    sigma: float | None = None

    @property
    def border(self) -> int:
        """Pixels at the edges that have no whole window."""
        return self.size // 2

    def mean(self, plane: torch.Tensor) -> torch.Tensor:
        """Means around the pixels of ``(B, 1, k1, k0)`` that have a whole window."""
        if self.sigma is None:
            return avg_pool2d(plane, self.size, stride=1)
        distance = torch.arange(self.size, dtype=plane.dtype, device=plane.device) - self.border
        weights = torch.exp(-0.5 * (distance / self.sigma).square())
        weights = weights / weights.sum()
        return conv2d(conv2d(plane, weights.view(1, 1, -1, 1)), weights.view(1, 1, 1, -1))

    @property
    def unbiased(self) -> float:
        """What variances are multiplied by."""
        return self.size**2 / (self.size**2 - 1) if self.sigma is None else 1.0


UNIFORM = Window(7)
"""As scikit-image and fastMRI have it."""
GAUSSIAN = Window(11, 1.5)
"""As the paper has it."""


class SsimConfig(TermConfig):
    """1 − SSIM of the magnitudes; the peak is the maximum of each target."""

    kind: Literal["ssim"] = "ssim"

    def build(self, network_of: NetworkOf) -> Term:
        """The term."""
        return _Ssim()


class MultiScaleSsimConfig(TermConfig):
    """1 − SSIM over several scales: on each, the image is halved before the structure is compared again.

    Wang et al., *Multiscale structural similarity for image quality assessment*, Asilomar 2003; computed by
    torchmetrics, with a Gaussian window of 11 pixels. The peak is the maximum of each target.

    Attributes:
        scales: how many; images are at least ``11 · 2**(scales − 1)`` pixels wide and high.
    """

    by_pixel: ClassVar = False

    kind: Literal["ms-ssim"] = "ms-ssim"
    scales: int = Field(3, ge=1, le=5)

    def build(self, network_of: NetworkOf) -> Term:
        """The term."""
        return _MultiScaleSsim(self)


class _Ssim(Term):
    def forward(self, output: torch.Tensor, target: torch.Tensor, batch: Batch) -> torch.Tensor:
        reference = magnitude(target)
        peak = reference.amax(dim=(1, 2, 3))
        # A target without signal has no scale of its own.
        peak = torch.where(peak > 0, peak, torch.ones_like(peak))
        return 1 - ssim_map(magnitude(output), reference, peak)


class _MultiScaleSsim(Term):
    def __init__(self, config: MultiScaleSsimConfig) -> None:
        super().__init__()
        weights = _SCALES[: config.scales]
        self.weights = tuple(weight / sum(weights) for weight in weights)

    def forward(self, output: torch.Tensor, target: torch.Tensor, batch: Batch) -> torch.Tensor:
        least = GAUSSIAN.size * 2 ** (len(self.weights) - 1)
        if min(output.shape[-2:]) < least:
            raise ShapeError(
                f"'ms-ssim' of {len(self.weights)} scales needs images of at least {least} × {least}, got "
                f"{tuple(output.shape[-2:])}: lower its scales"
            )
        image, reference = magnitude(output), magnitude(target)
        similar = []
        for one, truth in zip(image, reference, strict=True):  # each has a peak of its own
            peak = float(truth.max()) or 1.0
            similar.append(
                multiscale_structural_similarity_index_measure(
                    one[None], truth[None], data_range=peak, betas=self.weights, normalize="relu"
                )
            )
        return (1 - torch.stack(similar)).view(-1, 1, 1, 1)


def ssim_map(
    image: torch.Tensor, reference: torch.Tensor, peak: torch.Tensor, window: Window = UNIFORM
) -> torch.Tensor:
    """Structural similarity around every pixel whose window lies within the image.

    Args:
        image: ``(B, 1, k1, k0)`` magnitudes.
        reference: the same.
        peak: ``(B,)`` largest value that a pixel can have, positive.
        window: over which pixels.

    Returns:
        ``(B, 1, k1 − 6, k0 − 6)``, or as many less as the window has less one.

    Raises:
        ShapeError: the images are smaller than the window.
    """
    if min(image.shape[-2:]) < window.size:
        raise ShapeError(
            f"SSIM needs images of at least {window.size} × {window.size}, got {tuple(image.shape[-2:])}"
        )
    c1, c2 = ((k * peak.view(-1, 1, 1, 1)).square() for k in (_K1, _K2))
    # Covariances do not change with an offset; without the mean, fewer digits cancel in them.
    offset = reference.mean(dim=(1, 2, 3), keepdim=True).detach()
    a, b = image - offset, reference - offset
    mean_a, mean_b, square_a, square_b, product = (
        window.mean(plane) for plane in (a, b, a * a, b * b, a * b)
    )
    variances = window.unbiased * (square_a - mean_a.square() + square_b - mean_b.square())
    covariance = window.unbiased * (product - mean_a * mean_b)
    mean_a, mean_b = mean_a + offset, mean_b + offset
    luminance = (2 * mean_a * mean_b + c1) / (mean_a.square() + mean_b.square() + c1)
    return luminance * (2 * covariance + c2) / (variances + c2)
