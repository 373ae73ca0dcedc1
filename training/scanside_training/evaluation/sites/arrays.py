"""Receive arrays whose geometry is not that of training: loops by Biot and Savart, and measured maps resampled."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from scanside.simulate.coils import loop_field
from scanside_training.data.coils import MEASURED, measured_maps
from scanside_training.data.resample import sample_at, smooth_field
from scanside_training.data.roots import data_file
from scanside_training.evaluation.sites.plan import Array

__all__ = ["drawn_maps"]

_COARSE = 72
"""Points along each axis at which sensitivities are computed; they are smooth where there is tissue."""

_CLEARANCE_MM = 35.0
"""Distance of the wires from the tissue: cushion and housing."""

_COLUMNS = 4
"""Loops beside each other in a plane; more of them lie across the slice."""

_HEIGHT_MM = 150.0
"""Extent of an array across the slice."""

Vector = npt.NDArray[np.float64]


class _Loop(NamedTuple):
    """A circular coil: centre in mm, unit vector along its axis, radius in mm."""

    center: Vector
    normal: Vector
    radius: float


def drawn_maps(
    kind: Array,
    n_coils: int,
    span_mm: tuple[float, float],
    half_mm: tuple[float, float],
    shape: tuple[int, int],
    root: Path | None,
    rng: np.random.Generator,
) -> Tensor:
    """Sensitivities on the pixels of a plane.

    Args:
        kind: geometry of the array; a ring of one coil is a body coil, alike everywhere.
        n_coils: number of coils.
        span_mm: extent (y, x) of the plane, whose middle is the origin.
        half_mm: half the extent (y, x) of the object, which loops stay clear of.
        shape: pixels (y, x).
        root: folder of all data, for measured maps.
        rng: draws the array.

    Returns:
        Complex64 ``(coil, y, x)``.

    Raises:
        ConfigError: the measured maps are not there.
    """
    if kind == "ring" and n_coils == 1:
        return torch.ones(1, *shape, dtype=torch.complex64)
    if kind == "measured":
        coarse = _measured(n_coils, root, rng)
    else:
        loops = {"ring": _ring, "flat": _flat, "body": _two_planes, "unequal": _unequal}[kind]
        coarse = _fields(list(loops(n_coils, half_mm, rng)), span_mm, rng)
    phases = torch.from_numpy(np.exp(2j * np.pi * rng.random(n_coils)).astype(np.complex64))
    return smooth_field(coarse * phases[:, None, None], shape)


def _measured(n_coils: int, root: Path | None, rng: np.random.Generator) -> Tensor:
    """Some of the measured coils, stretched over the plane."""
    measured = measured_maps(data_file(root, MEASURED))
    chosen = measured[torch.from_numpy(np.sort(rng.choice(len(measured), n_coils, replace=False)))]
    rows, columns = (
        torch.linspace(0.5 - reach, 0.5 + reach, _COARSE) * (n - 1)
        for reach, n in zip(rng.uniform(0.4, 0.55, 2), measured.shape[-2:], strict=True)
    )
    return sample_at(chosen, torch.stack(torch.meshgrid(rows, columns, indexing="ij"), -1), beyond="border")


def _fields(loops: list[_Loop], span_mm: tuple[float, float], rng: np.random.Generator) -> Tensor:
    """Transverse fields ``(coil, coarse, coarse)`` on a plane near the middle of the array."""
    y, x = (np.linspace(-0.5, 0.5, _COARSE) * extent for extent in span_mm)
    moved = rng.normal(0, 8, 3)
    points = np.stack(np.broadcast_arrays(x[None] + moved[0], y[:, None] + moved[1], np.float64(moved[2])))
    fields = [loop_field(points, *loop) for loop in loops]
    return torch.from_numpy(np.stack([field[0] - 1j * field[1] for field in fields]).astype(np.complex64))


def _ring(n_coils: int, half_mm: tuple[float, float], rng: np.random.Generator) -> Iterator[_Loop]:
    """Loops on an elliptic former, closer or farther than heads have it, in up to four rows."""
    half_y, half_x = (half * rng.uniform(1.05, 1.5) + _CLEARANCE_MM for half in half_mm)
    n_rows = max(n_coils // 8, 1)
    per_row = n_coils // n_rows
    radius = (
        rng.uniform(0.4, 0.65) * 2 * math.pi * math.hypot(half_x, half_y) / math.sqrt(2) / max(per_row, 4)
    )
    turn = rng.uniform(0, 2 * math.pi)
    for coil in range(n_coils):
        row, place = divmod(coil, per_row)
        angle = turn + 2 * math.pi * (place + 0.5 * row) / per_row
        height = (row - (n_rows - 1) / 2) * 1.7 * radius
        outward = np.array([math.cos(angle) / half_x, math.sin(angle) / half_y, 0.0])
        center = np.array([half_x * math.cos(angle), half_y * math.sin(angle), height])
        yield _Loop(center, outward / np.linalg.norm(outward), radius)


def _flat(n_coils: int, half_mm: tuple[float, float], rng: np.random.Generator) -> Iterator[_Loop]:
    """Loops in a plane below the object, as a table has them: what lies far above is hardly heard."""
    yield from _plane(n_coils, 1, half_mm, rng)


def _two_planes(n_coils: int, half_mm: tuple[float, float], rng: np.random.Generator) -> Iterator[_Loop]:
    """Loops in the table, and in a mat upon the body."""
    above = n_coils - n_coils // 2
    yield from _plane(above, -1, half_mm, rng)
    yield from _plane(n_coils - above, 1, half_mm, rng)


def _plane(
    n_coils: int, side: int, half_mm: tuple[float, float], rng: np.random.Generator
) -> Iterator[_Loop]:
    if not n_coils:
        return
    per_row = min(n_coils, _COLUMNS)
    n_rows = -(-n_coils // per_row)
    pitch = 2 * half_mm[1] * rng.uniform(0.9, 1.2) / per_row
    distance = half_mm[0] + _CLEARANCE_MM * rng.uniform(0.8, 1.6)
    for coil in range(n_coils):
        row, place = divmod(coil, per_row)
        along = (place - (per_row - 1) / 2) * pitch
        height = (row - (n_rows - 1) / 2) * _HEIGHT_MM / n_rows
        yield _Loop(
            np.array([along, side * distance, height]), np.array([0.0, side, 0.0]), max(0.6 * pitch, 30.0)
        )


def _unequal(n_coils: int, half_mm: tuple[float, float], rng: np.random.Generator) -> Iterator[_Loop]:
    """Loops of all sizes at places of chance around the object: large ones hear deep, small ones the surface."""
    for coil in range(n_coils):
        angle = 2 * math.pi * (coil + rng.uniform(-0.4, 0.4)) / n_coils
        out = rng.uniform(1.0, 1.3)
        half_y, half_x = (half * out + _CLEARANCE_MM for half in half_mm)
        center = np.array(
            [half_x * math.cos(angle), half_y * math.sin(angle), rng.uniform(-0.5, 0.5) * _HEIGHT_MM]
        )
        normal = np.array([math.cos(angle), math.sin(angle), 0.0]) + rng.normal(0, 0.25, 3)
        yield _Loop(
            center, normal / np.linalg.norm(normal), math.exp(rng.uniform(math.log(40), math.log(110)))
        )
