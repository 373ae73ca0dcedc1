"""Echo-planar readouts of simulated scans: where their samples lie, and what goes wrong between their echoes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from scanside.mrd.dtypes import Headers
from scanside.mrd.flags import AcquisitionFlag, flagged
from scanside.simulate.config import EchoPlanarConfig, SamplingConfig

__all__ = ["ECHO_COUNTER", "EchoPlanarReadouts", "as_echo_trains"]

Reals = npt.NDArray[np.float64]

ECHO_COUNTER = 0
"""The user counter of a readout's header that counts the echoes of its train, navigators included."""

_STEPS = 20_000  # in which the gradient is integrated

_REVERSE = np.uint64(int(AcquisitionFlag.REVERSE))


@dataclass(frozen=True)
class EchoPlanarReadouts:
    """Readouts of an echo train.

    Attributes:
        config: of the train.
        n: points of the encoded matrix along the readout.
        dwell_us: sample time.
        tr_ms: time from one readout to the next.
    """

    config: EchoPlanarConfig
    n: int
    dwell_us: float
    tr_ms: float

    @classmethod
    def of(cls, sampling: SamplingConfig, n: int, dwell_us: float, tr_ms: float) -> EchoPlanarReadouts | None:
        """That of a scan; None where it has no echo trains."""
        return None if sampling.epi is None else cls(sampling.epi, n, dwell_us, tr_ms)

    @property
    def n_samples(self) -> int:
        """Samples of a readout."""
        return self.config.samples or self.n

    def positions(self, *, backwards: bool, delayed: bool = True) -> Reals:
        """Where samples lie ``(sample)``, in steps of the encoded grid from the centre, in the order of time.

        Args:
            backwards: of the echoes that are read from the other end.
            delayed: with the delay of the gradient; else as the header describes it.
        """
        lag_us = self.config.delay_us if delayed else 0.0
        index = np.arange(self.n_samples)
        if not self.config.ramp_us:
            lag = lag_us / self.dwell_us
            k = (self.n - 1 - index - self.n // 2) + lag if backwards else index - self.n // 2 - lag
            return k.astype(np.float64)
        ramp, flat = self.config.ramp_us, self.config.flat_top_us(self.n_samples, self.dwell_us)
        at, gradient = np.array([0.0, ramp, ramp + flat, 2 * ramp + flat]), np.array([0.0, 1.0, 1.0, 0.0])
        fine = np.linspace(0, at[-1], _STEPS + 1)
        height = np.interp(fine, at, gradient)
        moment = np.concatenate([[0], np.cumsum((height[1:] + height[:-1]) / 2 * np.diff(fine))])
        first = self.config.acq_delay_us
        ends = np.interp([first, first + self.n_samples * self.dwell_us], fine, moment)
        sampled = np.interp(first + (index + 1) * self.dwell_us - lag_us, fine, moment)
        k = self.n / (ends[1] - ends[0]) * (sampled - moment[-1] / 2)
        return np.asarray(-k if backwards else k)

    def demodulation(self, *, backwards: bool, off_mm: float, encoded_fov_mm: float) -> Reals:
        """Phase ``(sample)`` in rad that the receiver leaves, with the image's centre so far from the isocentre.

        The centre's frequency follows the gradient, the receiver's does not: their phases differ by what lies between
        the integral of the gradient and that of its flat top.
        """
        if self.config.receiver == "follows" or not self.config.ramp_us:
            return np.zeros(self.n_samples)
        ramp, flat = self.config.ramp_us, self.config.flat_top_us(self.n_samples, self.dwell_us)
        area = self._area(ramp, flat)
        middle = ramp + flat / 2
        times = self.config.acq_delay_us + (np.arange(self.n_samples) + 1) * self.dwell_us
        received = self.n / area * (times - middle) * (-1 if backwards else 1)
        turns = off_mm / encoded_fov_mm
        return np.asarray(2 * np.pi * turns * (received - self.positions(backwards=backwards, delayed=False)))

    def _area(self, ramp: float, flat: float) -> float:
        """Integral of the gradient over the samples, in µs of its flat top."""
        cut = ramp - self.config.acq_delay_us
        return flat + cut * (ramp + self.config.acq_delay_us) / ramp

    def phase(self, headers: Headers, x: Reals) -> Reals:
        """Phase ``(n, x)`` in rad that echoes have gained, by their place in the train and their direction.

        Args:
            headers: ``(n,)`` of the readouts, with their scan counters.
            x: ``(x)`` places along the readout, in fields of view of the image.
        """
        config = self.config
        echo = headers["idx"]["user"][:, ECHO_COUNTER].astype(np.int64) - config.navigators
        seconds = headers["scan_counter"] * (self.tr_ms / 1e3)
        frequency = (config.b0_hz[0] + config.drift_hz_s * seconds)[:, None] + config.b0_hz[1] * x
        spacing_s = config.echo_spacing_us(self.n_samples, self.dwell_us) / 1e6
        odd = np.polynomial.polynomial.polyval(x, config.odd_even_rad)
        backwards = flagged(headers["flags"], AcquisitionFlag.REVERSE)
        return np.asarray(2 * np.pi * frequency * echo[:, None] * spacing_s + backwards[:, None] * odd)


def as_echo_trains(
    headers: Headers, config: EchoPlanarConfig, center: tuple[int, int], *, begins_backwards: bool = False
) -> Headers:
    """Lines in the order of acquisition as trains: navigators before each, every second echo reversed.

    Args:
        headers: ``(n,)``; lines that follow each other with the same counters, those of k-space apart, are a train.
        config: of the trains.
        center: counters of the central line along (k1, k2), which navigators have.
        begins_backwards: the first echo of each train is reversed.
    """
    counters = np.stack(
        [
            headers["idx"][name]
            for name in ("average", "slice", "contrast", "phase", "repetition", "set", "segment")
        ],
        axis=1,
    )
    starts = np.flatnonzero(np.append(True, (counters[1:] != counters[:-1]).any(axis=1)))
    where = np.repeat(starts, config.navigators)
    navigators = headers[where].copy()
    navigators["flags"] = int(AcquisitionFlag.PHASECORR_DATA)
    navigators["idx"]["kspace_encode_step_1"], navigators["idx"]["kspace_encode_step_2"] = center
    trains = np.insert(headers, where, navigators)
    begins = starts + np.arange(len(starts)) * config.navigators
    echo = np.arange(len(trains))
    echo -= np.repeat(begins, np.diff(np.append(begins, len(trains))))
    trains["idx"]["user"][:, ECHO_COUNTER] = echo
    trains["flags"][(echo + begins_backwards) % 2 == 1] |= _REVERSE
    return trains
