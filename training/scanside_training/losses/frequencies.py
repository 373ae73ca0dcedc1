"""Errors of what changes fast, and errors in k-space."""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch.nn.functional import conv2d

from scanside.errors import ShapeError
from scanside_training.losses.term import NetworkOf, Term, TermConfig, magnitude
from scanside_training.models.base import Batch

__all__ = ["HighFrequencyConfig", "KSpaceConfig", "laplacian_of_gaussian"]

_SIGMA, _WINDOW = 1.5, 15


class HighFrequencyConfig(TermConfig):
    """Mean absolute difference of the magnitudes behind a Laplacian of Gaussian (σ = 1.5 pixels, 15 × 15).

    Its norm is the high-frequency error norm of Ravishankar & Bresler, IEEE TMI 30:1028-1041 (2011).
    """

    kind: Literal["high-frequency"] = "high-frequency"

    def build(self, network_of: NetworkOf) -> Term:
        """The term."""
        return _HighFrequency()


class KSpaceConfig(TermConfig):
    """Mean modulus of the difference in k-space, of an orthonormal transform.

    Attributes:
        radius_power: samples count by the power of their distance from the centre, which is 1 at the end of an axis;
            0 weighs all alike.
    """

    by_pixel: ClassVar = False

    kind: Literal["kspace"] = "kspace"
    radius_power: float = Field(0.0, ge=0)

    def build(self, network_of: NetworkOf) -> Term:
        """The term."""
        return _KSpace(self)


class _HighFrequency(Term):
    def forward(self, output: torch.Tensor, target: torch.Tensor, batch: Batch) -> torch.Tensor:
        return laplacian_of_gaussian(magnitude(output) - magnitude(target)).abs()


class _KSpace(Term):
    def __init__(self, config: KSpaceConfig) -> None:
        super().__init__()
        self.power = config.radius_power

    def forward(self, output: torch.Tensor, target: torch.Tensor, batch: Batch) -> torch.Tensor:
        difference = output - target
        planes = difference if difference.shape[1] == 2 else torch.cat((difference, 0 * difference), dim=1)
        spectrum = torch.fft.fft2(torch.complex(*planes.unbind(1)), norm="ortho")
        error = magnitude(torch.stack((spectrum.real, spectrum.imag), dim=1))
        if not self.power:
            return error
        k1, k0 = (2 * torch.fft.fftfreq(n, device=output.device) for n in output.shape[-2:])
        radius = (k1[:, None].square() + k0.square()).sqrt().to(error.dtype)
        weighted: torch.Tensor = error * radius**self.power
        return weighted


def laplacian_of_gaussian(image: torch.Tensor) -> torch.Tensor:
    """An image behind the filter, as SciPy's ``gaussian_laplace`` with σ = 1.5 cut off after 7 pixels has it.

    Args:
        image: ``(B, 1, k1, k0)``.

    Returns:
        ``(B, 1, k1 − 14, k0 − 14)``.

    Raises:
        ShapeError: the image is smaller than the filter.
    """
    if min(image.shape[-2:]) < _WINDOW:
        raise ShapeError(
            f"the filter for high frequencies needs images of at least {_WINDOW} × {_WINDOW}, got "
            f"{tuple(image.shape[-2:])}"
        )
    x = torch.arange(_WINDOW, dtype=image.dtype, device=image.device) - _WINDOW // 2
    smooth = torch.exp(-x.square() / (2 * _SIGMA**2))
    smooth = smooth / smooth.sum()
    curved = (x.square() / _SIGMA**4 - 1 / _SIGMA**2) * smooth
    kernel = torch.outer(curved, smooth) + torch.outer(smooth, curved)
    kernel = kernel - kernel.mean()  # cut off, it would not be quite blind to what is constant
    filtered: torch.Tensor = conv2d(image, kernel[None, None])
    return filtered
