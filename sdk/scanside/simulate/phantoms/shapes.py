"""Building blocks of phantoms: soft-edged shapes as signed distances, painted one over the other.

Distances are in mm and positive inside. They need to be true to scale only near the surface, where the soft edge
lies, and stop at 20 mm outside. Points are arrays ``(3, ...)`` of LPS coordinates in mm.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

__all__ = [
    "EDGE_MM",
    "Canvas",
    "ObjectState",
    "Phantom",
    "Points",
    "Scalar",
    "Tissue",
    "Waves",
    "capsule",
    "ellipsoid",
    "smooth_union",
    "soft",
    "tube",
]

Points = npt.NDArray[np.float32]
Scalar = npt.NDArray[np.float32]

EDGE_MM = 0.6
"""Width of the soft edge between two tissues."""

_FAR_MM = np.float32(20.0)
"""Points that lie further out than this are given this distance: nothing blends shapes that far apart."""


@dataclass(frozen=True)
class ObjectState:
    """What may change of an object during a scan.

    Attributes:
        beat: phase of the heart beat in [0, 1), 0 at end diastole (the R peak).
        decay_ms: time since the first echo, during which tissue decays with its T2*.
    """

    beat: float = 0.0
    decay_ms: float = 0.0


@dataclass(frozen=True)
class Tissue:
    """Signal of a tissue: its intensity at the first echo and its T2* in ms."""

    intensity: float
    t2star_ms: float = 50.0

    def signal(self, decay_ms: float) -> float:
        """Intensity at a time after the first echo."""
        return self.intensity * float(np.exp(-decay_ms / self.t2star_ms))


class Phantom(Protocol):
    """An object in patient coordinates."""

    @property
    def bounds_mm(self) -> npt.NDArray[np.float64]:
        """Box ``(2, 3)`` of lowest and highest LPS coordinates beyond which the object is empty."""

    @property
    def beats(self) -> bool:
        """Whether the object changes with `ObjectState.beat`."""

    def evaluate(self, points: Points, state: ObjectState) -> tuple[Scalar, Scalar]:
        """Intensity and share of tissue (0 air, 1 body) ``(...)`` at points ``(3, ...)`` in mm, LPS."""


class Canvas:
    """Intensity and tissue share at a set of points, onto which tissues are painted, the last one on top.

    Args:
        n_points: number of points.
        state: state of the object, which sets the decay of what is painted.
    """

    def __init__(self, n_points: int, state: ObjectState) -> None:
        self.intensity: Scalar = np.zeros(n_points, np.float32)
        self.share: Scalar = np.zeros(n_points, np.float32)
        self._decay_ms = state.decay_ms

    def paint(self, tissue: Tissue, cover: npt.NDArray[np.floating], *, air: bool = False) -> None:
        """Lay a tissue over what is there, where `cover` (0 to 1) says; `air` takes the body away."""
        cover = cover.astype(np.float32, copy=False)
        self.intensity += cover * (np.float32(tissue.signal(self._decay_ms)) - self.intensity)
        self.share += cover * (np.float32(0.0 if air else 1.0) - self.share)

    def part(self, where: npt.NDArray[np.intp]) -> Canvas:
        """A canvas of its own that holds some of the points; `put` brings it back."""
        part = Canvas(0, ObjectState(decay_ms=self._decay_ms))
        part.intensity, part.share = self.intensity[where], self.share[where]
        return part

    def put(self, where: npt.NDArray[np.intp], part: Canvas) -> None:
        """Take over the points of a canvas that `part` made."""
        self.intensity[where], self.share[where] = part.intensity, part.share


def soft(distance: npt.NDArray[np.floating], width_mm: float = EDGE_MM) -> Scalar:
    """Cover from a distance: 0 outside, 1 inside, a smooth step of `width_mm` across the surface."""
    step = np.clip(distance / width_mm + 0.5, 0, 1)
    return np.asarray(step * step * (3 - 2 * step), dtype=np.float32)


def ellipsoid(
    points: Points,
    center: tuple[float, float, float],
    semiaxes: tuple[float, float, float],
    axes: npt.NDArray[np.float64] | None = None,
) -> Scalar:
    """Distance to the surface of an ellipsoid; `axes` ``(3, 3)`` holds its directions as columns."""

    def distance(near: Points) -> Scalar:
        local = near - _column(center, near)
        if axes is not None:
            local = np.tensordot(axes.T.astype(np.float32), local, axes=1)
        local /= _column(semiaxes, near)
        radius = _length(local)
        local /= _column(semiaxes, near)
        return np.asarray(radius * (1 - radius) / np.maximum(_length(local), 1e-6), dtype=np.float32)

    middle = np.asarray(center)
    extent = np.asarray(semiaxes) if axes is None else np.abs(axes) @ np.asarray(semiaxes)
    return _in_box(points, middle - extent, middle + extent, distance)


def capsule(
    points: Points,
    start: tuple[float, float, float],
    end: tuple[float, float, float],
    radius_start: float,
    radius_end: float | None = None,
) -> Scalar:
    """Distance to a round rod between two points whose radius may change along it."""
    last_radius = radius_start if radius_end is None else radius_end
    first, last = np.asarray(start, np.float32), np.asarray(end, np.float32)
    axis = last - first

    def distance(near: Points) -> Scalar:
        local = near - _column(start, near)
        along = np.clip(np.tensordot(axis, local, axes=1) / np.dot(axis, axis), 0, 1)
        for component, direction in zip(local, axis, strict=True):
            component -= direction * along
        radius = radius_start + along * (last_radius - radius_start)
        return np.asarray(radius - _length(local), dtype=np.float32)

    widest = max(radius_start, last_radius)
    return _in_box(points, np.minimum(first, last) - widest, np.maximum(first, last) + widest, distance)


def tube(points: Points, path: list[tuple[float, float, float]], radii: list[float]) -> Scalar:
    """Distance to a chain of rods through the points of `path`, with a radius at each."""
    parts = [capsule(points, path[i], path[i + 1], radii[i], radii[i + 1]) for i in range(len(path) - 1)]
    return np.asarray(np.max(parts, axis=0), dtype=np.float32)


def smooth_union(first: Scalar, second: Scalar, blend_mm: float) -> Scalar:
    """Distance to two shapes that melt into each other over `blend_mm`."""
    mix = np.clip(0.5 + 0.5 * (first - second) / blend_mm, 0, 1)
    return np.asarray(second + mix * (first - second) + blend_mm * mix * (1 - mix), dtype=np.float32)


class Waves:
    """A smooth random function of space: a sum of plane waves of one wavelength in random directions.

    Its level sets meander like the folds of a cortex; its variance is one.

    Args:
        rng: draws directions and phases.
        wavelength_mm: wavelength of every wave.
        n_waves: how many waves.
    """

    def __init__(self, rng: np.random.Generator, wavelength_mm: float, n_waves: int = 12) -> None:
        directions = rng.standard_normal((n_waves, 3))
        directions /= np.linalg.norm(directions, axis=1, keepdims=True)
        self._vectors = (directions * (2 * np.pi / wavelength_mm)).astype(np.float32)
        self._phases = rng.uniform(0, 2 * np.pi, n_waves).astype(np.float32)
        self._scale = np.float32(np.sqrt(2 / n_waves))

    def __call__(self, points: Points) -> Scalar:
        """Value ``(...)`` at points ``(3, ...)``."""
        value = np.zeros(points.shape[1:], np.float32)
        for vector, phase in zip(self._vectors, self._phases, strict=True):
            value += np.cos(np.tensordot(vector, points, axes=1) + phase)
        return np.asarray(value * self._scale, dtype=np.float32)

    def with_gradient(self, points: Points) -> tuple[Scalar, Points]:
        """Value ``(...)`` and gradient ``(3, ...)`` per mm."""
        value = np.zeros(points.shape[1:], np.float32)
        gradient = np.zeros_like(points)
        for vector, phase in zip(self._vectors, self._phases, strict=True):
            angle = np.tensordot(vector, points, axes=1) + phase
            value += np.cos(angle)
            sine = np.sin(angle)
            for axis in range(3):
                gradient[axis] -= vector[axis] * sine
        return np.asarray(value * self._scale), np.asarray(gradient * self._scale)


def _in_box(
    points: Points,
    low: npt.NDArray[np.floating],
    high: npt.NDArray[np.floating],
    distance: Callable[[Points], Scalar],
) -> Scalar:
    """Distance to a shape that lies in a box, worked out only where it is above `-_FAR_MM`: most shapes are small."""
    near = np.ones(points.shape[1:], bool)
    for component, first, last in zip(points, low - _FAR_MM, high + _FAR_MM, strict=True):
        near &= (component > first) & (component < last)
    where = np.flatnonzero(near)
    if 2 * len(where) > near.size:
        return np.maximum(distance(points), -_FAR_MM)
    result = np.full(near.size, -_FAR_MM, np.float32)
    result[where] = np.maximum(distance(points.reshape(3, -1).take(where, axis=1)), -_FAR_MM)
    return result.reshape(near.shape)


def _length(vectors: Points) -> Scalar:
    return np.asarray(np.sqrt(np.einsum("i...,i...->...", vectors, vectors)), dtype=np.float32)


def _column(values: tuple[float, float, float], points: Points) -> npt.NDArray[np.float32]:
    return np.asarray(values, np.float32).reshape((3,) + (1,) * (points.ndim - 1))
