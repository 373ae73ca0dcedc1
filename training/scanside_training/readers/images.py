"""Images as readers see them: 16-bit numbers in one window for all methods of a case."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from scanside.metrics import Real

__all__ = ["GREYS", "WHITE", "brightness_of", "greys_of"]

GREYS = 65535
"""The largest number of a pixel."""

WHITE = 16384
"""What is white in the first window; what is four times as bright is the brightest that is kept."""


def brightness_of(truth: Real) -> float:
    """What is white in all images of a case: the 99.8th percentile of its reference."""
    return float(np.percentile(truth, 99.8)) or float(truth.max()) or 1.0


def greys_of(image: Real, brightness: float) -> tuple[npt.NDArray[np.uint16], int]:
    """Magnitudes as numbers that a page can draw, and how many of them were too bright to be kept.

    Args:
        image: ``(y, x)``, or ``(frame, y, x)`` of a film or stack.
        brightness: what becomes `WHITE`.

    Returns:
        ``(frame, y, x)`` uint16.
    """
    frames: npt.NDArray[Any] = np.round(image * (WHITE / brightness))
    frames = frames if frames.ndim == 3 else frames[None]
    return np.minimum(frames, GREYS).astype(np.uint16), int((frames > GREYS).sum())
