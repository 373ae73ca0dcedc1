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
_MRAD = 1000.0
_ENOUGH = 100.0
"""Windows count in whole values (PS3.3 C.11.2.1.2.1): what an image shows has to span many."""


@dataclass(frozen=True, slots=True, eq=False)
class Stored:
    """An image's voxels as they are stored: unit · value = slope · stored + intercept.

    Attributes:
        values: uint16, shaped like the image.
        slope: positive.
        intercept: rescaled value of a stored zero.
        window: centre and width of what is to be seen, in rescaled values.
        unit: rescaled values are this many times those of the image, a power of 1000.
    """

    values: npt.NDArray[np.uint16]
    slope: float
    intercept: float
    window: tuple[float, float]
    unit: float


class GreyScale:
    """The scale of one series.

    The first image that is not empty sets the slope, 1, 2 or 5 times a power of ten, so that it is written without
    rounding; later images keep it, so that viewers which know no slope (it is no part of the classic MR image) show
    them alike, until one would not fit. It also sets the unit: images whose values are small are multiplied by 1000
    as often as it takes, because viewers cannot show windows that are narrower than 1. Images that come as uint16
    keep their stored values.

    Args:
        phase: the images are angles in radians; they have one scale for all series, in mrad.
    """

    def __init__(self, *, phase: bool = False) -> None:
        self._phase = phase
        self._slope = 0.0
        self._unit = 0.0

    def stored(self, data: npt.NDArray[Any], *, slope: float = 1.0, intercept: float = 0.0) -> Stored:
        """Voxels of an image in 16 bits.

        Args:
            data: real, of any shape.
            slope: of an image that is uint16 already: value = slope · stored + intercept.
            intercept: likewise.

        Raises:
            NonFiniteError: NaN or infinite values.
        """
        given = data.dtype == np.uint16
        values = data.astype(np.float64)
        if not np.isfinite(values).all():
            raise NonFiniteError("an image holds NaN or infinite values, which DICOM cannot store as grey")
        if given:
            values = values * slope + intercept
        largest, smallest = float(values.max(initial=0)), float(values.min(initial=0))
        unit = self._unit_for(max(largest, -smallest))
        if given:
            return _with_window(data, slope * unit, intercept * unit, unit)
        values, largest, smallest = values * unit, largest * unit, smallest * unit
        if self._phase and max(largest, -smallest) <= _MRAD * math.pi * (1 + 1e-6):
            slope, intercept = _MRAD * math.pi / _MIDDLE, -_MRAD * math.pi
            whole = (0.0, 2 * _MRAD * math.pi)
            return Stored(_rounded(values, slope, intercept), slope, intercept, whole, unit)
        if smallest < 0:
            slope = self._at_least(max(largest / (_MIDDLE - 1), -smallest / _MIDDLE))
            intercept = -_MIDDLE * slope  # zero stays zero
        else:
            slope, intercept = self._at_least(largest / _LARGEST), 0.0
        return _with_window(_rounded(values, slope, intercept), slope, intercept, unit)

    def _unit_for(self, largest: float) -> float:
        if self._phase:
            return _MRAD
        if not self._unit and largest > 0:
            exponent = max(math.ceil(math.log10(_ENOUGH / largest) / 3), 0)
            self._unit = float(f"1e{3 * exponent}")
        return self._unit or 1.0

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


def _with_window(values: npt.NDArray[np.uint16], slope: float, intercept: float, unit: float) -> Stored:
    """From the first hundredth of the voxels to all but the brightest two thousandths."""
    dark, bright = np.percentile(values, (1.0, 99.8)) if values.size else (0.0, 1.0)
    centre = slope * (dark + bright) / 2 + intercept
    return Stored(values, slope, intercept, (float(centre), max(float(slope * (bright - dark)), 1.0)), unit)
