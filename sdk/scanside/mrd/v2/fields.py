"""Fields that acquisitions, images and waveforms of both versions have, by both names."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt

from scanside.errors import FileFormatError, MessageError
from scanside.mrd.v2.told import Told
from scanside.mrd.v2.types import Record, leaf_paths

__all__ = ["check_fields", "fitting", "padded"]


_LIMITS = {
    np.dtype(name).str: (int(np.iinfo(name).min), int(np.iinfo(name).max))
    for name in ("<u2", "<i4", "<u4", "<u8")
}


def check_fields(kind: Record, needed: Iterable[str], known: Iterable[str], what: str, told: Told) -> None:
    """See whether a schema's items are those that can be read.

    Raises:
        FileFormatError: they lack a field that is needed.
    """
    names = set(leaf_paths(kind))
    missing = sorted(set(needed) - names)
    if missing:
        raise FileFormatError(
            f"the schema of the MRD 2 stream has {what} without {', '.join(missing)}: it has "
            f"{', '.join(sorted(names))}; it is another version of MRD than those that can be read (2.1 and 2.2)"
        )
    more = sorted(names - set(known))
    if more:
        told.once(
            f"the MRD 2 stream is of a newer version: of its {what}, {', '.join(more)} is not known and left aside"
        )


def fitting(values: npt.NDArray[Any], dtype: np.dtype[Any], name: str) -> npt.NDArray[Any]:
    """Integers in the type that a header of MRD 1 has for them.

    Raises:
        MessageError: one is too large.
    """
    if dtype.kind in "iu" and values.size and dtype.itemsize < values.dtype.itemsize:
        smallest, largest = _LIMITS[dtype.str]
        low, high = int(values.min()) if values.dtype.kind == "i" else 0, int(values.max())
        if low < smallest or high > largest:
            raise MessageError(
                f"{name} is {high if high > largest else low}, and a header of MRD 1, as pipelines use it, has room "
                f"for {smallest} to {largest}"
            )
    return values.astype(dtype)


def padded(values: npt.NDArray[Any], length: int, name: str, told: Told) -> npt.NDArray[Any]:
    """Lists ``(n, any)`` with as many entries as a header of MRD 1 has, the missing ones nought."""
    if values.shape[1] > length:
        with np.errstate(invalid="ignore"):  # a NaN is not nought
            more = bool((values[:, length:] != 0).any())
        if more:
            told.once(
                f"{name} has {values.shape[1]} values, and a header of MRD 1 has {length}: the rest is lost"
            )
        return values[:, :length]
    out = np.zeros((len(values), length), values.dtype)
    out[:, : values.shape[1]] = values
    return out
