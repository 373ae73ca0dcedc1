"""What PSNR, SSIM and NMSE mean, by the name of the tool or paper that means it so.

Zbontar et al., *fastMRI: an open dataset and benchmarks for accelerated MRI*, arXiv:1811.08839 (2018), and its
``fastmri.evaluate``; Wang et al., *Image quality assessment: from error visibility to structural similarity*, IEEE
Trans Image Process 13:600-612 (2004).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

from scanside_training.losses.ssim import GAUSSIAN, UNIFORM, Window

__all__ = ["DEFINITIONS", "Definition", "DefinitionName"]

DefinitionName: TypeAlias = Literal["scanside", "fastmri", "wang"]


@dataclass(frozen=True)
class Definition:
    """How images are compared.

    Attributes:
        name: in configurations.
        fit: whether images are first multiplied by the factor that brings them closest to the reference.
        window: of SSIM.
    """

    name: DefinitionName
    fit: bool
    window: Window

    @property
    def described(self) -> str:
        """All parameters in words."""
        fit = (
            "after the best scalar fit of the magnitudes"
            if self.fit
            else "of magnitudes as they are, without a fit"
        )
        size, sigma = self.window.size, self.window.sigma
        window = (
            f"uniform window {size} × {size}, sample covariances"
            if sigma is None
            else f"Gaussian window {size} × {size}, σ = {sigma:g}, weighted covariances"
        )
        return (
            f"Definition '{self.name}': {fit}; the peak of PSNR and SSIM is the maximum of the reference, of a "
            f"volume that of all its slices; SSIM with K₁ = 0.01, K₂ = 0.03, {window}, where the window lies within "
            "the image; NMSE is the sum of squared errors over the sum of squares of the reference"
        )


DEFINITIONS: dict[DefinitionName, Definition] = {
    "scanside": Definition("scanside", fit=True, window=UNIFORM),
    "fastmri": Definition("fastmri", fit=False, window=UNIFORM),
    "wang": Definition("wang", fit=False, window=GAUSSIAN),
}
