"""Where the counters of readouts put their lines on the grid of k-space."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from scanside.agreement import phase_center
from scanside.errors import CounterError
from scanside.items import KSpace, Readouts
from scanside.mrd.dtypes import Headers
from scanside.mrd.header import Encoding
from scanside.scan import Scan

__all__ = ["Axis", "frame_axis", "phase_axis", "readout_of"]


@dataclass(frozen=True, slots=True)
class Axis:
    """One axis of the grid.

    Attributes:
        counter: the encoding counter that runs along it.
        minimum: the counter's least value by the header.
        maximum: its largest value.
        offset: grid index = counter + offset.
        length: number of grid points.
    """

    counter: str
    minimum: int
    maximum: int
    offset: int
    length: int

    @property
    def span(self) -> tuple[int, int]:
        """First and last grid index that the counter's limits allow."""
        return max(self.minimum + self.offset, 0), min(self.maximum + self.offset, self.length - 1)

    def indices(self, headers: Headers) -> npt.NDArray[np.intp]:
        """Grid indices of readouts.

        Raises:
            CounterError: a counter lies outside its limits or off the grid.
        """
        values = headers["idx"][self.counter].astype(np.intp)
        indices: npt.NDArray[np.intp] = values + self.offset
        wrong = (values < self.minimum) | (values > self.maximum) | (indices < 0) | (indices >= self.length)
        if wrong.any():
            i = int(np.flatnonzero(wrong)[0])
            raise CounterError(
                f"the readout with scan counter {int(headers['scan_counter'][i])} has {self.counter} = {values[i]}, "
                f"which goes to index {indices[i]} of {self.length}; the header's limits are {self.minimum} to "
                f"{self.maximum} with the center at {self.length // 2 - self.offset}: header and data do not belong "
                "together"
            )
        return indices


def frame_axis(encoding: Encoding, counter: str) -> Axis:
    """The axis of a counter whose values are kept together as frames."""
    limit = encoding.limit(counter)
    return Axis(counter, limit.minimum, limit.maximum, -limit.minimum, limit.n)


def phase_axis(scan: Scan, encoding: Encoding, k: int, first: Readouts) -> Axis:
    """The axis of phase (k = 1) or partition encoding (k = 2); the centre comes to the middle.

    Where the limits allow a single partition, nothing is encoded along k2, whatever the encoded matrix says of it.

    Args:
        scan: is told where the centre had to be found outside the header's limits.
        encoding: the readouts' encoding space.
        k: 1 or 2.
        first: readouts of the scan, whose user counters may know the centre.
    """
    counter = f"kspace_encode_step_{k}"
    limit, length = encoding.limit(counter), encoding.encoded.matrix[k]
    if k == 2 and limit.n == 1:
        return Axis(counter, limit.minimum, limit.maximum, -limit.minimum, 1)
    center, user_counter = phase_center(scan.header, encoding, k, first.headers)
    if user_counter is not None:
        scan.warn(
            f"the header has no limits of {counter}: its center {center} is taken from idx.user[{user_counter}]"
        )
    return Axis(counter, limit.minimum, limit.maximum, length // 2 - center, length)


def readout_of(item: KSpace) -> slice | None:
    """Which samples of a line were acquired; None for all of them."""
    if item.ranges is None:
        return None
    first, last = item.ranges[0].first, item.ranges[0].last
    return None if last - first + 1 == item.data.shape[-1] else slice(first, last + 1)
