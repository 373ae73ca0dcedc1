"""Voxels as 16 bits, with the slope and intercept that lead back, and a window to look at them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from scanside.errors import NonFiniteError

__all__ = ["GreyScale", "Stored"]

_LARGEST = 65535
_MIDDLE = 32768
_HEADROOM = 2.0
"""A series' later images may be this much brighter than its first before their scale changes."""


@dataclass(frozen=True, slots=True, eq=False)
class Stored:
    """An image's voxels as they are stored: value = slope · stored + intercept.

    Attributes:
        values: uint16, shaped like the image.
        slope: positive.
        intercept: value of a stored zero.
        window: centre and width of what is to be seen, in rescaled values.
    """

    values: npt.NDArray[np.uint16]
    slope: float
    intercept: float
    window: tuple[float, float]


class GreyScale:
    """The scale of one series.

    The first image that is not empty sets the slope, 1, 2 or 5 times a power of ten, so that it is written without
    rounding; later images keep it, so that viewers which know no slope (it is no part of the classic MR image) show
    them alike, until one would not fit. Phases have one scale for all. Images that come as uint16 stay as they are.
    """

    def __init__(self) -> None:
        self._slope = 0.0

    def stored(
        self, data: npt.NDArray[Any], *, phase: bool = False, slope: float = 1.0, intercept: float = 0.0
    ) -> Stored:
        """Voxels of an image in 16 bits.

        Args:
            data: real, of any shape.
            phase: they are angles in radians.
            slope: of an image that is uint16 already.
            intercept: of an image that is uint16 already.

        Raises:
            NonFiniteError: NaN or infinite values.
        """
        if data.dtype == np.uint16:
            return _with_window(data, slope, intercept)
        values = data.astype(np.float64)
        if not np.isfinite(values).all():
            raise NonFiniteError("an image holds NaN or infinite values, which DICOM cannot store as grey")
        largest, smallest = float(values.max(initial=0)), float(values.min(initial=0))
        if phase and max(largest, -smallest) <= math.pi * (1 + 1e-6):
            slope, intercept = math.pi / _MIDDLE, -math.pi
            return Stored(_rounded(values, slope, intercept), slope, intercept, (0.0, 2 * math.pi))
        if smallest < 0:
            slope = self._at_least(max(largest / (_MIDDLE - 1), -smallest / _MIDDLE))
            intercept = -_MIDDLE * slope  # zero stays zero
        else:
            slope, intercept = self._at_least(largest / _LARGEST), 0.0
        return _with_window(_rounded(values, slope, intercept), slope, intercept)

    def _at_least(self, needed: float) -> float:
        if needed == 0 and self._slope == 0:
            return 1.0  # of an empty image nothing can be learned
        if needed > self._slope:
            self._slope = _round_up(_HEADROOM * needed)
        return self._slope


def _round_up(value: float) -> float:
    """The next larger of 1, 2, 5, 10, 20, …"""
    exponent = math.floor(math.log10(value))
    for digit in (1, 2, 5, 10):
        # Read from decimal digits: a product would not be the number that is written.
        rounded = float(f"{digit}e{exponent}")
        if rounded >= value:
            return rounded
    return float(f"2e{exponent + 1}")


def _rounded(values: npt.NDArray[np.float64], slope: float, intercept: float) -> npt.NDArray[np.uint16]:
    return np.clip(np.rint((values - intercept) / slope), 0, _LARGEST).astype(np.uint16)


def _with_window(values: npt.NDArray[np.uint16], slope: float, intercept: float) -> Stored:
    """From the first hundredth of the voxels to all but the brightest two hundredths of a percent."""
    dark, bright = np.percentile(values, (1.0, 99.8)) if values.size else (0.0, 1.0)
    width = max(bright - dark, 1.0)
    centre = slope * (dark + width / 2) + intercept
    return Stored(values, slope, intercept, (centre, slope * width))
