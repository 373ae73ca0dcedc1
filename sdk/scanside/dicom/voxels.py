"""Voxels as 16 bits, how their values follow from what is stored, and a window to look at them.

The classic MR image has no modality LUT: viewers that keep to the standard apply the window to stored values, others
rescale first. So images are stored in a scale in which nothing is to be rescaled, and windows count stored values.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from scanside.errors import NonFiniteError

__all__ = ["GreyScale", "Stored"]

_UNSIGNED = (0, 65535)
_SIGNED = (-32768, 32767)
_HEADROOM = 2.0
"""A series' later images may be this much brighter than its first before their scale changes."""


@dataclass(frozen=True, slots=True, eq=False)
class Stored:
    """An image's voxels as they are stored: value = slope · stored + intercept.

    Attributes:
        values: uint16 or int16, shaped like the image.
        slope: positive.
        intercept: value of a stored zero.
        window: centre and width of what is to be seen, in stored values.
    """

    values: npt.NDArray[np.uint16] | npt.NDArray[np.int16]
    slope: float
    intercept: float
    window: tuple[float, float]

    @property
    def range(self) -> tuple[int, int]:
        """The smallest and the largest value that could be stored."""
        return _SIGNED if self.values.dtype == np.int16 else _UNSIGNED


class GreyScale:
    """The scale of one series.

    The first image that is not empty sets the slope, 1, 2 or 5 times a power of ten, so that it is written without
    rounding; later images keep it, so that they can be compared as they are shown, until one would not fit. Images
    that come as uint16 keep their stored values.

    Args:
        signed: values may be negative; stored zero is zero then. It becomes so with the first image that is negative
            somewhere.
        phase: the images are angles in radians; they have one scale for all series, in which the stored values are
            the whole circle.
    """

    def __init__(self, *, signed: bool = False, phase: bool = False) -> None:
        self._signed = signed or phase
        self._phase = phase
        self._slope = 0.0

    def stored(self, data: npt.NDArray[Any], *, slope: float = 1.0, intercept: float = 0.0) -> Stored:
        """Voxels of an image in 16 bits.

        Args:
            data: real, of any shape.
            slope: of an image that is uint16 already: value = slope · stored + intercept.
            intercept: likewise.

        Raises:
            NonFiniteError: NaN or infinite values.
        """
        if data.dtype == np.uint16:
            return Stored(data, slope, intercept, _window(data))
        values = data.astype(np.float64)
        if not np.isfinite(values).all():
            raise NonFiniteError("an image holds NaN or infinite values, which DICOM cannot store as grey")
        largest, smallest = float(values.max(initial=0)), float(values.min(initial=0))
        self._signed |= smallest < 0
        low, high = _SIGNED if self._signed else _UNSIGNED
        if self._phase and max(largest, -smallest) <= math.pi * (1 + 1e-6):
            slope, window = math.pi / -low, (0.0, 2.0 * -low)
            return Stored(_rounded(values / slope, low, high), slope, 0.0, window)
        slope = self._at_least(max(largest / high, smallest / low if low else 0.0))
        stored = _rounded(values / slope, low, high)
        return Stored(stored, slope, 0.0, _window(stored))

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


def _rounded(values: npt.NDArray[np.float64], low: int, high: int) -> npt.NDArray[Any]:
    return np.clip(np.rint(values), low, high).astype(np.int16 if low else np.uint16)


def _window(values: npt.NDArray[Any]) -> tuple[float, float]:
    """From the first hundredth of the voxels to all but the brightest two thousandths."""
    dark, bright = np.percentile(values, (1.0, 99.8)) if values.size else (0.0, 1.0)
    # Viewers show nothing through a window that is narrower than 1 (PS3.3 C.11.2.1.2.1).
    return float(dark + bright) / 2, max(float(bright - dark), 1.0)
