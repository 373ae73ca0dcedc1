"""Readouts in the order of increasing k0, without samples that the producer asks to discard."""

from __future__ import annotations

import numpy as np

from scanside.mrd.flags import AcquisitionFlag, flagged
from scanside.mrd.readouts import Readouts

__all__ = ["straighten"]


def straighten(readouts: Readouts) -> Readouts:
    """Turn reversed readouts round and cut off samples marked for discarding.

    The header's ``center_sample`` of a reversed readout counts in the order of increasing k0, that is after
    turning. A block that needs neither is returned as it is, without a copy.

    Args:
        readouts: a block; within it, ``discard_pre`` and ``discard_post`` are taken from the first readout.

    Returns:
        A block without REVERSE flags and discards.
    """
    headers = readouts.headers
    reversed_ = flagged(headers["flags"], AcquisitionFlag.REVERSE)
    pre, post = int(headers["discard_pre"][0]), int(headers["discard_post"][0])
    if not reversed_.any() and not pre and not post:
        return readouts
    samples = readouts.samples[:, :, pre : readouts.samples.shape[2] - post].copy()
    samples[reversed_] = samples[reversed_, :, ::-1]
    straight = readouts.with_samples(samples)
    straight.headers["flags"] &= ~np.uint64(AcquisitionFlag.REVERSE)
    straight.headers["center_sample"] -= np.uint16(pre)
    straight.headers["discard_pre"] = 0
    straight.headers["discard_post"] = 0
    return straight
