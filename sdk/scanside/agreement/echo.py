"""Where the echo of readouts lies among the samples that are not discarded."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from scanside.mrd.dtypes import Headers

__all__ = ["echo_among_kept", "lost_echoes"]


def echo_among_kept(headers: Headers) -> npt.NDArray[np.int64]:
    """Index ``(n,)`` of the echo's sample among those that are left after discarding, as they are stored."""
    echo: npt.NDArray[np.int64] = headers["center_sample"].astype(np.int64) - headers["discard_pre"]
    return echo


def lost_echoes(headers: Headers) -> npt.NDArray[np.bool_]:
    """Readouts ``(n,)`` of which discarding leaves nothing, or not the echo."""
    echo = echo_among_kept(headers)
    n_left = headers["number_of_samples"].astype(np.int64) - headers["discard_pre"] - headers["discard_post"]
    lost: npt.NDArray[np.bool_] = (echo < 0) | (echo >= n_left)
    return lost
