"""Coil sensitivities of many arrays: measured ones put together anew, and loops by Biot and Savart."""

from __future__ import annotations

import math
from functools import cache
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from pydantic import model_validator
from torch import Tensor

from scanside.datasets.matlab import read_matlab
from scanside.simulate import CoilConfig
from scanside.simulate.coils import CoilArray
from scanside_training.data.resample import Placement, sample_at, smooth_field
from scanside_training.data.roots import data_file
from scanside_training.data.settings import IntRange, Probability, Settings

__all__ = ["CoilsConfig", "measured_maps", "random_maps"]

MEASURED = "coil-maps-32ch/xGT.mat"

_COARSE = 32
"""Points along each axis at which sensitivities are computed; they are smooth."""


class CoilsConfig(Settings):
    """Which arrays receive."""

    n_coils: IntRange = (8, 8)
    """Number of coils, the same within a batch. One coil is uniform."""
    measured: Probability = 0.5
    """How often the coils come from 32 measured ones, of which a part or linear combinations are taken; otherwise
    they are simulated loops."""
    root: Path | None = None
    """Folder of all data; default is ``$SCANSIDE_DATA``, else ``../shared/data``."""

    @model_validator(mode="after")
    def _possible(self) -> CoilsConfig:
        if self.n_coils[0] < 1:
            raise ValueError(f"n_coils starts at 1, got {self.n_coils}")
        if self.measured and self.n_coils[1] > 32:
            raise ValueError(
                f"n_coils goes up to {self.n_coils[1]}, but there are 32 measured coils: set measured to 0, "
                "or n_coils to 32 at most"
            )
        return self

    def load(self) -> Tensor | None:
        """The measured maps, where they are used.

        Raises:
            ConfigError: the file is not there.
        """
        if not self.measured or self.n_coils[1] == 1:
            return None
        return measured_maps(data_file(self.root, MEASURED))


@cache
def measured_maps(path: Path) -> Tensor:
    """The 32 measured maps, complex64 ``(coil, y, x)``.

    Raises:
        FileFormatError: it is not the file that it should be.
    """
    maps = read_matlab(path)["S"][:, :, 0]
    return torch.from_numpy(np.ascontiguousarray(np.moveaxis(maps, -1, 0), np.complex64))


def random_maps(
    config: CoilsConfig,
    measured: Tensor | None,
    n_coils: int,
    shape: tuple[int, int],
    rng: np.random.Generator,
) -> Tensor:
    """Maps of an array around the object.

    Args:
        config: how often which kind is drawn.
        measured: ``config.load()``.
        n_coils: number of coils.
        shape: pixels (y, x) of the whole field of view.
        rng: draws the array, and where it lies.

    Returns:
        Complex64 ``(coil, y, x)`` with ``Σ_coil |map|² = 1`` everywhere, as maps from calibration data have it.
    """
    if n_coils == 1:
        return torch.ones(1, *shape, dtype=torch.complex64)
    pick = measured is not None and rng.random() < config.measured
    coarse = _recombined(measured, n_coils, shape, rng) if pick and measured is not None else None
    maps = smooth_field(_loops(n_coils, shape, rng) if coarse is None else coarse, shape)
    power = (maps.real.square() + maps.imag.square()).sum(0)
    return maps * power.clamp_min(torch.finfo(torch.float32).tiny).rsqrt()


def _recombined(measured: Tensor, n_coils: int, shape: tuple[int, int], rng: np.random.Generator) -> Tensor:
    """Some of the measured coils, or the strongest combinations of all, ``(coil, coarse, coarse)``."""
    # The longer axis spans the measured field of view more or less; turned and mirrored as it comes.
    span = measured.shape[-1] * rng.uniform(0.85, 1.15)
    step = span / max(shape) * np.array(shape) / _COARSE
    turn = rng.integers(4) * math.pi / 2 + rng.uniform(-0.3, 0.3)
    step[0] *= -1 if rng.integers(2) else 1
    middle = (measured.shape[-2] // 2, measured.shape[-1] // 2)
    placement = Placement(
        pixels=(float(step[0]), float(step[1])),
        angle=float(turn),
        center=(middle[0] + rng.uniform(-6, 6), middle[1] + rng.uniform(-6, 6)),
    )
    maps = sample_at(measured, placement.points((_COARSE, _COARSE)), beyond="border")
    if rng.random() < 0.5:
        chosen = maps[torch.from_numpy(rng.choice(len(maps), n_coils, replace=False))]
    else:  # principal components: what coil compression leaves of a large array
        flat = maps.flatten(1)
        vectors = torch.linalg.eigh(flat @ flat.mH).eigenvectors[:, -n_coils:]
        chosen = (vectors.mH @ flat).reshape(n_coils, *maps.shape[1:])
    if rng.random() < 0.5:
        return chosen
    mixed: Tensor = (_random_unitary(n_coils, rng) @ chosen.flatten(1)).reshape(chosen.shape)
    return mixed


def _loops(n_coils: int, shape: tuple[int, int], rng: np.random.Generator) -> Tensor:
    """Loops around a head-sized object, on a plane somewhere in the array, ``(coil, coarse, coarse)``."""
    center = tuple(float(v) for v in rng.normal(0, 10, 3))
    fov = 256.0 * np.array(shape) / max(shape)
    # Beyond the loops sensitivities are wild: they keep their distance from an object that fills the field of view.
    radius = 256.0 * rng.uniform(0.6, 0.8)
    array = CoilArray(
        CoilConfig(
            n_coils=n_coils,
            radius_mm=radius,
            center_mm=(center[0], center[1], center[2]),
        ),
        default_radius_mm=radius,
    )
    y, x = ((np.arange(_COARSE) / (_COARSE - 1) - 0.5) * extent for extent in fov)
    plane = np.stack(np.broadcast_arrays(x[None, :], y[:, None], np.float64(rng.uniform(-50, 50))))
    points = np.einsum("ij,j...->i...", _rotation(rng), plane)
    maps = array.sensitivities(points.astype(np.float32))
    phases = np.exp(2j * np.pi * rng.random(n_coils)).astype(np.complex64)
    return torch.from_numpy(maps * phases[:, None, None])


def _rotation(rng: np.random.Generator) -> npt.NDArray[np.float64]:
    """Any turn about the array's axis, and a tilt as oblique slices have it."""
    turn, tilt = rng.uniform(0, 2 * np.pi), rng.normal(0, 0.35)
    about_z = np.array([[np.cos(turn), -np.sin(turn), 0], [np.sin(turn), np.cos(turn), 0], [0, 0, 1]])
    about_x = np.array([[1, 0, 0], [0, np.cos(tilt), -np.sin(tilt)], [0, np.sin(tilt), np.cos(tilt)]])
    rotation: npt.NDArray[np.float64] = about_z @ about_x
    return rotation


def _random_unitary(n: int, rng: np.random.Generator) -> Tensor:
    """From the QR decomposition of a Gaussian matrix; phases need not be fixed, as coils have any."""
    gaussian = rng.standard_normal((2, n, n))
    return torch.from_numpy(np.linalg.qr(gaussian[0] + 1j * gaussian[1])[0].astype(np.complex64))
