"""Noise covariance of the receive coils, and the linear map that makes their noise white.

Pruessmann et al., "Advances in sensitivity encoding with arbitrary k-space trajectories", MRM 46:638 (2001),
appendix A (noise decorrelation by the Cholesky factor); Kellman and McVeigh, "Image reconstruction in SNR
units", MRM 54:1439 (2005) (the scaling).

These functions work on readouts, so they take and give NumPy arrays; torch tensors on the CPU are taken too.
"""

from __future__ import annotations

import logging
import math

import numpy as np
import numpy.typing as npt

from scanside.errors import CalibrationError, NonFiniteError, ShapeError

__all__ = ["NoiseStatistics", "dead_channels", "noise_covariance", "whiten", "whitening_matrix"]

_log = logging.getLogger(__name__)

#: A channel whose noise power lies below this fraction of the median channel's is dead: its amplitude would
#: be a thousandth of the others', which no difference in gain explains.
_DEAD = 1e-6

#: A covariance whose smallest eigenvalue, at equal channel gains, lies below this is singular in practice.
_SINGULAR = 1e-10


class NoiseStatistics:
    """A running estimate of the noise covariance from readouts that hold noise only.

    The mean is taken to be zero, as it is for noise; the estimate divides by the number of samples.
    """

    def __init__(self) -> None:
        self._sum: npt.NDArray[np.complex128] | None = None
        self._n_samples = 0

    @property
    def n_samples(self) -> int:
        """Samples per coil seen so far."""
        return self._n_samples

    def add(self, readouts: npt.ArrayLike) -> None:
        """Take in noise readouts; nothing of them is kept but their sums.

        Args:
            readouts: complex samples ``(n, coil, sample)``; different calls may differ in ``n`` and
                ``sample``.

        Raises:
            ShapeError: if there are not three axes, or the number of coils changed.
            NonFiniteError: if a sample is NaN or infinite.
        """
        samples = np.asarray(readouts).astype(np.complex128)
        if samples.ndim != 3:
            raise ShapeError(f"noise readouts must be (n, coil, sample), got shape {samples.shape}")
        n, n_coils, n_samples = samples.shape
        if self._sum is None:
            self._sum = np.zeros((n_coils, n_coils), np.complex128)
        elif len(self._sum) != n_coils:
            raise ShapeError(
                f"noise readouts with {n_coils} coils follow others with {len(self._sum)}: "
                "one covariance needs the same coils throughout"
            )
        per_coil = samples.transpose(1, 0, 2).reshape(n_coils, n * n_samples)
        total = per_coil @ per_coil.conj().T
        if not np.isfinite(total).all():
            bad = sorted({int(coil) for coil in np.nonzero(~np.isfinite(per_coil))[0]})
            raise NonFiniteError(f"noise readouts hold NaN or infinite samples in coils {bad}")
        self._sum += total
        self._n_samples += n * n_samples

    def covariance(self) -> npt.NDArray[np.complex128]:
        """The estimate so far: ``(coil, coil)``, Hermitian, the mean of ``sample · conj(sample)ᵀ``.

        Raises:
            CalibrationError: if no noise sample has been added.
        """
        if self._sum is None or not self._n_samples:
            raise CalibrationError("no noise samples to estimate a covariance from")
        covariance = self._sum / self._n_samples
        return (covariance + covariance.conj().T) / 2


def noise_covariance(readouts: npt.ArrayLike) -> npt.NDArray[np.complex128]:
    """The noise covariance of one block of noise readouts.

    Args:
        readouts: complex samples ``(n, coil, sample)`` that hold noise only.

    Returns:
        ``(coil, coil)`` complex128; entry ``(a, b)`` is the mean of ``sample_a · conj(sample_b)``.

    Raises:
        CalibrationError: if there are no samples.
        ShapeError: if there are not three axes.
        NonFiniteError: if a sample is NaN or infinite.
    """
    statistics = NoiseStatistics()
    statistics.add(readouts)
    return statistics.covariance()


def dead_channels(covariance: npt.NDArray[np.complex128]) -> list[int]:
    """The channels without noise: disconnected, or filled with zeros by a converter.

    Args:
        covariance: ``(coil, coil)``.

    Returns:
        Their indices: those whose noise amplitude is less than a thousandth of that of the median channel.
    """
    power = covariance.diagonal().real
    # The median of the live channels: a scan in which most channels are dead must not pass for one in which
    # all are weak.
    typical = float(np.median(power[power > 0])) if (power > 0).any() else 0.0
    found: list[int] = np.flatnonzero(power <= _DEAD * typical).tolist()
    return found


