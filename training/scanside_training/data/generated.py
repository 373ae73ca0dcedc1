"""Objects that nobody was scanned for: varied heads and hearts, and heaps of textured shapes.

Heads and hearts are the phantoms of `scanside.simulate`, seen along another plane and bent by a smooth random
deformation each. Heaps of shapes have edges of all directions and sharpness, and textures whose spectra fall with a
power of frequency as those of natural images do (Field, J Opt Soc Am A 4:2379 (1987)).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt

from scanside.simulate import PhantomConfig
from scanside.simulate.phantoms import Brain, ObjectState, Phantom, Property, make_phantom

__all__ = [
    "Weighting",
    "blob",
    "contrasts_of",
    "cover",
    "draw_kind",
    "heap",
    "rotation",
    "slices_of",
    "texture",
    "tissues_of",
]

Kind = Literal["shapes", "cardiac", "brain"]
Weighting = Literal["t1", "t2", "pd", "flair"]
Slice = npt.NDArray[np.float32]
Field2 = npt.NDArray[np.float64]

_HEAD_FOV_MM, _BODY_FOV_MM = 270.0, 400.0


def draw_kind(rng: np.random.Generator, *, shapes: float, hearts: float) -> Kind:
    """Which object a subject is, by the share of the heaps of shapes, and of the hearts."""
    drawn = rng.random()
    return "shapes" if drawn < shapes else "cardiac" if drawn < shapes + hearts else "brain"


def slices_of(
    kind: Kind, count: int, size: int, rng: np.random.Generator, weighting: Weighting | None = None
) -> list[Slice]:
    """Slices ``(y, x)`` of one object, intensities between 0 and about 1.

    Args:
        kind: which object.
        count: number of slices.
        size: edge of a slice in pixels.
        rng: draws the object.
        weighting: contrast of a head; drawn where it is not given.
    """
    if kind == "shapes":
        return [heap(size, rng) for _ in range(count)]
    drawn: Weighting = ("t1", "t2", "pd")[rng.integers(3)]
    return [one[0] for one in contrasts_of(kind, count, size, rng, [weighting or drawn])]


def contrasts_of(
    kind: Literal["cardiac", "brain"],
    count: int,
    size: int,
    rng: np.random.Generator,
    weightings: Sequence[Weighting],
) -> list[Slice]:
    """Slices ``(contrast, y, x)`` of one object, intensities between 0 and about 1.

    Args:
        kind: which object; hearts have one contrast, whatever is asked for.
        count: number of slices.
        size: edge of a slice in pixels.
        rng: draws the object.
        weightings: its contrasts.
    """
    config = PhantomConfig(kind=kind, seed=int(rng.integers(2**31)))
    phantoms = [make_phantom(config.model_copy(update={"weighting": one})) for one in weightings]
    stretch = rng.uniform(0.9, 1.1, 3)
    tilt = rotation(rng.normal(0, 0.3, 3))
    heights = np.sort(rng.uniform(-45, 75, count)) if kind == "brain" else rng.uniform(-40, 40, count)
    return [_phantom_slice(phantoms, kind, float(z), size, stretch, tilt, rng) for z in heights]


def tissues_of(count: int, size: int, rng: np.random.Generator) -> list[Slice]:
    """Slices of one head ``(3, y, x)``: its proton density, relative to water, and its T1 and T2 at 3 T in ms.

    Args:
        count: number of slices.
        size: edge of a slice in pixels.
        rng: draws the head.
    """
    seed = int(rng.integers(2**31))
    phantoms = [Brain(one, seed) for one in get_args(Property)]
    # People differ by a tenth in their relaxation times.
    personal = np.exp([0.0, *rng.normal(0, 0.1, 2)])
    stretch = rng.uniform(0.9, 1.1, 3)
    tilt = rotation(rng.normal(0, 0.3, 3))
    slices = []
    for height in np.sort(rng.uniform(-45, 75, count)):
        points = _points(_HEAD_FOV_MM, float(height), size, stretch, tilt, rng)
        maps = [one.evaluate(points, ObjectState())[0] * _grain(size, rng) for one in phantoms]
        slices.append(np.asarray(np.stack(maps) * personal[:, None, None], np.float32))
    return slices


def _phantom_slice(
    phantoms: Sequence[Phantom],
    kind: Kind,
    height: float,
    size: int,
    stretch: Field2,
    tilt: Field2,
    rng: np.random.Generator,
) -> Slice:
    fov = _HEAD_FOV_MM if kind == "brain" else _BODY_FOV_MM
    points = _points(fov, height, size, stretch, tilt, rng)
    state = ObjectState(beat=float(rng.random()))
    intensity = np.stack([phantom.evaluate(points, state)[0] for phantom in phantoms])
    return np.asarray(intensity * _grain(size, rng), np.float32)


def _points(
    fov: float, height: float, size: int, stretch: Field2, tilt: Field2, rng: np.random.Generator
) -> npt.NDArray[np.float32]:
    """Where the pixels of a slice lie in the object ``(3, y, x)``, in mm."""
    axis = (np.arange(size) - size // 2) * (fov / size)
    y, x = np.meshgrid(axis, axis, indexing="ij")
    plane = np.stack([x, y, np.zeros_like(x)])
    points = np.einsum("ij,j...->i...", tilt, plane) * stretch[:, None, None]
    points[2] += height
    # The deformation is that of the slice: few mm over several cm.
    points += np.stack([5 * texture(size, 4.0, rng, cutoff=6) for _ in range(3)])
    return np.asarray(points, np.float32)


def _grain(size: int, rng: np.random.Generator) -> Field2:
    """Factors ``(y, x)``: tissue is never as even as a phantom's."""
    return np.asarray(np.exp(rng.uniform(0.02, 0.08) * texture(size, rng.uniform(1.0, 2.0), rng)))


