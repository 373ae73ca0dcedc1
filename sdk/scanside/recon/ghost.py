"""How strong a ghost is in an image of which nothing else is known."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

__all__ = ["ghost_level"]

_SHIFTS = (1 / 2, 1 / 4, 3 / 4)
_MARGIN = 2  # voxels about the object, in which its edges ring
_FEWEST = 16  # voxels that a region needs
_BINS = 256


def ghost_level(image: npt.ArrayLike) -> float | None:
    """Signal of the strongest Nyquist ghost as a share of the object's.

    The mean over where the object, shifted along phase encoding, would lie outside itself, minus the mean over the
    rest of the background, by the mean over the object. The difference takes away the floor of noise in magnitudes; a
    ghost that is not far above it comes out too weak.
    Shifts are half a field of view (single-shot EPI) and a quarter to either side (two shots, or R = 2); the largest
    counts. The object is what a threshold by Otsu's method leaves, with what it encloses along phase encoding.

    Giannelli, Diciotti, Tessa, Mascalchi: *Characterization of Nyquist ghost in EPI-fMRI acquisition sequences
    implemented on two clinical 1.5 T MR scanner systems*, J Appl Clin Med Phys 2010;11(4):170.

    Args:
        image: ``(y, x)`` magnitudes over the encoded field of view, phase encoding first.

    Returns:
        None where the object leaves too little background for every shift.
    """
    pixels = np.asarray(image, np.float64)
    if not pixels.any():
        return None
    bright = pixels > _otsu(pixels)
    # What lies between bright voxels of a column is object too: dark ventricles are no background.
    inside = np.logical_or.accumulate(bright, 0) & np.logical_or.accumulate(bright[::-1], 0)[::-1]
    outside = ~_grown(inside)
    signal = pixels[bright].mean()
    levels = []
    for shift in _SHIFTS:
        moved = np.roll(inside, round(shift * len(pixels)), axis=0)
        ghost, rest = outside & moved, outside & ~_grown(moved)
        if min(ghost.sum(), rest.sum()) >= _FEWEST:
            levels.append((pixels[ghost].mean() - pixels[rest].mean()) / signal)
    return max(0.0, float(max(levels))) if levels else None


def _grown(mask: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """A mask with a margin about it."""
    grown = mask.copy()
    for axis in (0, 1):
        for _ in range(_MARGIN):
            grown |= np.roll(grown, 1, axis) | np.roll(grown, -1, axis)
    return grown


def _otsu(pixels: npt.NDArray[np.float64]) -> float:
    """Half-way between dark and bright pixels, as Otsu parts them (IEEE Trans Syst Man Cybern 1979;9:62)."""
    counts, edges = np.histogram(pixels, _BINS)
    centers = (edges[1:] + edges[:-1]) / 2
    below = np.cumsum(counts)
    above = counts.sum() - below
    summed = np.cumsum(counts * centers)
    with np.errstate(divide="ignore", invalid="ignore"):
        dark, light = summed / below, (summed[-1] - summed) / above
        best = np.nanargmax(below * above * (light - dark) ** 2)
    return float(dark[best] + light[best]) / 2
