"""Arrays that workers left in a session's folder, for the page to draw."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from scanside.errors import FileFormatError, FormatError
from scanside.inspection.orientation import direction_letters, opposite
from scanside.metrics import fill_holes
from scanside.mrd.geometry import Geometry

__all__ = ["Picture", "describe_picture", "little_endian", "observation_array", "open_array", "slice_of"]

_SAMPLE = 1_000_000
"""Pixels that a window is made from, at most."""

_MAP_PIXELS = 128
"""Coil maps are smooth: they are shown with at most so many pixels along an axis."""

_OBJECT = 0.05
"""Pixels above this share of the brightest, and what they enclose, are the object; the report does the same."""

_GEOMETRY = ("position", "read_dir", "phase_dir", "slice_dir", "field_of_view")


@dataclass(frozen=True, slots=True)
class Picture:
    """How an image is to be drawn: its columns along the read, its rows along the phase direction.

    Attributes:
        shape: ``(z, y, x)``.
        high: what is white to begin with.
        pixel_mm: height and width of a pixel.
        edges: letters of the patient's directions at the left, right, top and bottom edge; empty where unknown.
        affine: three rows that take ``(x, y, z, 1)`` to LPS mm; None where unknown.
        plane: ``axial``, ``sagittal``, ``coronal`` or empty.
    """

    shape: tuple[int, int, int]
    high: float
    pixel_mm: tuple[float, float] = (1.0, 1.0)
    edges: tuple[str, str, str, str] = ("", "", "", "")
    affine: list[list[float]] | None = None
    plane: str = ""


def open_array(folder: Path, name: str) -> npt.NDArray[Any]:
    """An array that lies in a folder, not yet read.

    Raises:
        FileFormatError: the name leads out of the folder, or there is no array of that name.
    """
    path = folder / name
    # A link could point anywhere, so the place is looked at after all links were followed.
    if Path(name).name != name or path.resolve().parent != folder.resolve():
        raise FileFormatError(f"'{name}' is not the name of a file in a session's folder")
    try:
        array: npt.NDArray[Any] = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise FileFormatError(f"'{name}' cannot be read as an array: {error}") from error
    return array


def describe_picture(array: npt.NDArray[Any], facts: Mapping[str, Any]) -> Picture:
    """How to draw an image.

    The window goes from 0 to the 99.8th percentile, so that a few bright pixels do not darken the rest; if nothing is
    gained by that, to the maximum.

    Args:
        array: float32 or uint16 ``(z, y, x)``.
        facts: fields of its header, see `ImageMade`.

    Raises:
        FileFormatError: it has another shape or type.
    """
    if array.ndim != 3 or array.dtype not in (np.float32, np.uint16) or not array.size:
        raise FileFormatError(
            f"an image of a session must be float32 or uint16 (z, y, x), not {array.dtype} {array.shape}"
        )
    z, y, x = array.shape
    values = np.abs(array.reshape(-1)[:: -(-array.size // _SAMPLE)].astype(np.float64))
    values = values[np.isfinite(values)]
    largest = float(values.max()) if values.size else 0.0
    high = float(np.percentile(values, 99.8)) if values.size else 0.0
    if largest <= 1.3 * high or high == 0:
        high = largest or 1.0
    try:
        position, read, phase, across, field_of_view = (facts[name] for name in _GEOMETRY)
        geometry = Geometry(position, read, phase, across, field_of_view, (x, y, z))
    except (KeyError, TypeError, ValueError):  # FormatError is a ValueError
        return Picture((z, y, x), high)
    width, height, _ = geometry.voxel_size_mm.tolist()
    if geometry.assumed:
        return Picture((z, y, x), high, (height, width))
    right, bottom = direction_letters(geometry.read_dir), direction_letters(geometry.phase_dir)
    plane = ("sagittal", "coronal", "axial")[int(np.abs(geometry.slice_dir).argmax())]
    edges = (opposite(right), right, opposite(bottom), bottom)
    return Picture((z, y, x), high, (height, width), edges, geometry.affine[:3].tolist(), plane)


def slice_of(array: npt.NDArray[Any], z: int) -> npt.NDArray[Any]:
    """One slice of an image.

    Raises:
        FormatError: there is no such slice.
    """
    if not 0 <= z < array.shape[0]:
        raise FormatError(f"there is no slice {z}: the image has {array.shape[0]}")
    plane: npt.NDArray[Any] = array[z]
    return plane


def observation_array(
    what: str, array: npt.NDArray[Any], image: npt.NDArray[Any] | None = None
) -> npt.NDArray[np.float32]:
    """Numbers that the page draws.

    Args:
        what: ``sampling``, ``noise`` or ``coils``.
        array: see `Observation`.
        image: ``(z, y, x)`` of the session. If it has the shape of coil maps, these are 0 outside its object, where
            they mean nothing.

    Returns:
        ``sampling``: classes ``(k2, k1)``. ``noise``: magnitude of the covariance ``(coil, coil)``. ``coils``:
        magnitude and phase in radians ``(2, coil, y, x)`` of the middle slice.

    Raises:
        FileFormatError: the array has another number of axes.
    """
    expected = {"sampling": 2, "noise": 2, "coils": 4}[what]
    if array.ndim != expected:
        raise FileFormatError(f"'{what}' must have {expected} axes, not the shape {array.shape}")
    if what == "coils":
        return _middle_maps(array, image)
    magnitude: npt.NDArray[np.float32] = np.abs(array).astype(np.float32)
    return magnitude


def _middle_maps(maps: npt.NDArray[Any], image: npt.NDArray[Any] | None) -> npt.NDArray[np.float32]:
    z = maps.shape[1] // 2
    shown = np.array(maps[:, z])
    if image is not None and image.shape == maps.shape[1:]:
        magnitude = np.abs(image[z])
        shown *= fill_holes(magnitude > _OBJECT * magnitude.max())
    step = -(-max(shown.shape[1:]) // _MAP_PIXELS)
    shown = shown[:, ::step, ::step]
    return np.stack([np.abs(shown), np.angle(shown)]).astype(np.float32)


def little_endian(array: npt.NDArray[Any]) -> tuple[bytes, str]:
    """The numbers of an array as bytes, and what they are: ``float32`` or ``uint16``."""
    kind = "uint16" if array.dtype == np.uint16 else "float32"
    return np.ascontiguousarray(array, "<u2" if kind == "uint16" else "<f4").tobytes(), kind
