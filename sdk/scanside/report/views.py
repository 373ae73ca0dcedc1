"""Pictures out of images: two-dimensional, in the right proportions, with the patient's directions at the edges."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from scanside.errors import FormatError
from scanside.inspection.orientation import direction_letters, opposite
from scanside.mrd.dtypes import IMAGE_TYPES
from scanside.mrd.geometry import Geometry

if TYPE_CHECKING:
    from scanside.items import Image

__all__ = ["Edges", "View", "Window", "image_views", "plane_view", "select", "window_of"]

_TYPE_NAMES = {number: name for name, number in IMAGE_TYPES.items()}
_AXES = "xyz"


@dataclass(frozen=True, slots=True)
class Edges:
    """Where the edges of a picture lie in the patient, in letters; all empty where that is not known."""

    left: str = ""
    right: str = ""
    top: str = ""
    bottom: str = ""

    @classmethod
    def of(cls, across: npt.ArrayLike, down: npt.ArrayLike) -> Edges:
        """Edges of a picture whose columns run along ``across`` and whose rows run along ``down``, LPS."""
        right, bottom = direction_letters(across), direction_letters(down)
        return cls(opposite(right), right, opposite(bottom), bottom)


@dataclass(frozen=True, slots=True, eq=False)
class View:
    """One picture.

    Attributes:
        pixels: ``(row, column)``; rows run downwards.
        title: short.
        kind: ``magnitude``, ``phase`` (radians), ``real`` or ``imag``.
        pixel_mm: height and width of a pixel; only their ratio matters.
        edges: where the edges lie in the patient.
    """

    pixels: npt.NDArray[np.float64]
    title: str = ""
    kind: str = "magnitude"
    pixel_mm: tuple[float, float] = (1.0, 1.0)
    edges: Edges = Edges()

    def upright(self) -> View:
        """The same picture as radiologists look at it: head or front at the top, the patient's right or front to
        the left. Pictures of acquired slices stay as their pixels are; this is for planes across them.
        """
        pixels, edges = self.pixels, self.edges
        if edges.top[:1] in ("F", "P"):
            pixels, edges = pixels[::-1], Edges(edges.left, edges.right, edges.bottom, edges.top)
        if edges.left[:1] in ("L", "P"):
            pixels, edges = pixels[:, ::-1], Edges(edges.right, edges.left, edges.top, edges.bottom)
        return View(pixels, self.title, self.kind, self.pixel_mm, edges)

    @property
    def size_mm(self) -> tuple[float, float]:
        """Height and width."""
        return self.pixels.shape[0] * self.pixel_mm[0], self.pixels.shape[1] * self.pixel_mm[1]


@dataclass(frozen=True, slots=True)
class Window:
    """Grey values: black at or below ``low``, white at or above ``high``; ``beyond`` is the share above ``high``."""

    low: float
    high: float
    beyond: float = 0.0

    def describe(self) -> str:
        """The window in words."""
        text = f"black {self.low:.4g}, white {self.high:.4g}"
        return f"{text}; {100 * self.beyond:.2g} % of the pixels are brighter" if self.beyond else text


def window_of(views: Iterable[View]) -> Window:
    """One window for pictures of one kind, so that their grey values compare.

    Magnitudes go from 0 to the 99.8th percentile, so that a few bright pixels do not darken everything; if nothing
    is gained by that, to the maximum. Signed pictures go symmetrically about 0, phases from −π to π.
    """
    chosen = list(views)
    if chosen and chosen[0].kind == "phase":
        return Window(-np.pi, np.pi)
    values = np.concatenate([view.pixels.ravel() for view in chosen]) if chosen else np.zeros(1)
    values = values[np.isfinite(values)]
    if not values.size or not np.any(values):
        return Window(0.0, 1.0)
    magnitudes = np.abs(values)
    largest = float(magnitudes.max())
    high = float(np.percentile(magnitudes, 99.8))
    if largest <= 1.3 * high or high == 0:
        high = largest
    beyond = float((magnitudes > high).mean())
    return Window(0.0 if values.min() >= 0 else -high, high, beyond)


def image_views(image: Image, at_most: int = 12) -> list[View]:
    """Pictures of one image: its slices, and for a volume its three middle planes.

    Args:
        image: ``(channel, z, y, x)``; the first channel is shown.
        at_most: most slices of a volume to show besides the planes.
    """
    pixels, kind = _real(image)
    geometry = _geometry(image.header)
    name = _name(image.header)
    n_z = pixels.shape[0]
    if n_z == 1:
        return [plane_view(pixels, geometry, 2, 0, name, kind)]
    planes = [(axis, pixels.shape[2 - axis] // 2) for axis in (2, 1, 0)]
    planes += [(2, z) for z in select(n_z, at_most)]
    views = []
    for axis, i in planes:
        view = plane_view(pixels, geometry, axis, i, f"{name}, {_AXES[axis]} = {i}", kind)
        views.append(view if axis == 2 else view.upright())
    return views


def plane_view(
    volume: npt.NDArray[np.float64],
    geometry: Geometry | None,
    axis: int,
    index: int,
    title: str = "",
    kind: str = "magnitude",
) -> View:
    """A plane of a volume.

    Args:
        volume: ``(z, y, x)``.
        geometry: of the volume; None where it is not known.
        axis: the axis across the plane: 0 is x, 1 is y, 2 is z.
        index: index along that axis.
        title: of the picture.
        kind: of the picture.

    Returns:
        A view whose rows run along the plane's later axis: (y, x), (z, x) or (z, y) as (row, column).
    """
    across, down = [a for a in (0, 1, 2) if a != axis]
    pixels = np.take(volume, index, axis=2 - axis)
    if geometry is None:
        return View(pixels, title, kind)
    size = geometry.voxel_size_mm
    directions = geometry.directions.T
    edges = Edges() if geometry.assumed else Edges.of(directions[across], directions[down])
    return View(pixels, title, kind, (float(size[down]), float(size[across])), edges)


def select(n: int, at_most: int) -> Sequence[int]:
    """Indices of at most so many of n things, evenly spread, the first and the last among them."""
    if n <= at_most:
        return range(n)
    return [round(i * (n - 1) / (at_most - 1)) for i in range(at_most)] if at_most > 1 else [n // 2]


def _real(image: Image) -> tuple[npt.NDArray[np.float64], str]:
    """The first channel as real numbers ``(z, y, x)``, and what kind they are of."""
    data: npt.NDArray[Any] = image.data[0].detach().cpu().numpy()
    if np.iscomplexobj(data):
        return np.abs(data).astype(np.float64), "magnitude"
    kind = _TYPE_NAMES.get(int(image.header["image_type"]), "magnitude")
    return data.astype(np.float64), kind if kind in ("magnitude", "phase", "real", "imag") else "magnitude"


def _geometry(header: np.void) -> Geometry | None:
    try:
        return Geometry.from_image_header(header)
    except FormatError:
        return None


def _name(header: np.void) -> str:
    """The counters that say which image it is; zeros are left out but for the slice."""
    counters = ("contrast", "phase", "repetition", "set", "average")
    others = (f"{counter} {int(header[counter])}" for counter in counters if int(header[counter]))
    return ", ".join((f"slice {int(header['slice'])}", *others))
