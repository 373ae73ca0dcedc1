"""What is scanned: generated heads in contrasts of their own, knees, bellies and vessels, and measured slices."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from scanside_training.data.appearance import AppearanceConfig, random_appearance
from scanside_training.data.generated import Weighting, blob, cover, slices_of, texture
from scanside_training.data.roots import data_file
from scanside_training.data.simulation import complex_of
from scanside_training.evaluation.sites.plan import Object

__all__ = ["drawn_object"]

_SIZE = 448
"""Edge in pixels of what is generated: finer than the finest scan."""

_T2 = "brain-t2-complex/slices_001-180.npz"
_CHEST = "cardiac-magnitude/chest100_u16.npz"
_T2_TEST = slice(150, 180)
"""Slices of the subject that nothing is trained on."""

_PLAIN = AppearanceConfig(contrast=0, bias=0.5, phase=1.0, phase_rad=(0.5, 2.5))
_FAT = _PLAIN.model_copy(update={"scalp": 1.0, "scalp_gain": (5.0, 8.0), "scalp_depth": (0.03, 0.06)})
"""Brighter and deeper than the scalps of training."""
_FLUID = 2.5
"""Exponent that leaves little but fluid of a T2-weighted head."""

Grid = npt.NDArray[np.float64]


def drawn_object(kind: Object, root: Path | None, rng: np.random.Generator) -> Tensor:
    """A slice ``(y, x)``, complex, with a smooth phase.

    Args:
        kind: what.
        root: folder of all data, for what is measured.
        rng: draws the individual, or the slice.

    Raises:
        ConfigError: the measured data are not there.
    """
    appearance = _FAT if kind == "head-fat" else _PLAIN
    pixels = _pixels(kind, root, rng)
    return random_appearance(appearance, complex_of(torch.from_numpy(np.ascontiguousarray(pixels))), rng)


def _pixels(kind: Object, root: Path | None, rng: np.random.Generator) -> npt.NDArray[Any]:
    if kind == "t2-measured":
        heads = _t2_slices(data_file(root, _T2))
        return np.asarray(heads[rng.integers(len(heads))])
    if kind == "chest-measured":
        chests = _chest_slices(data_file(root, _CHEST))
        return np.asarray(chests[rng.integers(len(chests))])
    if kind == "head-t2":
        return _head("t2", rng)
    if kind == "head-csf":
        return np.asarray(_head("t2", rng) ** _FLUID, np.float32)
    if kind == "head-fat":
        return _head("t1", rng)
    draw = {"knee": _knee, "body": _belly, "vessels": _vessels}[kind]
    return np.asarray(np.maximum(draw(_SIZE, rng), 0), np.float32)


@cache
def _t2_slices(path: Path) -> npt.NDArray[np.complex64]:
    with np.load(path) as archive:
        iq, scale = archive["iq"][_T2_TEST], archive["scale"][_T2_TEST]
    return np.asarray((iq[:, 0] + 1j * iq[:, 1]) * np.reshape(scale, (-1, 1, 1)), np.complex64)


@cache
def _chest_slices(path: Path) -> npt.NDArray[np.float32]:
    with np.load(path) as archive:
        return np.asarray(archive["img"], np.float32)


def _head(weighting: Weighting, rng: np.random.Generator) -> npt.NDArray[np.float32]:
    return slices_of("brain", 1, _SIZE, rng, weighting)[0]


def _axes(size: int) -> tuple[Grid, Grid]:
    axis = np.linspace(-1, 1, size)
    y, x = np.meshgrid(axis, axis, indexing="ij")
    return y, x


def _put(image: Grid, distance: Grid, value: float | Grid, rng: np.random.Generator) -> Grid:
    """The image with a value where a distance is positive."""
    return image + cover(distance, len(image), rng) * (value - image)


def _grained(value: float, spread: float, size: int, rng: np.random.Generator) -> Grid:
    """A tissue that is not even."""
    return value * np.exp(spread * texture(size, 1.0, rng))


def _knee(size: int, rng: np.random.Generator) -> Grid:
    """A leg from the side, which both ends of the slice cut through: bright marrow and fat, dark bone and menisci."""
    y, x = _axes(size)
    bend = rng.uniform(-0.12, 0.12) * np.abs(y) + rng.uniform(-0.05, 0.05)
    width = rng.uniform(0.55, 0.7) + 0.06 * np.sin(2.5 * y + rng.uniform(0, 6))
    leg = width - np.abs(x - bend)
    image = _put(np.zeros_like(y), leg, _grained(rng.uniform(0.8, 1.0), 0.05, size, rng), rng)
    muscle = _grained(rng.uniform(0.25, 0.4), 0.15, size, rng)
    image = _put(image, width - rng.uniform(0.08, 0.16) - np.abs(x - bend), muscle, rng)
    marrow = _grained(rng.uniform(0.55, 0.85), 0.12, size, rng)
    shift, gap = rng.uniform(-0.1, 0.1), rng.uniform(0.05, 0.08)
    for end in (-1, 1):  # of the thigh, and of the shin
        half = rng.uniform(0.18, 0.24) + 0.12 * np.exp(-((y / 0.3) ** 2))
        shaft = np.minimum(half - np.abs(x - shift), end * y - gap)
        image = _put(image, shaft + 0.03, 0.6 + 0.1 * rng.random(), rng)  # cartilage
        image = _put(image, shaft + 0.012, 0.03, rng)
        image = _put(image, shaft, marrow, rng)
    for side in (-0.2, 0.2):
        image = _put(image, blob(y, x, (0.0, shift + side), (0.03, 0.1), rng), 0.08, rng)
    front = (-0.12, bend.mean() - width.mean() + 0.18)
    image = _put(image, blob(y, x, front, (0.15, 0.06), rng) + 0.012, 0.05, rng)
    image = _put(image, blob(y, x, front, (0.15, 0.06), rng), marrow, rng)
    # Both ends fade, as they leave the region that is excited.
    return np.asarray(image * np.minimum(1, (1 - np.abs(y)) / 0.12))


def _belly(size: int, rng: np.random.Generator) -> Grid:
    """A belly across: a thick ring of bright fat, organs with vessels, dark gas, and the spine."""
    y, x = _axes(size)
    extent = (rng.uniform(0.55, 0.68), rng.uniform(0.8, 0.92))
    radius = np.hypot(y / extent[0], x / extent[1])
    image = _put(
        np.zeros_like(y), (1 - radius) * extent[0], _grained(rng.uniform(0.85, 1.0), 0.04, size, rng), rng
    )
    fat = rng.uniform(0.07, 0.18)
    image = _put(image, (1 - radius) * extent[0] - fat, _grained(rng.uniform(0.2, 0.35), 0.1, size, rng), rng)
    organs = [
        ((-0.05, -0.38), (0.3, 0.3)),
        ((0.02, 0.45), (0.2, 0.14)),
        ((0.22, -0.3), (0.1, 0.14)),
        ((0.22, 0.3), (0.1, 0.14)),
    ]
    for (row, column), half in organs:
        place = (row + rng.normal(0, 0.02), column + rng.normal(0, 0.02))
        value = _grained(rng.uniform(0.3, 0.8), 0.12, size, rng)
        image = _put(image, blob(y, x, place, half, rng), value, rng)
    for _ in range(int(rng.integers(8, 18))):
        place = (rng.uniform(-0.35, 0.2), rng.uniform(-0.6, 0.6))
        extents = rng.uniform(0.02, 0.09, 2)
        image = _put(
            image, blob(y, x, place, (extents[0], extents[1]), rng), rng.choice([0.0, 0.15, 0.9]), rng
        )
    image = _put(image, blob(y, x, (0.33, 0.0), (0.13, 0.13), rng), 0.6, rng)
    return _put(image, blob(y, x, (0.36, 0.0), (0.04, 0.04), rng), 1.0, rng)


def _vessels(size: int, rng: np.random.Generator) -> Grid:
    """Thin bright vessels before tissue that is hardly seen, as angiograms show them."""
    y, x = _axes(size)
    body = blob(y, x, (0.0, 0.0), (rng.uniform(0.7, 0.85), rng.uniform(0.65, 0.8)), rng)
    image = _put(np.zeros_like(y), body, _grained(rng.uniform(0.1, 0.2), 0.25, size, rng), rng)
    inside = cover(body, size, rng)
    for _ in range(int(rng.integers(14, 26))):
        angle, course = rng.uniform(0, 2 * np.pi), rng.uniform(-0.5, 0.5, 2)
        along = np.cos(angle) * (y - course[0]) + np.sin(angle) * (x - course[1])
        across = -np.sin(angle) * (y - course[0]) + np.cos(angle) * (x - course[1])
        bends = (
            0.06 * np.sin(rng.uniform(3, 9) * along + rng.uniform(0, 6)) + rng.uniform(-0.6, 0.6) * along**2
        )
        reach, thick = rng.uniform(0.2, 0.7), rng.uniform(0.004, 0.02)
        tube = np.minimum(thick - np.abs(across - bends), 0.2 * (reach - np.abs(along)))
        image = _put(image, tube, rng.uniform(0.5, 1.0), rng)
    return np.asarray(image * inside)