def heap(size: int, rng: np.random.Generator) -> Slice:
    """Shapes upon shapes within a body with smooth outline, ``(size, size)``."""
    axis = np.linspace(-1, 1, size)
    y, x = np.meshgrid(axis, axis, indexing="ij")
    body = blob(y, x, (0.0, 0.0), (rng.uniform(0.6, 0.85), rng.uniform(0.6, 0.85)), rng)
    image = cover(body, size, rng) * rng.uniform(0.2, 0.8)
    for _ in range(int(rng.integers(15, 60))):
        extent = 0.6 * rng.random(2) ** 2 + 0.01
        center = (rng.uniform(-0.75, 0.75), rng.uniform(-0.75, 0.75))
        draw = blob if rng.random() < 0.6 else _polygon
        covered = cover(draw(y, x, center, (extent[0], extent[1]), rng), size, rng)
        value = rng.uniform(0.0, 1.0) * np.ones_like(image)
        if rng.random() < 0.5:
            value *= np.exp(rng.uniform(0.1, 0.4) * texture(size, rng.uniform(0.8, 2.2), rng))
        if rng.random() < 0.15:
            angle, wavelength = rng.uniform(0, np.pi), rng.uniform(3, 12) * 2 / size
            value *= 1 + 0.5 * np.sin(2 * np.pi * (np.cos(angle) * x + np.sin(angle) * y) / wavelength)
        image += covered * (value - image)
    return np.asarray(image * cover(body, size, rng), np.float32)


def blob(
    y: Field2, x: Field2, center: tuple[float, float], extent: tuple[float, float], rng: np.random.Generator
) -> Field2:
    """Signed distance ``(y, x)``, roughly, from an ellipse with a wavy outline; positive inside."""
    angle = rng.uniform(0, np.pi)
    u = np.cos(angle) * (y - center[0]) + np.sin(angle) * (x - center[1])
    v = -np.sin(angle) * (y - center[0]) + np.cos(angle) * (x - center[1])
    radius = np.hypot(u / extent[0], v / extent[1])
    around = np.arctan2(v, u)
    outline = 1 + sum(
        rng.normal(0, 0.12 / order) * np.cos(order * around + rng.uniform(0, 6.3)) for order in range(2, 6)
    )
    return np.asarray((outline - radius) * min(extent))


def _polygon(
    y: Field2, x: Field2, center: tuple[float, float], extent: tuple[float, float], rng: np.random.Generator
) -> Field2:
    """Signed distance from a convex polygon of three to six sides."""
    inside = np.full_like(y, np.inf)
    n = int(rng.integers(3, 7))
    for side in range(n):
        angle = 2 * np.pi * (side + rng.uniform(0, 0.7)) / n
        reach = rng.uniform(min(extent), max(extent))
        along = np.cos(angle) * (y - center[0]) + np.sin(angle) * (x - center[1])
        inside = np.minimum(inside, reach - along)
    return inside


def cover(distance: Field2, size: int, rng: np.random.Generator) -> Field2:
    """0 outside, 1 inside; edges are sharp to a pixel, or soft over a few."""
    width = (2 / size) * rng.uniform(0.7, 3.0)
    return np.asarray(np.clip(distance / width + 0.5, 0, 1))


def texture(size: int, power: float, rng: np.random.Generator, cutoff: float = np.inf) -> Field2:
    """Random field of mean 0 and standard deviation 1, amplitudes falling as frequency to this power.

    Args:
        size: edge in pixels.
        power: exponent.
        rng: draws it.
        cutoff: highest frequency in cycles per edge.
    """
    frequency = np.hypot(np.fft.fftfreq(size)[:, None], np.fft.rfftfreq(size)) * size
    amplitude = np.where((frequency > 0) & (frequency <= cutoff), np.maximum(frequency, 1) ** -power, 0)
    spectrum = rng.standard_normal(amplitude.shape) + 1j * rng.standard_normal(amplitude.shape)
    field = np.fft.irfft2(amplitude * spectrum, (size, size))
    return np.asarray(field / field.std())


def rotation(angles: Field2) -> Field2:
    """Rotation ``(3, 3)`` about x, y and z, one after the other, by angles in radians."""
    turned: Field2 = np.eye(3)
    for axis, angle in enumerate(angles):
        one, other = (axis + 1) % 3, (axis + 2) % 3
        step = np.eye(3)
        step[one, one] = step[other, other] = np.cos(angle)
        step[other, one] = np.sin(angle)
        step[one, other] = -np.sin(angle)
        turned = step @ turned
    return turned
