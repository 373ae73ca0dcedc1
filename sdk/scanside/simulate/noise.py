"""Receiver noise: Gaussian, correlated between coils, weaker the longer a sample takes."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from scanside.simulate.coils import CoilArray
from scanside.simulate.config import NoiseConfig

__all__ = ["NoiseModel"]


class NoiseModel:
    """Noise of the coils of an array.

    The covariance of imaging samples is what the configuration asks for. A receiver's noise power is proportional to
    its bandwidth, so that noise readouts with another sample time have ``dwell / noise dwell`` times that covariance,
    times the relative equivalent bandwidth of the receiver that the header announces. Whitening with the noise
    readouts' covariance and the factor ``sqrt(2 * dwell / noise dwell * relative bandwidth)`` thus leaves imaging
    noise of unit variance in its real and in its imaginary part (Kellman and McVeigh, Magn Reson Med 2005;54:1439).

    Attributes:
        covariance: ``(coil, coil)`` complex128, ``E[n n^H]`` of imaging samples; real and imaginary part have half.
        noise_scan_covariance: the same for samples of the noise readouts.
    """

    def __init__(self, config: NoiseConfig, coils: CoilArray, dwell_us: float) -> None:
        rng = np.random.default_rng([config.seed, 3])
        levels = np.exp(config.spread * rng.standard_normal(coils.n_coils))
        levels *= config.std / np.sqrt(np.mean(levels**2))
        phases = np.exp(2j * np.pi * rng.random(coils.n_coils))
        shape = _correlation(coils.centers_mm, config.neighbour_correlation)
        weights = levels * phases
        self.covariance = 2 * weights[:, None] * shape * weights.conj()
        ratio = dwell_us / config.dwell_us * config.relative_receiver_bandwidth
        self.noise_scan_covariance = self.covariance * ratio
        self._factor = (weights[:, None] * np.linalg.cholesky(shape)).astype(np.complex64)
        self._noise_scan_factor = (self._factor * np.sqrt(ratio)).astype(np.complex64)

    def draw(
        self, rng: np.random.Generator, n: int, n_samples: int, *, noise_scan: bool = False
    ) -> npt.NDArray[np.complex64]:
        """Noise ``(n, coil, sample)`` of imaging readouts, or of noise readouts."""
        factor = self._noise_scan_factor if noise_scan else self._factor
        parts = rng.standard_normal((n, len(factor), n_samples, 2), dtype=np.float32)
        return np.asarray(factor @ parts.view(np.complex64)[..., 0])


def _correlation(centers: npt.NDArray[np.float64], neighbour: float) -> npt.NDArray[np.float64]:
    """Correlation that falls exponentially with distance, `neighbour` for the closest two: positive definite."""
    distance = np.linalg.norm(centers[:, None] - centers, axis=2)
    if neighbour == 0 or len(centers) == 1:
        return np.eye(len(centers))
    closest = distance[~np.eye(len(centers), dtype=bool)].min()
    return np.asarray(neighbour ** (distance / closest))
