"""Integers of a variable number of bytes, arrays of them at once.

Seven bits a byte, lowest first; the highest bit says that another byte follows. Numbers with a sign are folded first
(zigzag), so that small ones of either sign are short.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

__all__ = ["MOST_BYTES", "folded", "read_varints", "unfolded", "varint", "write_varints"]

MOST_BYTES = 10
"""That a number of 64 bits takes."""


def varint(value: int) -> bytes:
    """The bytes of one number from 0."""
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value)
    return bytes(out)


def folded(values: npt.NDArray[np.int64]) -> npt.NDArray[np.uint64]:
    """Numbers with a sign as numbers without."""
    return np.asarray((values << 1) ^ (values >> 63)).view(np.uint64)


def unfolded(values: npt.NDArray[np.uint64]) -> npt.NDArray[np.int64]:
    """The other half of `folded`."""
    return np.asarray((values >> np.uint64(1)).view(np.int64) ^ -(values & np.uint64(1)).view(np.int64))


def write_varints(values: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint8]:
    """The bytes of numbers ``(n,)``, one after the other."""
    lengths = np.ones(len(values), np.intp)
    for k in range(1, MOST_BYTES):
        longer = values >> np.uint64(7 * k) > 0
        if not longer.any():
            break
        lengths += longer
    starts = np.cumsum(lengths) - lengths
    out = np.empty(int(lengths.sum()), np.uint8)
    for k in range(int(lengths.max(initial=0))):
        which = lengths > k
        more = (lengths[which] > k + 1).astype(np.uint8) << 7
        out[starts[which] + k] = (values[which] >> np.uint64(7 * k)).astype(np.uint8) & 127 | more
    return out


def read_varints(data: npt.NDArray[np.uint8], most: int) -> tuple[npt.NDArray[np.uint64], int]:
    """Numbers from the beginning of bytes.

    Args:
        data: ``(n,)``; the last number may be cut off.
        most: how many numbers to read at most.

    Returns:
        The numbers that are whole, and how many bytes they take.

    Raises:
        ValueError: a number takes more bytes than one of 64 bits has.
    """
    ends = np.flatnonzero(data < 128)[:most]
    used = int(ends[-1]) + 1 if len(ends) else 0
    starts = np.concatenate([[0], ends[:-1] + 1]) if len(ends) else ends
    lengths = ends - starts + 1
    if max(int(lengths.max(initial=0)), (len(data) - used) * (len(ends) < most)) > MOST_BYTES:
        raise ValueError("a number of more than 64 bits")
    values = np.zeros(len(ends), np.uint64)
    for k in range(int(lengths.max(initial=0))):
        which = lengths > k
        values[which] |= (data[starts[which] + k] & 127).astype(np.uint64) << np.uint64(7 * k)
    return values, used
