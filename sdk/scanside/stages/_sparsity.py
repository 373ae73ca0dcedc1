"""What the stages of compressed sensing have in common: weights relative to the image, and how it went."""

from __future__ import annotations

from collections.abc import Callable

import torch
from pydantic import Field, model_validator

from scanside.mrd.meta import Meta
from scanside.recon.compressed_sensing.pics import Penalties, image_wavelet, pics
from scanside.recon.scaling import film_scale, image_scale
from scanside.recon.wavelet import WaveletName
from scanside.scan import Scan
from scanside.stage import StageConfig

__all__ = ["SparsityConfig", "brightness", "sparse_image"]


class SparsityConfig(StageConfig):
    """Settings of every such stage.

    Weights are relative to the brightness of the zero-filled image ``Aᴴ y``, the 99th percentile of its magnitude, so
    that they do not depend on the gain of a scan or the size of its matrix. BART's ``pics`` has a scale of its own,
    which it prints as "Scaling": its weight r is r × Scaling / brightness here.

    Attributes:
        wavelet: weight of the magnitudes of wavelet coefficients.
        tv: weight of total variation in space. Takes more iterations than wavelets alone.
        family: which wavelet of Daubechies'; BART's is ``db2``, too.
        shifts: of how many shifted wavelet transforms the mean is taken, 1, 2, 4 or 8: more of them leave no blocks
            and take longer.
        tolerance: it stops when the image changes by less than this part of itself.
        max_iterations: where it stops anyway.
    """

    wavelet: float = Field(0.002, ge=0)
    tv: float = Field(0.0, ge=0)
    family: WaveletName = "db2"
    shifts: int = Field(4, ge=1, le=8)
    tolerance: float = Field(2e-3, gt=0, lt=1)
    max_iterations: int = Field(100, ge=1)

    @model_validator(mode="after")
    def _possible(self) -> SparsityConfig:
        if self.shifts & (self.shifts - 1):
            raise ValueError(f"shifts must be 1, 2, 4 or 8, got {self.shifts}")
        if not any(self.weights):
            raise ValueError(
                "all weights are 0: compressed sensing needs a penalty, and without one this is 'sense' or "
                "'noncartesian-sense'"
            )
        return self

    @property
    def weights(self) -> tuple[float, ...]:
        """Those of all penalties."""
        return self.wavelet, self.tv


def brightness(image: torch.Tensor, *, film: bool = False) -> float:
    """By what weights are multiplied, of an image ``(*, z, y, x)`` or of a film ``(time, z, y, x)``."""
    return float(film_scale(image.flatten(-3, -2)) if film else image_scale(image.flatten(0, -2)))


def sparse_image(
    scan: Scan,
    stage: str,
    config: SparsityConfig,
    normal: Callable[[torch.Tensor], torch.Tensor],
    right: torch.Tensor,
    meta: Meta,
    *,
    lipschitz: float,
    temporal_tv: float = 0.0,
    noise_weight: float = 0.0,
    film: bool = False,
) -> torch.Tensor:
    """Solve, and tell how it went.

    Args:
        scan: is told of an image that has not converged.
        stage: its name.
        config: of the stage.
        normal: ``Aᴴ A``.
        right: ``Aᴴ y``, finite: images ``(*, z, y, x)``, or a film ``(time, z, y, x)``.
        meta: is told the number of iterations, and the weight of wavelets where the noise raised it.
        lipschitz: at least the largest eigenvalue of ``Aᴴ A``.
        temporal_tv: relative weight of total variation along time.
        noise_weight: relative weight that wavelets have at least.
        film: whether the first axis is time.

    Returns:
        The image, of the shape of `right`.

    Raises:
        ShapeError: the wavelet does not fit the matrix.
    """
    weight = max(config.wavelet, noise_weight)
    scale = brightness(right, film=film)
    penalties = Penalties(weight * scale, config.tv * scale, temporal_tv * scale)
    wavelet = None
    if weight:
        size = right.shape if film else right.shape[-3:]
        wavelet = image_wavelet(size, config.family, film=film)
    result = pics(
        normal,
        right,
        penalties,
        wavelet=wavelet,
        film=film,
        shifts=config.shifts,
        lipschitz=lipschitz,
        tolerance=config.tolerance,
        max_iterations=config.max_iterations,
    )
    if not result.converged:
        scan.warn(
            f"compressed sensing stopped after {result.iterations} iterations while the image still changed by "
            f"{float(result.changes[-1]):.2g} of itself: raise {stage}.max_iterations or {stage}.tolerance"
        )
    meta["PicsIterations"] = [*meta.get("PicsIterations", []), str(result.iterations)]
    if noise_weight > config.wavelet:
        meta["PicsWeight"] = [f"{weight:.3g}"]
    return result.solution
