"""Directions and planes in words, from vectors in LPS patient coordinates (DICOM PS3.3 C.7.6.1.1.1)."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from scanside.mrd.geometry import Geometry

__all__ = ["describe_orientation", "direction_letters"]

_LETTERS = (("L", "R"), ("P", "A"), ("H", "F"))
_PLANES = ("sagittal", "coronal", "axial")
_AXES = ("left-right", "front-back", "head-foot")

_WORTH_A_LETTER = math.sin(math.radians(10))
"""A direction that leans less than this towards an axis does not get that axis' letter."""


def direction_letters(direction: npt.ArrayLike) -> str:
    """Where a direction points, nearest axis first: ``L`` left, ``R`` right, ``A`` front, ``P`` back, ``H`` head,
    ``F`` feet; ``PH`` is to the back and a little to the head. Empty for a vector of length zero.

    Args:
        direction: ``(3,)``, LPS.
    """
    vector = np.asarray(direction, np.float64)
    length = float(np.linalg.norm(vector))
    if not length:
        return ""
    parts = vector / length
    order = np.argsort(-np.abs(parts), kind="stable")
    return "".join(
        _LETTERS[axis][int(parts[axis] < 0)] for axis in order if abs(parts[axis]) > _WORTH_A_LETTER
    )


def opposite(letters: str) -> str:
    """The letters of the opposite direction."""
    return letters.translate(str.maketrans("LRPAHF", "RLAPFH"))


def describe_orientation(geometry: Geometry) -> str:
    """The nearest plane and by how much the image is tilted out of it.

    For example ``axial``, or ``axial, its normal 14.9° from the head-foot axis``.
    """
    if geometry.assumed:
        return "not given (all directions are zero): axial assumed"
    normal = np.abs(geometry.slice_dir)
    axis = int(normal.argmax())
    tilt = math.degrees(math.acos(min(1.0, float(normal[axis] / np.linalg.norm(normal)))))
    if tilt < 0.5:
        return _PLANES[axis]
    return f"{_PLANES[axis]}, its normal {tilt:.1f}° from the {_AXES[axis]} axis"
