"""Times of both versions.

MRD 1 counts time stamps in ticks of `scanside.mrd.dtypes.TICK_MS`, as scanners and their converters do, and the time
between samples in µs (float32). MRD 2.2 has both in ns; MRD 2.1 has them as MRD 1 has.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from scanside.mrd.dtypes import TICK_MS
from scanside.mrd.v2.told import Told

__all__ = ["TICK_NS", "ns_of_sample_time", "ns_of_ticks", "sample_time_of_ns", "ticks_of_ns"]

TICK_NS = round(TICK_MS * 1e6)
_LARGEST_US = 1e16
"""Whose ns are a number of 64 bits."""


def ticks_of_ns(ns: npt.NDArray[np.uint64], told: Told) -> npt.NDArray[np.uint64]:
    """Time stamps of MRD 1."""
    tick = np.uint64(TICK_NS)
    ticks = ns // tick + (ns % tick >= np.uint64(TICK_NS // 2)).astype(np.uint64)
    if (ticks * tick != ns).any():
        told.once(
            f"time stamps in ns were rounded to the {TICK_MS} ms in which MRD 1 counts: up to {TICK_MS / 2} ms are "
            "lost"
        )
    return np.asarray(ticks)


def ns_of_ticks(ticks: npt.NDArray[Any]) -> npt.NDArray[np.uint64]:
    """Time stamps of MRD 2.2."""
    return np.asarray(ticks.astype(np.uint64) * np.uint64(TICK_NS))


def sample_time_of_ns(ns: npt.NDArray[np.uint64]) -> npt.NDArray[np.float32]:
    """Time between samples in µs."""
    return np.asarray((ns / 1e3).astype(np.float32))


def ns_of_sample_time(us: npt.NDArray[Any], told: Told) -> npt.NDArray[np.uint64]:
    """Time between samples in whole ns."""
    with np.errstate(invalid="ignore"):  # a NaN is no time
        usable = (us >= 0) & (us < _LARGEST_US)
        ns = np.rint(np.where(usable, us, 0).astype(np.float64) * 1e3).astype(np.uint64)
        rounded = bool((sample_time_of_ns(ns) != us).any())
    if rounded:
        told.once("the time between samples was rounded to the whole ns in which MRD 2.2 has it")
    return ns
