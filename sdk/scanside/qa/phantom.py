"""Where the phantom lies in an image."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from scanside.errors import ScanError
from scanside.metrics import fill_holes

__all__ = ["Phantom", "locate"]

Real = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]

_ANGLES_DEG = {"x": 0.0, "y": 90.0, "diagonal": 45.0, "other diagonal": 135.0}


@dataclass(frozen=True, slots=True, eq=False)
class Phantom:
    """A round phantom in a slice.

    Attributes:
        image: ``(y, x)`` magnitudes.
        pixel_mm: height and width of a pixel.
        mask: ``(y, x)``, above half of the phantom's signal, holes filled.
        center: ``(y, x)`` in pixels.
        radius_mm: of a circle of the mask's area.
    """

    image: Real
    pixel_mm: tuple[float, float]
    mask: Mask
    center: tuple[float, float]
    radius_mm: float

    def distance_mm(self) -> Real:
        """Distance ``(y, x)`` of every pixel from the centre."""
        y, x = (
            (np.arange(n) - c) * size
            for n, c, size in zip(self.image.shape, self.center, self.pixel_mm, strict=True)
        )
        return np.asarray(np.hypot(y[:, None], x[None]))

    def roi(self, share: float = 0.75) -> Mask:
        """A circle about the centre with a share of the phantom's area.

        NEMA MS 1 and MS 3 ask for at least three quarters of it.
        """
        return np.asarray(self.distance_mm() <= self.radius_mm * np.sqrt(share))

    def diameters_mm(self) -> dict[str, float]:
        """Length of the chords through the centre, along x (read), y (phase) and both diagonals.

        An edge is where the signal crosses half of what it is just inside, between pixels by linear interpolation:
        a slope of sensitivity across the phantom does not shift it (ACR phantom test guidance, geometric accuracy).
        """
        return {
            name: self._edge_mm(angle) + self._edge_mm(angle + 180) for name, angle in _ANGLES_DEG.items()
        }

    def _edge_mm(self, angle_deg: float) -> float:
        """Distance from the centre to the edge in a direction."""
        angle = np.deg2rad(angle_deg)
        step = 0.1 * min(self.pixel_mm)
        along = np.arange(0, 1.5 * self.radius_mm, step)
        y = self.center[0] + along * np.sin(angle) / self.pixel_mm[0]
        x = self.center[1] + along * np.cos(angle) / self.pixel_mm[1]
        profile = _interpolated(self.image, y, x)
        inside = (along > 0.7 * self.radius_mm) & (along < 0.9 * self.radius_mm)
        half = 0.5 * float(profile[inside].mean())
        outer = along > 0.7 * self.radius_mm
        below = np.flatnonzero(outer & (profile < half))
        return float(along[below[0]]) if len(below) else float(along[-1])


def locate(image: Real, pixel_mm: tuple[float, float]) -> Phantom:
    """Find the phantom: what is above half of its own signal.

    Args:
        image: ``(y, x)`` magnitudes.
        pixel_mm: height and width of a pixel.

    Raises:
        ScanError: there is none, or it does not lie within the field of view.
    """
    bright = float(np.percentile(image, 99))
    if not bright > 0:
        raise ScanError("the image is empty: no phantom can be found in it")
    threshold = 0.5 * float(np.median(image[image > 0.3 * bright]))
    mask = _around(fill_holes(image > threshold))
    n = int(mask.sum())
    share = n / mask.size
    if not 0.02 < share < 0.9:
        raise ScanError(
            f"{100 * share:.0f} % of the image are above half of its signal: expected a phantom that fills some of "
            "the field of view, with air around it"
        )
    if mask[0].any() or mask[-1].any() or mask[:, 0].any() or mask[:, -1].any():
        raise ScanError(
            "the phantom reaches the edge of the image: choose a larger field of view, or centre it"
        )
    y, x = np.nonzero(mask)
    radius = float(np.sqrt(n * pixel_mm[0] * pixel_mm[1] / np.pi))
    return Phantom(image, pixel_mm, mask, (float(y.mean()), float(x.mean())), radius)


def _around(mask: Mask) -> Mask:
    """The connected part of a mask that holds the pixel nearest to its centre of mass: specks do not count."""
    places = np.argwhere(mask)
    if not len(places):
        return mask
    nearest = places[((places - places.mean(axis=0)) ** 2).sum(axis=1).argmin()]
    part = np.zeros_like(mask)
    part[tuple(nearest)] = True
    while True:
        grown = part.copy()
        grown[1:] |= part[:-1]
        grown[:-1] |= part[1:]
        grown[:, 1:] |= part[:, :-1]
        grown[:, :-1] |= part[:, 1:]
        grown &= mask
        if np.array_equal(grown, part):
            return part
        part = grown


def _interpolated(image: Real, y: Real, x: Real) -> Real:
    """Values between pixels, bilinear; 0 beyond the image."""
    padded = np.pad(image, 1)
    y, x = (np.clip(v + 1, 0, n - 1.001) for v, n in zip((y, x), padded.shape, strict=True))
    i, j = np.floor(y).astype(int), np.floor(x).astype(int)
    u, v = y - i, x - j
    upper = padded[i, j] * (1 - v) + padded[i, j + 1] * v
    lower = padded[i + 1, j] * (1 - v) + padded[i + 1, j + 1] * v
    return np.asarray(upper * (1 - u) + lower * u)