def whitening_matrix(
    covariance: npt.NDArray[np.complex128],
    *,
    noise_dwell_us: float = 1.0,
    dwell_us: float = 1.0,
    receiver_bandwidth_ratio: float = 1.0,
) -> npt.NDArray[np.complex128]:
    """The matrix that makes noise white, with unit variance in the real and in the imaginary part.

    ``W = sqrt(2 · ratio · dwell / noise_dwell) · L⁻¹`` with the Cholesky factor ``covariance = L·Lᴴ``. Noise
    power is proportional to the bandwidth, hence to the reciprocal of the dwell time, which differs between
    noise scan and imaging scan; and the noise scan sees the receiver's whole band, whose edges are
    attenuated, so that its mean power is ``ratio`` times that of the band's middle, where the image lies.

    A channel without noise is an error, as whitening would blow up whatever it holds. A covariance that is
    singular otherwise (fewer samples than coils, channels that depend on each other) gets the smallest
    useful diagonal loading, with a warning in the log.

    Args:
        covariance: ``(coil, coil)`` Hermitian, from `noise_covariance`.
        noise_dwell_us: time between samples of the noise scan, in µs.
        dwell_us: time between samples of the data to be whitened, in µs.
        receiver_bandwidth_ratio: relative receiver noise bandwidth, as the scan's header gives it; at most 1.

    Returns:
        ``(coil, coil)`` complex128, lower triangular.

    Raises:
        ShapeError: if the covariance is not square.
        NonFiniteError: if the covariance is not finite.
        CalibrationError: if coils are without noise (it names them), or a time or the ratio is not positive.
    """
    covariance = np.asarray(covariance, np.complex128)
    if covariance.ndim != 2 or covariance.shape[0] != covariance.shape[1]:
        raise ShapeError(f"a noise covariance must be (coil, coil), got shape {covariance.shape}")
    if not np.isfinite(covariance).all():
        raise NonFiniteError("the noise covariance holds NaN or infinity: check the noise readouts")
    for name, value in (
        ("noise_dwell_us", noise_dwell_us),
        ("dwell_us", dwell_us),
        ("receiver_bandwidth_ratio", receiver_bandwidth_ratio),
    ):
        if not (value > 0 and math.isfinite(value)):
            raise CalibrationError(
                f"{name} is {value}, expected a positive number: "
                "where a header does not tell, give both dwell times the same value and the ratio 1"
            )

    power = covariance.diagonal().real
    dead = dead_channels(covariance)
    if dead:
        raise CalibrationError(
            f"coils {dead} of {len(power)} have no noise (largest variance of these {power[dead].max():.3g}, of all "
            f"{power.max():.3g}): they are disconnected or empty; give covariance and data without them"
        )

    # Equal gains first, so that a weak channel is not taken for a singular direction.
    gain = np.sqrt(power)
    correlation = covariance / np.outer(gain, gain)
    smallest = float(np.linalg.eigvalsh(correlation)[0])
    if smallest < _SINGULAR:
        loading = 1e-6 - min(smallest, 0.0)
        _log.warning(
            "the noise covariance of %d coils is singular (smallest eigenvalue of the correlation %.1e): "
            "loading its diagonal by %.1e; take more noise samples or leave out coils that depend on others",
            len(power),
            smallest,
            loading,
        )
        correlation = correlation + loading * np.eye(len(power))
    lower = gain[:, None] * np.linalg.cholesky(correlation)
    scale = math.sqrt(2 * receiver_bandwidth_ratio * dwell_us / noise_dwell_us)
    inverse: npt.NDArray[np.complex128] = np.linalg.inv(lower)
    # The inverse of a triangle is a triangle; what rounding left above the diagonal goes.
    return scale * np.tril(inverse)


def whiten(
    samples: npt.NDArray[np.complex64], matrix: npt.NDArray[np.complexfloating]
) -> npt.NDArray[np.complex64]:
    """Apply a whitening matrix to a block of readouts.

    Args:
        samples: ``(n, coil, sample)`` complex64; views into a receive buffer, unaligned ones too, are fine.
        matrix: ``(coil, coil)`` from `whitening_matrix`.

    Returns:
        A new complex64 array ``(n, coil, sample)``.

    Raises:
        ShapeError: if the numbers of coils differ.
    """
    if samples.ndim != 3 or samples.shape[1] != len(matrix):
        raise ShapeError(
            f"a whitening matrix of {len(matrix)} coils does not fit samples of shape {samples.shape}: "
            "expected (n, coil, sample) with the coils of the noise scan"
        )
    # Samples that are no numbers pass: whoever makes an image of them names their readout.
    with np.errstate(invalid="ignore"):
        whitened: npt.NDArray[np.complex64] = np.matmul(matrix.astype(np.complex64), samples)
    return whitened
