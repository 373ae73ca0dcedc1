"""How two images of the same k-space differ."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from scanside.errors import ShapeError
from scanside.items import Image
from scanside.metrics import nrmse, psnr, ssim

__all__ = ["COUNTERS", "Comparison", "compare", "counters_of", "magnitudes"]

COUNTERS = ("average", "slice", "contrast", "phase", "repetition", "set")

_TOLD = {
    "engine": "ScansideEngine",
    "weights": "ScansideWeights",
    "backend": "ScansideBackend",
    "fallback": "ScansideFallback",
    "data_consistency": "ScansideDataConsistency",
    "residual": "SenseResidual",
    "fitness": "ScansideFitness",
    "check": "ScansideCheck",
}
"""What the images say of their making, and of how far they are from the acquired lines."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """The image beside compared with the one that was shown, after the scalar fit of `scanside.metrics`.

    Attributes:
        nrmse: root mean square difference relative to the shown image's root mean square.
        psnr_db: peak signal-to-noise ratio; None where they are equal.
        ssim: structural similarity, mean over the slices; None for images smaller than its window.
        counters: which image of the scan it is.
        shown: what the shown image says of its making.
        beside: what the other one says of its making.
    """

    nrmse: float
    psnr_db: float | None
    ssim: float | None
    counters: dict[str, int]
    shown: dict[str, list[str]]
    beside: dict[str, list[str]]

    def record(self) -> dict[str, Any]:
        """As a JSON object."""
        return {
            "nrmse": self.nrmse,
            "psnr_db": self.psnr_db,
            "ssim": self.ssim,
            "counters": self.counters,
            "shown": self.shown,
            "beside": self.beside,
        }


def compare(shown: Image, beside: Image) -> Comparison:
    """Compare two images of the same k-space; the first is the reference.

    Raises:
        ShapeError: they differ in shape.
        NonFiniteError: one holds NaN or infinite values.
    """
    reference, image = magnitudes(shown), magnitudes(beside)
    if reference.shape != image.shape:
        raise ShapeError(
            f"the image beside has shape {image.shape}, the shown one {reference.shape}: let both branches end in "
            "the same recon space, with 'finish'"
        )
    if not reference.any():
        return Comparison(float(image.any()), None, None, counters_of(shown), _told(shown), _told(beside))
    ratio = psnr(image, reference)
    similar = None
    if min(reference.shape[-2:]) >= 7:
        planes = zip(
            image.reshape(-1, *image.shape[-2:]), reference.reshape(-1, *image.shape[-2:]), strict=True
        )
        found = [ssim(one, other) for one, other in planes if other.any()]
        similar = float(np.mean(found))
    return Comparison(
        nrmse=nrmse(image, reference),
        psnr_db=ratio if math.isfinite(ratio) else None,
        ssim=similar,
        counters=counters_of(shown),
        shown=_told(shown),
        beside=_told(beside),
    )


def magnitudes(image: Image) -> npt.NDArray[np.float32]:
    """Magnitudes ``(channel, z, y, x)`` in memory of their own."""
    found: npt.NDArray[np.float32] = np.abs(image.data.detach().cpu().numpy()).astype(np.float32)
    return found


def counters_of(image: Image) -> dict[str, int]:
    """Which image of the scan it is."""
    return {name: int(image.header[name]) for name in COUNTERS}


def _told(image: Image) -> dict[str, list[str]]:
    return {key: list(image.meta[name]) for key, name in _TOLD.items() if name in image.meta}
