"""Acquisitions of equal shape as rows of one structured array, so that no loop runs over readouts."""

from __future__ import annotations

from functools import lru_cache
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from scanside.mrd.dtypes import ACQUISITION_HEADER, Headers
from scanside.mrd.readouts import Readouts

__all__ = ["SHAPE_FIELDS", "ReadoutShape", "acquisition_record", "equal_runs", "view_readouts"]

SHAPE_FIELDS = ("number_of_samples", "active_channels", "trajectory_dimensions")
"""The fields of an acquisition header that fix how long the message is."""


class ReadoutShape(NamedTuple):
    """What fixes the size of a readout's payload."""

    n_samples: int
    n_coils: int
    n_dimensions: int

    @classmethod
    def of(cls, header: np.void | Headers) -> ReadoutShape:
        """The shape that one acquisition header announces."""
        return cls(*(int(header[name]) for name in SHAPE_FIELDS))

    @property
    def trajectory_bytes(self) -> int:
        """Bytes of one readout's trajectory."""
        return 4 * self.n_samples * self.n_dimensions

    @property
    def sample_bytes(self) -> int:
        """Bytes of one readout's samples."""
        return 8 * self.n_samples * self.n_coils

    @property
    def message_bytes(self) -> int:
        """Bytes of one whole message, its id included."""
        return 2 + ACQUISITION_HEADER.itemsize + self.trajectory_bytes + self.sample_bytes


@lru_cache(maxsize=128)
def acquisition_record(shape: ReadoutShape) -> np.dtype[Any]:
    """One ACQUISITION message on the wire as a structured type: id, header, trajectory, samples."""
    parts: list[Any] = [("id", "<u2"), ("header", ACQUISITION_HEADER)]
    if shape.n_dimensions:
        parts.append(("trajectory", "<f4", (shape.n_samples, shape.n_dimensions)))
    parts.append(("samples", "<c8", (shape.n_coils, shape.n_samples)))
    return np.dtype(parts)


def view_readouts(records: npt.NDArray[np.void]) -> Readouts:
    """The block that rows of an `acquisition_record` hold, without copying."""
    names = records.dtype.names or ()
    return Readouts(
        records["header"], records["samples"], records["trajectory"] if "trajectory" in names else None
    )


def equal_runs(headers: Headers) -> list[slice]:
    """Cut ``(n,)`` acquisition headers into the longest runs of equal readout shape, in order."""
    if not len(headers):
        return []
    shapes = np.stack([headers[name] for name in SHAPE_FIELDS], axis=-1)
    changes = np.flatnonzero((shapes[1:] != shapes[:-1]).any(axis=-1)) + 1
    edges = [0, *changes.tolist(), len(headers)]
    return [slice(start, stop) for start, stop in pairwise(edges)]
