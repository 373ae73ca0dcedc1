"""Off-resonance during a readout: phase that grows with the time from the echo on, elsewhere otherwise.

``exp(2πi f t)`` is a sum of few products of a function of f and one of t: the object is sampled as it is at so many
times, and for each sample these are weighed. Man, Pauly, Macovski: *Multifrequency interpolation for fast
off-resonance correction*, Magn Reson Med 37:785-792 (1997); Sutton, Noll, Fessler, IEEE Trans Med Imaging 22:178-188
(2003).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from scanside.errors import ConfigError

__all__ = ["TimeSegments", "field_hz"]

TOLERANCE = 1e-5
"""Largest error of ``exp(2πi f t)``."""
_MOST = 256
_REACH_MM = 100.0


def field_hz(points_mm: npt.NDArray[Any], strength_hz: float) -> npt.NDArray[np.float64]:
    """A smooth off-resonance ``(...)`` at points ``(3, ...)`` of the patient, within ±`strength_hz`."""
    x, y, z = np.asarray(points_mm, float) / _REACH_MM
    return np.asarray(strength_hz * np.sin(1.4 * x + 0.4 * z + 0.3) * np.cos(1.1 * y - 0.2 * z))


@dataclass(frozen=True)
class TimeSegments:
    """``exp(2πi f t) ≈ Σ weight(t) · exp(2πi f time)`` over a few times.

    Attributes:
        times_s: ``(segment)``.
        weights: ``(segment, sample)`` complex.
        error: largest error over the frequencies and samples.
    """

    times_s: npt.NDArray[np.float64]
    weights: npt.NDArray[np.complex128]
    error: float

    @classmethod
    def of(cls, low_hz: float, high_hz: float, times_s: npt.NDArray[np.float64]) -> TimeSegments:
        """As few segments as keep the error below `TOLERANCE`.

        Args:
            low_hz: lowest frequency.
            high_hz: highest frequency.
            times_s: ``(sample)``.

        Raises:
            ConfigError: they would be very many.
        """
        turns = (high_hz - low_hz) * float(np.ptp(times_s))
        for n in range(2 + math.ceil(turns), _MOST, 2):
            segments = np.linspace(times_s.min(), times_s.max(), n)
            between = np.linspace(low_hz, high_hz, 8 * n + 1)
            turned = np.exp(2j * np.pi * np.outer(between, segments))
            wanted = np.exp(2j * np.pi * np.outer(between, times_s))
            weights = np.linalg.lstsq(turned[::2], wanted[::2], rcond=None)[0]
            error = float(np.abs(turned @ weights - wanted).max())
            if error <= TOLERANCE:
                return cls(segments, weights, error)
        raise ConfigError(
            f"off-resonance turns the phase {turns:.0f} times over a readout, which is more than can be simulated: "
            "lower phantom.off_resonance_hz, or shorten the readouts"
        )
