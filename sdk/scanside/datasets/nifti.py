"""Arrays of NIfTI-1 files, as they lie there: ``(x, y, z)``, not turned by the file's affine."""

from __future__ import annotations

import gzip
import math
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from scanside.errors import FileFormatError

__all__ = ["read_nifti"]

_HEADER_BYTES = 348
_TYPES = {2: "u1", 4: "i2", 8: "i4", 16: "f4", 64: "f8", 256: "i1", 512: "u2", 768: "u4", 1024: "i8"}


def read_nifti(path: Path) -> npt.NDArray[Any]:
    """The array of a ``.nii`` or ``.nii.gz`` file, without scaling.

    Raises:
        FileFormatError: it is none, of a kind that is not read here, cut short, or its values are scaled.
        FileNotFoundError: there is no such file.
    """
    data = path.read_bytes()
    if data[:2] == b"\x1f\x8b":
        try:
            data = gzip.decompress(data)
        except (OSError, EOFError, zlib.error) as error:
            raise FileFormatError(f"{path}: cannot be unpacked: {error}") from error
    if len(data) < _HEADER_BYTES or data[344:348] != b"n+1\0":
        raise FileFormatError(f"{path}: is no NIfTI-1 file that holds its own data")
    order = "<" if int.from_bytes(data[:4], "little") == _HEADER_BYTES else ">"

    def read(kind: str, at: int, n: int = 1) -> list[Any]:
        return list(np.frombuffer(data, order + kind, n, at).tolist())

    n_dims, *sizes = read("i2", 40, 8)
    kind = _TYPES.get(code := read("i2", 70)[0])
    offset, slope, intercept = read("f4", 108, 3)
    if kind is None or not 1 <= n_dims <= 7 or min(sizes[:n_dims]) < 1:
        raise FileFormatError(
            f"{path}: holds {sizes[: max(n_dims, 0)]} values of NIfTI's type {code}; real numbers are read here"
        )
    if (slope, intercept) != (1, 0) and slope != 0 and not math.isnan(slope):
        raise FileFormatError(
            f"{path}: scales its values by {slope} and adds {intercept}; labels are not scaled"
        )
    shape = tuple(sizes[:n_dims])
    needed, found = math.prod(shape) * np.dtype(kind).itemsize, len(data) - int(offset)
    if found < needed:
        raise FileFormatError(f"{path}: holds {found} bytes of its {needed}: the download is not whole")
    return np.frombuffer(data, order + kind, math.prod(shape), int(offset)).reshape(shape, order="F")
