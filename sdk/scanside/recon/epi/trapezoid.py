"""Samples under a trapezoidal gradient, and the matrix that brings them to equal distances."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from scanside.errors import ShapeError

__all__ = ["Trapezoid", "regridding"]

_SMALLEST = 0.1  # of the largest singular value: smaller ones would only amplify noise


@dataclass(frozen=True)
class Trapezoid:
    """A readout gradient and its samples, which lie in its middle; times in µs.

    Attributes:
        ramp_up_us: from nothing to the flat top.
        flat_top_us: for which it stays the same.
        ramp_down_us: back to nothing.
        dwell_us: sample time.
        n_samples: samples of a readout.

    Raises:
        ShapeError: samples would lie outside the gradient, or a time is negative.
    """

    ramp_up_us: float
    flat_top_us: float
    ramp_down_us: float
    dwell_us: float
    n_samples: int

    def __post_init__(self) -> None:
        if (
            min(self.ramp_up_us, self.flat_top_us, self.ramp_down_us) < 0
            or min(self.dwell_us, self.n_samples) <= 0
        ):
            raise ShapeError(
                f"a gradient of {self.ramp_up_us:g} + {self.flat_top_us:g} + {self.ramp_down_us:g} µs (ramp, flat "
                f"top, ramp) with {self.n_samples} samples of {self.dwell_us:g} µs: times cannot be negative, and "
                "there must be samples"
            )
        if self.n_samples * self.dwell_us > self.total_us + self.dwell_us:
            raise ShapeError(
                f"{self.n_samples} samples of {self.dwell_us:g} µs take {self.n_samples * self.dwell_us:g} µs, "
                f"longer than their gradient of {self.ramp_up_us:g} + {self.flat_top_us:g} + "
                f"{self.ramp_down_us:g} µs (ramp, flat top, ramp)"
            )

    @property
    def total_us(self) -> float:
        """Length of the gradient."""
        return self.ramp_up_us + self.flat_top_us + self.ramp_down_us

    @property
    def delay_us(self) -> float:
        """From the beginning of the gradient to that of the first sample."""
        return (self.total_us - self.n_samples * self.dwell_us) / 2

    @property
    def has_ramps(self) -> bool:
        """Whether samples lie on ramps. A flat top of 0 says that there are none, as converters write it."""
        return self.flat_top_us > 0 and self.delay_us < max(self.ramp_up_us, self.ramp_down_us)

    def moment(self, at_us: npt.ArrayLike) -> npt.NDArray[np.float64]:
        """The gradient's integral up to some times after its beginning, with a flat top of height 1."""
        t = np.clip(np.asarray(at_us, np.float64), 0, self.total_us)
        up, down = max(self.ramp_up_us, 1e-9), max(self.ramp_down_us, 1e-9)
        rising = np.minimum(t, self.ramp_up_us) ** 2 / (2 * up)
        flat = np.clip(t - self.ramp_up_us, 0, self.flat_top_us)
        left = self.ramp_down_us - np.clip(t - self.ramp_up_us - self.flat_top_us, 0, None)
        falling = (self.ramp_down_us**2 - left**2) / (2 * down)
        return np.asarray(rising + flat + falling)

    def positions(self, n: int) -> npt.NDArray[np.float64]:
        """Where the samples of a forward readout lie ``(sample)``, in steps of a grid of n points from its centre.

        What is sampled spans the grid; a sample counts at the end of its dwell time, and the middle of the gradient
        is the centre. Samples of a reversed readout lie at the negative places.
        """
        ends = self.moment([self.delay_us, self.delay_us + self.n_samples * self.dwell_us])
        at = self.moment(self.delay_us + (np.arange(self.n_samples) + 1) * self.dwell_us)
        middle = self.moment(self.total_us) / 2
        return np.asarray(n / (ends[1] - ends[0]) * (at - middle))

    def behind(self, n: int) -> npt.NDArray[np.float64]:
        """How far samples of a forward readout lie from where a constant gradient would have put them ``(sample)``.

        In steps of a grid of n points. A receiver that demodulates at one frequency, that of a place x along the
        readout under the flat top, leaves a phase of −2π times this and x in fields of view: on ramps the frequency
        of the place is another.
        """
        ends = self.moment([self.delay_us, self.delay_us + self.n_samples * self.dwell_us])
        times = self.delay_us + (np.arange(self.n_samples) + 1) * self.dwell_us
        return np.asarray(self.positions(n) - n / (ends[1] - ends[0]) * (times - self.total_us / 2))


def regridding(positions: npt.ArrayLike, n: int) -> npt.NDArray[np.float64]:
    """Matrix ``(n, sample)`` from samples anywhere along a line to the n points of its grid.

    The pseudo-inverse of sinc interpolation from the grid to the samples. Bruder, Fischer, Reinfelder, Schmitt:
    *Image reconstruction for echo planar imaging with nonequidistant k-space sampling*, Magn Reson Med 1992;23:311.

    Args:
        positions: ``(sample)``, in steps of the grid from its centre ``n // 2``.
        n: points of the grid.
    """
    # One point more, so that the ends of the line are treated alike; it is left out of the result.
    grid = np.arange(-(n // 2), n // 2 + 1)
    to_samples = np.sinc(np.subtract.outer(np.asarray(positions, np.float64), grid))
    return np.asarray(np.linalg.pinv(to_samples, _SMALLEST)[:n])
