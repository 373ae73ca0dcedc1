"""Which lines a k-space will have, told before they have all come."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

__all__ = ["expected_lines"]

Lines = npt.NDArray[np.bool_]


def expected_lines(
    came: Lines, regular: Lines, *, acceleration: int, span: tuple[int, int], earlier: Lines | None
) -> Lines | None:
    """The lines ``(k1,)`` that will probably have been sampled at the end.

    An earlier k-space of the scan is followed where it has all lines that came; else lines that lie at the header's
    acceleration from one another are thought to go on so.

    Args:
        came: ``(k1,)``, all lines so far.
        regular: ``(k1,)``, those among them that are no calibration lines.
        acceleration: of the header.
        span: first and last row that the header's limits allow.
        earlier: lines of an earlier k-space.

    Returns:
        None where nothing can be told.
    """
    if earlier is not None and earlier.shape == came.shape and bool(earlier[came].all()):
        return earlier
    starts = np.unique(np.flatnonzero(regular) % acceleration)
    if len(starts) != 1:
        return None
    lines = came.copy()
    first, last = span
    rows = np.arange(first, last + 1)
    lines[rows[rows % acceleration == starts[0]]] = True
    return lines
