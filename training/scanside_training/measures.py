"""How far reconstructions are from the truth: MSE, NMSE, PSNR and SSIM, per slice and volume, whole and in regions.

Images are compared as magnitudes, by default after the best scalar fit, as `scanside.metrics` does it; for one slice
PSNR and SSIM are the same as there.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torchmetrics import Metric

from scanside.errors import ScanError, ShapeError
from scanside.metrics import Mask, Real, fitted
from scanside_training.losses import magnitude, ssim_map
from scanside_training.losses.ssim import UNIFORM, Window
from scanside_training.models.base import Batch
from scanside_training.models.frames import as_images

__all__ = ["Measures", "ReconstructionMeasures", "measure", "measure_slices"]


class Measures(NamedTuple):
    """How far an image is from a reference.

    Attributes:
        mse: mean squared error, in the square of the reference's unit.
        nmse: sum of squared errors over the sum of the reference's squares.
        psnr: peak signal-to-noise ratio in dB, infinite for equal images.
        ssim: mean structural similarity, 1 for equal images.
    """

    mse: float
    nmse: float
    psnr: float
    ssim: float


def measure(
    image: npt.ArrayLike,
    reference: npt.ArrayLike,
    where: Mask | None = None,
    *,
    fit: bool = True,
    window: Window = UNIFORM,
) -> Measures:
    """Compare a slice, or a volume as one: with one fit, and one peak, which is the reference's maximum.

    Args:
        image: ``(y, x)`` or ``(z, y, x)``, real or complex, slices of at least 7 × 7.
        reference: the same shape.
        where: the pixels that count, same shape, by default all. Those of SSIM have their window within the slice.
            The fit looks at them only; the peak lies anywhere.
        fit: multiply the image by the factor that brings it closest to the reference.
        window: of SSIM.

    Raises:
        ShapeError: the shapes differ, do not fit, or no pixel counts.
        NonFiniteError: a value is NaN or infinite.
        ScanError: the reference is zero wherever it counts.
    """
    shape = np.shape(reference)
    inside = np.ones(shape, dtype=np.bool_) if where is None else where
    if inside.shape != shape or len(shape) not in (2, 3):
        raise ShapeError(
            f"an image of {shape} with a region of {inside.shape}: both must be (y, x) or (z, y, x)"
        )
    scaled, truth = fitted(image, reference, inside)
    if not fit:
        scaled = np.abs(np.asarray(image)).astype(np.float64)
    similarity = _similarity(scaled, truth, window)
    border = window.border
    with_window = inside[..., border:-border, border:-border]
    if not with_window.any():
        raise ShapeError(
            f"no pixel of the region lies {border} or more from the edges: SSIM needs some that do"
        )
    energy = float((truth[inside] ** 2).mean())
    if not energy:
        raise ScanError("the reference is zero wherever it counts: leave such slices out")
    mse = float(((scaled - truth)[inside] ** 2).mean())
    psnr = float(10 * np.log10(truth.max() ** 2 / mse)) if mse else float("inf")
    return Measures(mse, mse / energy, psnr, float(similarity[with_window].mean()))


def measure_slices(
    image: npt.ArrayLike, reference: npt.ArrayLike, where: Mask | None = None, *, fit: bool = True
) -> list[Measures]:
    """Compare a volume slice by slice, each with its own fit and its own peak.

    Args:
        image: ``(z, y, x)``, real or complex.
        reference: the same shape.
        where: the pixels that count, same shape, by default all.
        fit: as `measure` has it.

    Raises:
        ShapeError: as `measure` does.
        NonFiniteError: a value is NaN or infinite.
        ScanError: a slice of the reference is zero wherever it counts.
    """
    slices, references = np.asarray(image), np.asarray(reference)
    if slices.shape != references.shape or slices.ndim != 3:
        raise ShapeError(f"volumes of {slices.shape} and {references.shape}: both must be (z, y, x)")
    regions = [None] * len(slices) if where is None else list(where)
    return [measure(a, b, r, fit=fit) for a, b, r in zip(slices, references, regions, strict=True)]


def _similarity(image: Real, reference: Real, window: Window) -> Real:
    """SSIM around every pixel with a whole window; the peak is that of all slices."""
    a, b = (torch.from_numpy(array.reshape(-1, 1, *array.shape[-2:])) for array in (image, reference))
    peak = torch.full((len(b),), max(float(reference.max()), np.finfo(np.float64).tiny), dtype=torch.float64)
    similarity = ssim_map(a, b, peak, window).numpy()
    return similarity.reshape(*image.shape[:-2], *similarity.shape[-2:])


class ReconstructionMeasures(Metric):
    """Mean and standard deviation over the slices of a validation, whole and inside the region of interest.

    Frames of films count as slices.

    What is added up is summed over processes, so that every rank computes the same figures. Slices whose target is
    zero are left out, and from the figures inside also those without a region.

    Args:
        fit: as `measure` has it.
        **settings: of `torchmetrics.Metric`.
    """

    full_state_update = False
    higher_is_better = None
    is_differentiable = False

    moments: torch.Tensor

    def __init__(self, *, fit: bool = True, **settings: Any) -> None:
        super().__init__(**settings)
        self.fit = fit
        # (whole or inside; count, sum, sum of squares; measure): with float64, squares of dB leave digits enough.
        self.add_state(
            "moments",
            torch.zeros(2, 3, len(Measures._fields), dtype=torch.float64),
            dist_reduce_fx="sum",
        )

    def update(self, output: torch.Tensor, batch: Batch) -> None:
        """Look at a batch.

        Args:
            output: ``(B, 1 or 2, k1, k0)``, or films ``(B, 1 or 2, time, k1, k0)``.
            batch: ``target`` like the output, and ``roi`` ``(B, 1, k1, k0)`` where there are regions.

        Raises:
            ShapeError: the shapes do not fit.
            NonFiniteError: a value is NaN or infinite.
        """
        output, batch = as_images(output, batch)
        images, targets = (
            magnitude(t.detach().double())[:, 0].cpu().numpy() for t in (output, batch["target"])
        )
        rois = batch["roi"][:, 0].cpu().numpy() > 0 if "roi" in batch else [None] * len(targets)
        for image, target, roi in zip(images, targets, rois, strict=True):
            if not target.any():
                continue
            self._add(0, measure(image, target, fit=self.fit))
            if roi is not None and _usable(roi, target):
                self._add(1, measure(image, target, roi, fit=self.fit))

    def compute(self) -> dict[str, torch.Tensor]:
        """Scalars: ``psnr``, ``psnr_std``, ``psnr_inside``, ``psnr_inside_std``, and the same for all measures.

        The figures inside are there if any slice had a region. The standard deviation is that of the slices seen.
        """
        figures = {}
        for suffix, (counts, sums, squares) in zip(("", "_inside"), self.moments, strict=True):
            if not counts[0]:
                continue
            means = sums / counts
            spreads = (squares / counts - means.square()).clamp_min(0).sqrt()
            for name, mean, spread in zip(Measures._fields, means, spreads, strict=True):
                figures[f"{name}{suffix}"] = mean
                figures[f"{name}{suffix}_std"] = spread
        return figures

    def _add(self, row: int, measures: Measures) -> None:
        values = self.moments.new_tensor(measures)
        self.moments[row] += torch.stack((torch.ones_like(values), values, values.square()))


def _usable(roi: Mask, target: Real) -> bool:
    """Whether a region has signal, and pixels that SSIM can look at."""
    border = UNIFORM.border
    return bool(target[roi].any() and roi[border:-border, border:-border].any())
