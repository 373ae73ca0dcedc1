"""The measures of a phantom image."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from scanside.qa.phantom import Mask, Phantom, Real

__all__ = ["ghosting_ratio", "ghosting_rois", "noise_of_pairs", "piu"]

_SPOT_MM2 = 100.0
"""Area of the small region of the uniformity test, 1 cm²."""


def noise_of_pairs(images: Sequence[npt.ArrayLike], roi: Mask) -> float:
    """Standard deviation of the noise from images that differ in nothing else.

    Method 1 of NEMA MS 1-2008 (and AAPM report 100): the standard deviation of the difference of two images, over √2;
    for more than two images, the root mean square over neighbouring pairs. Slow drifts of the signal cancel, and it
    holds for any coil combination and for parallel imaging, whose noise varies over the image.

    Args:
        images: ``(y, x)`` magnitudes, two or more.
        roi: ``(y, x)``, where the signal is far above the noise.
    """
    variances = [
        float((np.asarray(one, float) - np.asarray(other, float))[roi].var(ddof=1)) / 2
        for one, other in pairwise(images)
    ]
    return float(np.sqrt(np.mean(variances)))


def piu(phantom: Phantom) -> float:
    """Percent integral uniformity, 100 for a phantom of one signal.

    ``100 (1 − (high − low) / (high + low))`` with the highest and the lowest mean over 1 cm² within the large region
    (ACR phantom test guidance, image intensity uniformity; NEMA MS 3-2008).
    """
    side = np.sqrt(_SPOT_MM2)
    size = tuple(max(1, round(side / pixel)) for pixel in phantom.pixel_mm)
    inside = phantom.roi()
    n = _window_sum(np.ones(phantom.image.shape), size)
    whole = _window_sum(inside.astype(np.float64), size) == n
    means = (_window_sum(phantom.image, size) / n)[whole]
    low, high = float(means.min()), float(means.max())
    return 100 * (1 - (high - low) / (high + low))


def ghosting_rois(phantom: Phantom) -> dict[str, Mask] | None:
    """Regions in the air before, behind and beside the phantom; None where there is too little air.

    Each is as long as the phantom's radius and fills the middle 60 % of the gap between phantom and edge.
    """
    rois = {}
    shape = phantom.image.shape
    radius = [phantom.radius_mm / size for size in phantom.pixel_mm]
    for name, axis, first in (("top", 0, True), ("bottom", 0, False), ("left", 1, True), ("right", 1, False)):
        center, other = phantom.center[axis], phantom.center[1 - axis]
        near = center - radius[axis] if first else shape[axis] - 1 - center - radius[axis]
        begin, end = round(0.2 * near), round(0.8 * near)
        if end - begin < 3:
            return None
        across = slice(begin, end) if first else slice(shape[axis] - end, shape[axis] - begin)
        along = slice(max(0, round(other - radius[1 - axis] / 2)), round(other + radius[1 - axis] / 2) + 1)
        roi = np.zeros(shape, bool)
        roi[(across, along) if axis == 0 else (along, across)] = True
        rois[name] = roi
    return rois


def ghosting_ratio(phantom: Phantom) -> float | None:
    """Percent-signal ghosting as a fraction: ``|(top + bottom) − (left + right)| / (2 · phantom)``.

    Means over regions in the air along the phase-encoding direction (y), in which ghosts lie, against those along the
    readout: the floor of noise in magnitude images cancels (ACR phantom test guidance, percent-signal ghosting). A
    ghost that is not far above the noise comes out too weak, as the floor lies beneath the others only.

    Returns:
        None where there is too little air around the phantom.
    """
    rois = ghosting_rois(phantom)
    if rois is None:
        return None
    mean = {name: float(phantom.image[roi].mean()) for name, roi in rois.items()}
    signal = float(phantom.image[phantom.roi()].mean())
    return abs(mean["top"] + mean["bottom"] - mean["left"] - mean["right"]) / (2 * signal)


def _window_sum(image: Real, size: tuple[int, ...]) -> Real:
    """Sum over a window about every pixel; pixels beyond the image count as 0."""
    height, width = size
    padded = np.pad(image, ((height // 2, height - 1 - height // 2), (width // 2, width - 1 - width // 2)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (height, width))
    return np.asarray(windows.sum(axis=(-2, -1)))
