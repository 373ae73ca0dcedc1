"""What the samples of a readout mean: their order, those to discard, and the grid that they lie on."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from scanside.agreement.echo import echo_among_kept, lost_echoes
from scanside.errors import ShapeError
from scanside.mrd.dtypes import Headers
from scanside.mrd.flags import AcquisitionFlag, flagged
from scanside.mrd.header import Encoding
from scanside.mrd.readouts import Readouts

__all__ = ["different_layout", "readout_grid", "straighten"]


def different_layout(headers: Headers) -> npt.NDArray[np.bool_]:
    """Where the meaning of samples changes in a block.

    Args:
        headers: ``(n,)`` of a block.

    Returns:
        ``(n − 1,)``, true where a readout has another echo position than the one before, once both run forwards and
        without their discards, or other discards.
    """
    changes = np.zeros(max(len(headers) - 1, 0), np.bool_)
    for values in (headers["discard_pre"], headers["discard_post"], _straight_echo(headers)):
        changes |= values[1:] != values[:-1]
    return changes


def _straight_echo(headers: Headers) -> npt.NDArray[np.int64]:
    """Index ``(n,)`` of the echo's sample in the order of increasing k0, among those that are not discarded."""
    echo = echo_among_kept(headers)
    reversed_ = flagged(headers["flags"], AcquisitionFlag.REVERSE)
    if not reversed_.any():
        return echo
    n_left = headers["number_of_samples"].astype(np.int64) - headers["discard_pre"] - headers["discard_post"]
    return np.where(reversed_, n_left - 1 - echo, echo)


def straighten(readouts: Readouts) -> Readouts:
    """Turn reversed readouts round and cut off samples marked for discarding.

    The header's ``center_sample`` counts samples as they are stored, those of a reversed readout too, and so do the
    discards: in the order of time. (A producer that counts after turning is found out by `scanside.agreement`, before
    stages see its readouts.) A block that needs neither is returned as it is, without a copy.

    Args:
        readouts: a block of equal layout (`different_layout`).

    Returns:
        A block without REVERSE flags and discards.

    Raises:
        ShapeError: nothing is left, or the echo is not among what is left.
    """
    headers = readouts.headers
    reversed_ = flagged(headers["flags"], AcquisitionFlag.REVERSE)
    pre, post = int(headers["discard_pre"][0]), int(headers["discard_post"][0])
    if not reversed_.any() and not pre and not post:
        return readouts
    n_samples = readouts.samples.shape[2]
    wrong = lost_echoes(headers)
    if wrong.any():
        first = headers[int(np.flatnonzero(wrong)[0])]
        raise ShapeError(
            f"the readout with scan counter {int(first['scan_counter'])} has {n_samples} samples with the echo at "
            f"sample {int(first['center_sample'])}, of which the first {pre} and the last {post} are marked for "
            "discarding: the echo must be among those that are left; check discard_pre, discard_post and "
            "center_sample in the converter"
        )
    samples = readouts.samples[:, :, pre : readouts.samples.shape[2] - post].copy()
    samples[reversed_] = samples[reversed_, :, ::-1]
    straight = readouts.with_samples(samples)
    straight.headers["flags"] &= ~np.uint64(AcquisitionFlag.REVERSE)
    straight.headers["center_sample"] = _straight_echo(headers)
    straight.headers["discard_pre"] = 0
    straight.headers["discard_post"] = 0
    return straight


def readout_grid(encoding: Encoding, readouts: Readouts, grid: str = "auto") -> tuple[int, float]:
    """Length of the k0 axis that readouts belong to.

    A header always tells the matrix with oversampling, even behind a step that has removed it. So the samples
    decide: if they fit the matrix without oversampling, echo in the middle, then it has been removed.

    Args:
        encoding: the readouts' encoding space.
        readouts: a block of straightened readouts.
        grid: ``encoded`` or ``removed`` overrule the samples.

    Returns:
        number of samples, and the field of view in mm that they span.
    """
    n_encoded, extent_mm = encoding.encoded.matrix[0], encoding.encoded.field_of_view_mm[0]
    n_removed = round(n_encoded / encoding.oversampling)
    n_samples, center = readouts.samples.shape[2], int(readouts.headers["center_sample"][0])
    fits = center <= n_removed // 2 and n_samples - center <= n_removed - n_removed // 2
    if grid == "removed" or (grid == "auto" and fits):
        return n_removed, extent_mm * n_removed / n_encoded
    return n_encoded, extent_mm
