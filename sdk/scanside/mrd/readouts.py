"""Readouts and waveforms as they come off a stream: blocks, not single objects."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from scanside.errors import ShapeError
from scanside.mrd.dtypes import ACQUISITION_HEADER, WAVEFORM_HEADER, Headers

__all__ = ["Readouts", "Waveform"]


@dataclass(slots=True, eq=False)
class Readouts:
    """A block of one or more acquisitions of equal shape.

    The arrays may be views into a receive buffer (then neither contiguous nor aligned) that are valid until
    the next block arrives: whoever keeps samples copies them.

    Attributes:
        headers: ``(n,)`` of `ACQUISITION_HEADER`.
        samples: ``(n, coil, sample)`` complex64.
        trajectory: ``(n, sample, dimension)`` float32 in the unit of the producer, or None without one.
    """

    headers: Headers = field(repr=False)
    samples: npt.NDArray[np.complex64] = field(repr=False)
    trajectory: npt.NDArray[np.float32] | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        n = len(self.headers)
        if self.samples.ndim != 3 or len(self.samples) != n:
            raise ShapeError(
                f"a block of {n} readouts needs samples (n, coil, sample), got {self.samples.shape}: "
                "give every readout its own row"
            )
        if self.trajectory is not None and len(self.trajectory) != n:
            raise ShapeError(f"{n} readouts came with {len(self.trajectory)} trajectories")

    def __len__(self) -> int:
        return len(self.headers)

    def select(self, which: npt.NDArray[np.bool_] | slice) -> Readouts:
        """The readouts that a boolean mask or a slice picks, in order."""
        trajectory = None if self.trajectory is None else self.trajectory[which]
        return Readouts(self.headers[which], self.samples[which], trajectory)

    def copy(self) -> Readouts:
        """The same block in memory of its own."""
        trajectory = None if self.trajectory is None else self.trajectory.copy()
        return Readouts(self.headers.copy(), self.samples.copy(), trajectory)

    def with_samples(self, samples: npt.NDArray[np.complex64]) -> Readouts:
        """The same readouts with new samples ``(n, coil, sample)``; channel and sample counts follow them.

        The headers are copied, so the received ones stay as they were.
        """
        headers = self.headers.copy()
        headers["active_channels"] = samples.shape[1]
        headers["number_of_samples"] = samples.shape[2]
        same_length = samples.shape[2] == self.samples.shape[2]
        return Readouts(headers, samples, self.trajectory if same_length else None)

    @staticmethod
    def empty_headers(n: int) -> Headers:
        """``n`` acquisition headers, all zero but for the version."""
        headers = np.zeros(n, ACQUISITION_HEADER)
        headers["version"] = 1
        return headers


@dataclass(slots=True, eq=False)
class Waveform:
    """A piece of a physiological or other waveform.

    Attributes:
        header: scalar of `WAVEFORM_HEADER`.
        data: ``(channel, sample)`` uint32.
    """

    header: np.void
    data: npt.NDArray[np.uint32] = field(repr=False)

    def __post_init__(self) -> None:
        if self.header.dtype != WAVEFORM_HEADER:
            raise ShapeError(f"a waveform's header must be of WAVEFORM_HEADER, got {self.header.dtype}")
