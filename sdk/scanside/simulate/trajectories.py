"""Trajectories of simulated scans that do not follow the lines of a grid."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from scanside.mrd.dtypes import Headers
from scanside.simulate.config import SamplingConfig, TrajectoryConfig
from scanside.simulate.geometry import ScanGrid

__all__ = ["GOLDEN_ANGLE", "TrajectoryReadouts", "trajectory"]

Points = npt.NDArray[np.float64]

GOLDEN_ANGLE = math.pi * (math.sqrt(5) - 1) / 2
"""111.246°: each spoke falls into the largest gap that those before have left (Winkelmann et al., IEEE Trans Med
Imaging 2007;26:68)."""

_TURNS = 20_000  # points along a spiral, of which samples are taken at equal lengths
_FULL_RADIUS = 0.1  # in cycles per voxel: where arms begin to lie further apart


@dataclass(frozen=True)
class TrajectoryReadouts:
    """Which points of k-space the readouts of a scan sample.

    Attributes:
        config: the trajectory.
        grid: of the scan.
        n_samples: of a readout.
        dwell_us: sample time.
    """

    config: TrajectoryConfig
    grid: ScanGrid
    n_samples: int
    dwell_us: float

    @classmethod
    def of(cls, sampling: SamplingConfig, grid: ScanGrid, dwell_us: float) -> TrajectoryReadouts | None:
        """That of a scan; None where its readouts are lines of a grid."""
        config = sampling.trajectory
        if config is None:
            return None
        return cls(config, grid, config.samples or grid.encoded_matrix[0], dwell_us)

    @property
    def n_turning(self) -> int:
        """Axes, x first, in which readouts point in all directions."""
        return 3 if self.config.kind == "koosh-ball" else 2

    def nominal(self, headers: Headers) -> Points:
        """Points ``(n, sample, 3)`` of readouts as they are planned, (x, y, z) in cycles per encoded voxel."""
        idx = headers["idx"]
        number = idx["kspace_encode_step_1"].astype(np.int64)
        if self.config.angles == "golden" or self.config.kind == "koosh-ball":
            number = number + idx["repetition"].astype(np.int64) * self.config.readouts
        points = trajectory(self.config, self.grid.recon_matrix, self.n_samples, number)
        if self.config.kind == "stack-of-stars":
            n = self.grid.encoded_matrix[2]
            points[..., 2] = ((idx["kspace_encode_step_2"].astype(np.int64) - n // 2) / n)[:, None]
        return points

    def points(self, headers: Headers) -> Points:
        """Points ``(n, sample, 3)`` of readouts as gradients that lag behind and eddy currents make them."""
        nominal = self.nominal(headers)
        (x, y), xy = self.config.delay, self.config.delay_xy
        lag = np.array([[x, xy, 0.0], [xy, y, 0.0], [0.0, 0.0, 0.0]])
        made = nominal - np.gradient(nominal, axis=1) @ lag if lag.any() else nominal
        return made - self._taken_by_eddy_currents(nominal) if any(self.config.eddy_share) else made

    def _taken_by_eddy_currents(self, nominal: Points) -> Points:
        """What eddy currents take of k: the gradient, weighed with their decay, summed over all that was before."""
        share, decay = np.array([*self.config.eddy_share, 0.0]), np.array([*self.config.eddy_us, 1.0])
        decay = decay / self.dwell_us
        gradient = np.diff(nominal, axis=1)
        kept = np.exp(-1 / decay)
        begins = np.linalg.norm(nominal[:, 0], axis=-1) < np.linalg.norm(gradient[:, 0], axis=-1) / 2
        summed = np.where(begins[:, None], 0.0, gradient[:, 0] * decay)
        taken = np.empty_like(nominal)
        taken[:, 0] = summed
        for i in range(1, nominal.shape[1]):
            summed = summed * kept + gradient[:, i - 1] * decay * (1 - kept)
            taken[:, i] = summed
        return share * taken

    def written(self, headers: Headers) -> npt.NDArray[np.float32]:
        """The trajectory ``(n, sample, 2 or 3)`` that readouts carry, in the unit of the configuration."""
        matrix, fov_mm = np.array(self.grid.encoded_matrix), np.array(self.grid.encoded_fov_mm)
        unit = {
            "voxel": np.ones(3),
            "radian": np.full(3, 2 * np.pi),
            "matrix": matrix.astype(float),
            "metre": 1e3 * matrix / fov_mm,
        }[self.config.unit]
        return np.asarray((self.nominal(headers) * unit)[..., : self.n_turning], dtype=np.float32)


def trajectory(
    config: TrajectoryConfig, matrix: tuple[int, int, int], n_samples: int, number: npt.NDArray[np.int64]
) -> Points:
    """Points ``(n, sample, 3)`` of readouts, along (x, y, z) in cycles per voxel.

    Args:
        config: which trajectory.
        matrix: of the image over the field of view (x, y, z).
        n_samples: of a readout.
        number: ``(n,)`` of the readouts, counted from the beginning of the scan.
    """
    if config.kind == "koosh-ball":
        return _ball(number)[:, None, :] * _through(n_samples)[:, None]
    spiral = config.kind == "spiral"
    arm = (
        _arm(matrix[0], config.readouts, config.full or config.readouts, n_samples)
        if spiral
        else _through(n_samples)
    )
    around = 2 * math.pi if spiral or config.angles == "full-circle" else math.pi
    step = GOLDEN_ANGLE if config.angles == "golden" else around / config.readouts
    turned = np.exp(1j * step * number)[:, None] * arm
    return np.stack([turned.real, turned.imag, np.zeros_like(turned.real)], axis=-1)


def _through(n_samples: int) -> Points:
    """Distance from the centre along a spoke through it, ``(sample)``."""
    return np.asarray((np.arange(n_samples) - n_samples // 2) / n_samples)


def _arm(matrix: int, readouts: int, full: int, n_samples: int) -> npt.NDArray[np.complex128]:
    """A spiral from the centre to the edge, sampled at equal lengths, ``(sample)``.

    All arms together pass at the distance that the field of view asks for in the middle of k-space, and further and
    further apart towards the edge, there as many times as arms are missing: Kim, Adalsteinsson, Spielman, *Simple
    analytic variable density spiral design*, Magn Reson Med 50:214-219 (2003).
    """
    radius = np.linspace(0, 0.5, _TURNS)
    outwards = np.clip((radius - _FULL_RADIUS) / (0.5 - _FULL_RADIUS), 0, 1)
    apart = (readouts + (full - readouts) * outwards) / matrix
    angle = _summed(2 * math.pi / apart, radius)
    length = _summed(np.hypot(1, radius * 2 * math.pi / apart), radius)
    at = np.interp(np.linspace(0, length[-1], n_samples), length, radius)
    return np.asarray(at * np.exp(1j * np.interp(at, radius, angle)))


def _summed(rate: Points, over: Points) -> Points:
    """The integral up to every point, by trapezoids."""
    return np.concatenate([[0], np.cumsum((rate[1:] + rate[:-1]) / 2 * np.diff(over))])


def _ball(number: npt.NDArray[np.int64]) -> Points:
    """Directions ``(n, 3)`` that cover a half sphere evenly in every stretch of the scan.

    Chan, Ramsay, Cunningham, Plewes: *Temporal stability of adaptive 3D radial MRI using multidimensional golden
    means*, Magn Reson Med 61:354-363 (2009).
    """
    height = (number * 0.46557123187676) % 1
    azimuth = 2 * math.pi * ((number * 0.6823278038280193) % 1)
    across = np.sqrt(1 - height**2)
    return np.stack([across * np.cos(azimuth), across * np.sin(azimuth), height], axis=-1)
