"""Which k-space lines are acquired, in which order, and how they count."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from scanside.errors import ConfigError
from scanside.sampling.densities import line_density
from scanside.sampling.draws import draw_lines, generator
from scanside.sampling.patterns import line_mask, plane_mask
from scanside.sampling.space import Limits, Space
from scanside.sampling.temporal import frame_masks
from scanside.simulate.config import SamplingConfig

__all__ = ["Band", "Pattern", "Readout", "phase_bands", "readout_of", "sampling_pattern"]

Lines = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Band:
    """The lines of one phase-encoding axis that a protocol acquires, as positions in the encoded matrix.

    Counters start at the first line of the band, so that ``counter - center + n // 2`` is a line's position.

    Attributes:
        n: lines of the encoded matrix.
        first: position of the first line.
        stop: position after the last line.
        resolved: (first, stop) of the lines that the protocol's resolution holds: more than the band where partial
            Fourier leaves out one end, less than the matrix where the resolution is reduced.
    """

    n: int
    first: int
    stop: int
    resolved: tuple[int, int]

    @classmethod
    def of(cls, n: int, resolution: float, partial: float, side: str) -> Band:
        """Band of an axis of `n` lines.

        Args:
            n: lines of the encoded matrix.
            resolution: share of them about the centre that the protocol asks for.
            partial: share of those that is acquired.
            side: which end partial Fourier leaves out, ``early`` or ``late``.
        """
        wanted = max(round(n * resolution), 1)
        low = n // 2 - wanted // 2
        high = low + wanted
        left_out = wanted - round(wanted * partial)
        first, stop = (low + left_out, high) if side == "early" else (low, high - left_out)
        return cls(n, first, stop, (low, high))

    @property
    def center(self) -> int:
        """Counter of the line at the centre of k-space."""
        return self.n // 2 - self.first

    @property
    def maximum(self) -> int:
        """Highest counter."""
        return self.stop - self.first - 1

    def around_center(self, count: int) -> tuple[int, int]:
        """Positions (first, stop) of `count` lines about the centre, as far as the band has them."""
        low = self.n // 2 - count // 2
        return max(low, self.first), min(low + count, self.stop)


@dataclass(frozen=True)
class Readout:
    """How one readout lies on the encoded readout axis of `n` points.

    Attributes:
        n: points of the encoded matrix along x.
        first: position of the first sample that counts.
        discard: samples before and after that are announced for discarding.
        from_center: it begins in the centre of k-space, as a spiral arm does.
    """

    n: int
    first: int
    discard: tuple[int, int]
    from_center: bool = False

    @property
    def n_samples(self) -> int:
        """Samples of a readout, those to be discarded included."""
        return self.n - self.first + sum(self.discard)

    @property
    def center_sample(self) -> int:
        """Index of the sample at the centre of k-space, in a readout that runs forwards."""
        if self.from_center:
            return 0
        return self.n // 2 - self.first + self.discard[0]


@dataclass(frozen=True)
class Pattern:
    """The lines of one image in the order of acquisition; positions are those in the encoded matrix.

    Attributes:
        k1: ``(n,)`` position of each line along the first phase encoding.
        k2: ``(n,)`` position along the second.
        imaging: ``(n,)`` whether a line belongs to the undersampling pattern.
        calibration: ``(n,)`` whether it lies within the fully sampled centre.
    """

    k1: Lines
    k2: Lines
    imaging: npt.NDArray[np.bool_]
    calibration: npt.NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.k1)


def readout_bands(config: SamplingConfig, matrix: tuple[int, int, int]) -> tuple[Band, Band]:
    """Bands along (k1, k2) of the counters that readouts have: of a trajectory, k1 counts spokes or arms."""
    lines, partitions = phase_bands(config, matrix)
    if config.trajectory is None:
        return lines, partitions
    if config.trajectory.kind != "stack-of-stars":
        partitions = Band.of(1, 1.0, 1.0, "early")
    return Band.of(config.trajectory.readouts, 1.0, 1.0, "early"), partitions


def phase_bands(config: SamplingConfig, matrix: tuple[int, int, int]) -> tuple[Band, Band]:
    """Bands along (k1, k2) of an encoded matrix (x, y, z)."""
    (pf1, pf2), side = config.partial_fourier, config.partial_fourier_side
    return Band.of(matrix[1], config.phase_resolution, pf1, side), Band.of(
        matrix[2], 1.0, pf2 if matrix[2] > 1 else 1.0, side
    )


def readout_of(config: SamplingConfig, n: int) -> Readout:
    """Readout on an encoded axis of `n` points; of a trajectory, its samples."""
    if config.trajectory is not None:
        n = config.trajectory.samples or n
        return Readout(n, 0, config.discard, from_center=config.trajectory.kind == "spiral")
    if config.epi is not None:
        return Readout(config.epi.samples or n, 0, config.discard)
    return Readout(n, n - round(n * config.partial_echo), config.discard)


def sampling_pattern(
    config: SamplingConfig, bands: tuple[Band, Band], frame: int = 0
) -> tuple[Pattern, Pattern]:
    """Lines of an image and of a separate calibration scan.

    Args:
        config: the pattern's kind, acceleration, calibration lines and seed.
        bands: bands along (k1, k2).
        frame: number of the dynamic frame, which makes another pattern where `config.vary` is set, or where the
            pattern is one of series.

    Returns:
        The imaging pattern, and the calibration lines that are acquired before it (none unless ``acs_mode`` is
        ``separate``). Partitions are the outer loop.

    Raises:
        ConfigError: the acceleration leaves no line outside the calibration region, or none at all.
    """
    drawn = frame if config.vary else 0
    if config.pattern in ("kt", "golden", "kt-uniform", "kt-gaussian"):
        regular = _of_series(config, bands, frame)
    elif config.pattern == "equispaced":
        regular = _equispaced(config, bands, drawn)
    elif config.pattern in ("random", "variable-density"):
        regular = _random(config, bands, drawn)
    else:
        regular = _of_literature(config, bands, drawn)
    calibration = _calibration_region(config, bands)
    nothing = np.zeros_like(regular)
    if config.acs_mode == "separate":
        return _pattern(regular, nothing), _pattern(nothing, calibration)
    if config.pattern != "equispaced":
        # All others have no lines in their fully sampled centre that they would not have without it.
        regular = regular | calibration
    return _pattern(regular, calibration), _pattern(nothing, nothing)


def _equispaced(config: SamplingConfig, bands: tuple[Band, Band], shift: int) -> npt.NDArray[np.bool_]:
    r1, r2 = (int(factor) for factor in config.acceleration)
    # The centre of k-space is on the grid of the first frame.
    along1, along2 = (np.arange(band.n) - band.n // 2 for band in bands)
    along1 -= shift
    mask = _band_mask(config, bands)
    mask &= (along1 % r1 == 0)[:, None]
    mask &= (along2 - (along1 // r1 * config.shift)[:, None]) % r2 == 0
    return mask


def _random(config: SamplingConfig, bands: tuple[Band, Band], frame: int) -> npt.NDArray[np.bool_]:
    rng = np.random.default_rng([config.seed, 5, frame])
    available = _band_mask(config, bands)
    mask = _calibration_region(config, bands) if config.acs_mode == "integrated" else np.zeros_like(available)
    wanted = round(available.sum() / (config.acceleration[0] * config.acceleration[1]))
    missing = wanted - int(mask.sum())
    if missing < 0:
        raise ConfigError(
            f"acceleration {config.acceleration} leaves {wanted} lines, but the calibration region has "
            f"{int(mask.sum())}: lower the acceleration or `acs`"
        )
    offsets = [(np.arange(band.n) - band.n // 2) / max(band.n / 2, 1) for band in bands]
    radius = np.hypot(offsets[0][:, None], offsets[1]) / np.hypot(1, 1 if bands[1].n > 1 else 0)
    power = config.density_power if config.pattern == "variable-density" else 0.0
    draw_lines(mask, np.where(available, line_density(radius, power), 0), missing, rng)
    return mask


def _of_literature(config: SamplingConfig, bands: tuple[Band, Band], frame: int) -> npt.NDArray[np.bool_]:
    region, block = _band_mask(config, bands), np.zeros((bands[0].n, bands[1].n), bool)
    if config.acs_mode == "integrated":
        block = _calibration_region(config, bands)
    acceleration, rng = config.acceleration[0] * config.acceleration[1], generator([config.seed, 6, frame])
    if bands[1].n > 1:
        return plane_mask(config.pattern, Space(region, block), acceleration=acceleration, rng=rng)
    lines = Space(region[:, 0], block[:, 0])
    return line_mask(config.pattern, lines, acceleration=acceleration, rng=rng)[:, None]


def _of_series(config: SamplingConfig, bands: tuple[Band, Band], frame: int) -> npt.NDArray[np.bool_]:
    # A frame's lines follow from those before it: as many are made at once as the next power of two.
    mask = _band_mask(config, bands)
    mask &= _series(config, bands[0].n, 1 << frame.bit_length())[frame][:, None]
    return mask


@lru_cache(maxsize=8)
def _series(config: SamplingConfig, n_lines: int, n_frames: int) -> npt.NDArray[np.bool_]:
    assert config.pattern in ("kt", "golden", "kt-uniform", "kt-gaussian")
    acs = config.acs[0] if config.acs_mode == "integrated" else 0
    rng = np.random.default_rng([config.seed, 5])
    return frame_masks(
        config.pattern, n_lines, n_frames, acceleration=config.acceleration[0], acs=acs, rng=rng
    )


def _band_mask(config: SamplingConfig, bands: tuple[Band, Band]) -> npt.NDArray[np.bool_]:
    shape = (bands[0].n, bands[1].n)
    mask = np.zeros(shape, bool)
    mask[bands[0].first : bands[0].stop, bands[1].first : bands[1].stop] = True
    return mask & Limits(elliptical=config.elliptical).region(shape)


def _calibration_region(config: SamplingConfig, bands: tuple[Band, Band]) -> npt.NDArray[np.bool_]:
    mask = np.zeros((bands[0].n, bands[1].n), bool)
    if any(config.acs):
        spans = [
            bands[0].around_center(config.acs[0] or 2 * bands[0].n),
            bands[1].around_center(config.acs[1] or 2 * bands[1].n),
        ]
        mask[spans[0][0] : spans[0][1], spans[1][0] : spans[1][1]] = True
    return mask & _band_mask(config, bands)


def _pattern(imaging: npt.NDArray[np.bool_], calibration: npt.NDArray[np.bool_]) -> Pattern:
    k2, k1 = np.nonzero((imaging | calibration).T)
    return Pattern(k1.astype(np.int64), k2.astype(np.int64), imaging[k1, k2], calibration[k1, k2])
