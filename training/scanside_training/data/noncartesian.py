"""The task of networks for samples anywhere in k-space: slices scanned along spokes and spiral arms."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar, Literal

import numpy as np
import torch
from pydantic import Field, model_validator
from torch import Tensor

from scanside.errors import CalibrationError
from scanside.recon.noncartesian.centre import centre_on_grid
from scanside.recon.noncartesian.density import (
    acceleration_of,
    gridded_noise,
    interleaved_density,
    within_cells,
)
from scanside.recon.noncartesian.nufft import Nufft
from scanside.recon.noncartesian.toeplitz import split_kernel, toeplitz_kernel
from scanside.recon.scaling import image_scale
from scanside.simulate.config import TrajectoryConfig
from scanside.simulate.trajectories import trajectory
from scanside_training.data.appearance import random_appearance
from scanside_training.data.calibration import espirit_maps
from scanside_training.data.coils import random_maps
from scanside_training.data.placement import random_pose
from scanside_training.data.scanned import combined
from scanside_training.data.settings import FloatRange, IntRange
from scanside_training.data.simulation import (
    Drawn,
    Sample,
    TaskConfig,
    complex_of,
    object_of,
    real_pairs,
    white,
)

__all__ = ["NonCartesianTask", "ScannedAnywhere"]

_FIRST = 100_000
"""Of golden-angle scans any stretch may be reconstructed: the number of the first spoke is drawn below this."""


@dataclass(frozen=True)
class ScannedAnywhere:
    """A slice as an imaginary scanner acquired it; intensities are the slice's own.

    Attributes:
        samples: ``(coil, n)`` complex.
        points: ``(readout, sample, 2)`` along k1 and k0, in cycles per voxel.
        weights: ``(readout, sample)`` of data consistency.
        maps: ``(coil, k1, k0)`` complex, those that the network gets.
        target: ``(k1, k0)`` complex, the noise-free coil images combined with the maps.
        noise: standard deviation of the real and imaginary part of the noise in a sample.
    """

    samples: Tensor
    points: Tensor
    weights: Tensor
    maps: Tensor
    target: Tensor
    noise: float

    @cached_property
    def adjoint(self) -> Tensor:
        """``Aᴴ W y``, complex ``(k1, k0)``."""
        transform = Nufft(self.points.flatten(0, 1), self.target.shape)
        return combined(transform.adjoint(self.samples * self.weights.flatten()), self.maps)


class NonCartesianTask(TaskConfig):
    """The network gets ``Aᴴ W y``, coil maps and the Toeplitz kernel of the trajectory.

    Of the simulation ``masks`` do not count, and whole images are needed (``readout_crop: null``). W is the density
    compensation, no more than the grid's cells (`scanside.recon.noncartesian.density.within_cells`).
    """

    one_by_one: ClassVar = True

    kind: Literal["noncartesian"] = "noncartesian"

    trajectories: tuple[Literal["radial", "spiral"], ...] = Field(default=("radial", "spiral"), min_length=1)
    """Drawn with equal weight: golden-angle spokes from any on, or spiral arms."""
    acceleration: FloatRange = (3.0, 16.0)
    """Spokes that would sample k-space fully, π/2 times the matrix, over those that are acquired. Logarithms are
    drawn with equal weight."""
    arms: IntRange = (4, 16)
    """Spiral arms that are acquired."""
    arms_acceleration: FloatRange = (1.5, 6.0)
    """Arms that would sample k-space fully to its edge over those that are acquired; drawn like `acceleration`."""
    calibration: int = Field(default=16, ge=8)
    """Edge of the block of k-space that maps are estimated from, as often as ``simulation.espirit`` says. Of scans
    whose centre has gaps, the network gets the true maps."""

    @model_validator(mode="after")
    def _possible(self) -> NonCartesianTask:
        for name in ("acceleration", "arms_acceleration"):
            if getattr(self, name)[0] < 1:
                raise ValueError(
                    f"{name} starts at 1, where k-space is fully sampled, got {getattr(self, name)}"
                )
        return self

    def sample(self, pixels: Tensor, drawn: Drawn) -> Sample:
        """Scan a slice: what `scanside_training.data.simulate_sample` gives, with ``points`` ``(readout, sample, 2)``
        along k1 and k0 in cycles per voxel and their kernel ``toeplitz`` ``(2, 2, k1, k0)`` instead of a mask.
        """
        scan = self.scanned(pixels, drawn)
        image, scale = scan.adjoint, image_scale(scan.adjoint)
        grid, weights = scan.target.shape, scan.weights.flatten()
        return {
            "image": real_pairs(image / scale),
            "target": real_pairs(scan.target / scale),
            "maps": real_pairs(scan.maps),
            "toeplitz": split_kernel(toeplitz_kernel(scan.points.flatten(0, 1), grid, weights)),
            "points": scan.points,
            "roi": object_of(scan.target)[None].float(),
            "scale": scale,
            "noise": scan.noise * gridded_noise(weights, grid) / scale,
        }

    def scanned(self, pixels: Tensor, drawn: Drawn) -> ScannedAnywhere:
        """Scan a slice ``(y, x)``, real or complex, of any size."""
        config, rng, grid = drawn.config, drawn.rng, drawn.grid
        appearing = random_appearance(config.appearance, complex_of(pixels), rng)
        object_ = random_pose(config.placement, appearing, grid, rng).scan_of(appearing)
        maps = random_maps(config.coils, drawn.measured, drawn.shape.n_coils, grid, rng)
        coils = maps * object_
        noise = float(image_scale(object_)) / math.exp(rng.uniform(*np.log(config.snr)))
        points = self._points(grid, rng)
        samples = Nufft(points.flatten(0, 1), grid).forward(coils)
        samples += noise * white(tuple(samples.shape), rng)
        if len(maps) > 1 and rng.random() < config.espirit.probability:
            try:
                block = centre_on_grid(samples, points.flatten(0, 1), grid, self.calibration)
            except CalibrationError:  # too few readouts: such scans have their maps from elsewhere
                pass
            else:
                maps = espirit_maps(config.espirit, block, grid)
        return ScannedAnywhere(
            samples, points, self.weights(points, grid), maps, combined(coils, maps), noise
        )

    def accelerations(self, grid: tuple[int, int], n: int, rng: np.random.Generator) -> list[float]:
        """`scanside.recon.noncartesian.density.acceleration_of` some trajectories that it draws."""
        return [acceleration_of(self.weights(self._points(grid, rng), grid), grid) for _ in range(n)]

    @staticmethod
    def weights(points: Tensor, grid: tuple[int, int]) -> Tensor:
        """Of data consistency ``(readout, sample)``, for points ``(readout, sample, 2)``."""
        return within_cells(interleaved_density(points, grid), points, grid)

    def _points(self, grid: tuple[int, int], rng: np.random.Generator) -> Tensor:
        """A trajectory ``(readout, sample, 2)`` along k1 and k0, in cycles per voxel."""
        size = max(grid)
        kind = self.trajectories[int(rng.integers(len(self.trajectories)))]
        first = int(rng.integers(_FIRST))
        if kind == "radial":
            n = max(round(math.pi / 2 * size / _log_uniform(self.acceleration, rng)), 2)
            config = TrajectoryConfig(kind="radial", angles="golden", readouts=n)
            n_samples = 2 * size
        else:
            n = int(rng.integers(*self.arms, endpoint=True))
            full = max(round(n * _log_uniform(self.arms_acceleration, rng)), n)
            turned: Literal["golden", "uniform"] = "golden" if rng.random() < 0.5 else "uniform"
            config = TrajectoryConfig(kind="spiral", angles=turned, readouts=n, full=full)
            # Along an arm samples lie as close as on the grid, or closer.
            n_samples = math.ceil(1.3 * math.pi / 4 * size**2 / full)
        points = trajectory(config, (size, size, 1), n_samples, np.arange(first, first + n))[..., 1::-1]
        return torch.from_numpy(np.ascontiguousarray(points, np.float32))


def _log_uniform(bounds: tuple[float, float], rng: np.random.Generator) -> float:
    return math.exp(rng.uniform(*np.log(bounds)))
