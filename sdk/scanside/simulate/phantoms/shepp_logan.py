"""The 3-D Shepp-Logan head, in mm.

Ten ellipsoids after Shepp and Logan (IEEE Trans Nucl Sci 1974;21:21), in the extension to three dimensions of Kak
and Slaney (Principles of Computerized Tomographic Imaging, 1988) with the contrast that is usual in MRI.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from scanside.simulate.phantoms.shapes import EDGE_MM, ObjectState, Points, Scalar, ellipsoid, soft

__all__ = ["SheppLogan"]

# Added intensity, semi-axes, centre (in units of half the width of the head's box), rotation about z in degrees.
_ELLIPSOIDS: tuple[tuple[float, tuple[float, float, float], tuple[float, float, float], float], ...] = (
    (1.0, (0.69, 0.92, 0.81), (0.0, 0.0, 0.0), 0.0),
    (-0.8, (0.6624, 0.874, 0.78), (0.0, -0.0184, 0.0), 0.0),
    (-0.2, (0.11, 0.31, 0.22), (0.22, 0.0, 0.0), -18.0),
    (-0.2, (0.16, 0.41, 0.28), (-0.22, 0.0, 0.0), 18.0),
    (0.1, (0.21, 0.25, 0.41), (0.0, 0.35, -0.15), 0.0),
    (0.1, (0.046, 0.046, 0.05), (0.0, 0.1, 0.25), 0.0),
    (0.1, (0.046, 0.046, 0.05), (0.0, -0.1, 0.25), 0.0),
    (0.1, (0.046, 0.023, 0.05), (-0.08, -0.605, 0.0), 0.0),
    (0.1, (0.023, 0.023, 0.02), (0.0, -0.606, 0.0), 0.0),
    (0.1, (0.023, 0.046, 0.02), (0.06, -0.605, 0.0), 0.0),
)


class SheppLogan:
    """Shepp-Logan head: the y axis of the definition points to the front of the patient (anterior, -y in LPS).

    Args:
        half_width_mm: what the unit of the definition is in mm.
    """

    beats = False

    def __init__(self, half_width_mm: float = 110.0) -> None:
        self._unit = half_width_mm

    @property
    def bounds_mm(self) -> npt.NDArray[np.float64]:
        """Box ``(2, 3)`` in mm beyond which the object is empty."""
        corner = np.array([0.69, 0.92, 0.81]) * self._unit + EDGE_MM
        return np.stack([-corner, corner])

    def evaluate(self, points: Points, state: ObjectState) -> tuple[Scalar, Scalar]:
        """Intensity and share of tissue at points ``(3, ...)``; nothing of it beats, T2* is 50 ms throughout."""
        flipped = points * np.array([1, -1, 1], np.float32).reshape((3,) + (1,) * (points.ndim - 1))
        intensity = np.zeros(points.shape[1:], np.float32)
        share = np.zeros_like(intensity)
        for added, semiaxes, center, degrees in _ELLIPSOIDS:
            turn = np.deg2rad(degrees)
            axes = np.array([[np.cos(turn), -np.sin(turn), 0], [np.sin(turn), np.cos(turn), 0], [0, 0, 1]])
            distance = ellipsoid(flipped, self._scaled(center), self._scaled(semiaxes), axes)
            cover = soft(distance)
            intensity += np.float32(added) * cover
            share = np.maximum(share, cover)
        decay = np.float32(np.exp(-state.decay_ms / 50.0))
        return np.asarray(intensity * decay, dtype=np.float32), share

    def _scaled(self, vector: tuple[float, float, float]) -> tuple[float, float, float]:
        return (vector[0] * self._unit, vector[1] * self._unit, vector[2] * self._unit)
