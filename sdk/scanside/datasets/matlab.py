"""Numeric arrays of MATLAB 5 files, compressed or not.

*MAT-File Format*, The MathWorks, R2019b: a header of 128 bytes, then elements of a tag (type, size) and data; an
array is an element that holds its flags, dimensions, name, real and imaginary part as elements. Enough for arrays
of numbers, so that reading one file of coil maps takes no further package.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from scanside.errors import FileFormatError

__all__ = ["MatlabArray", "list_matlab", "read_matlab"]

_HEADER = 128
_HEAD = 4096  # what tells an array's name and shape lies well within
_MATRIX, _COMPRESSED = 14, 15
_NUMBERS = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}
_COMPLEX = 0x0800
_NUMERIC_CLASSES = range(6, 16)  # mxDOUBLE_CLASS to mxUINT64_CLASS


class MatlabArray(NamedTuple):
    """What a file says of an array before its numbers: its shape, in MATLAB's order, and whether it is complex."""

    shape: tuple[int, ...]
    is_complex: bool


def list_matlab(path: Path) -> dict[str, MatlabArray]:
    """The numeric arrays of a file, by name; their numbers are not read.

    Args:
        path: as for `read_matlab`.

    Raises:
        FileFormatError: the file is something else, or ends too early.
        OSError: the file cannot be read.
    """
    found = {}
    with path.open("rb") as file, _whole(path):
        _check(path, file.read(_HEADER))
        end = path.stat().st_size
        at = _HEADER
        while at < end:
            kind, size = struct.unpack("<II", file.read(8))
            if at + 8 + size > end:
                raise ValueError(f"an array needs {size} bytes, and {end - at - 8} are left")
            head = file.read(min(size, _HEAD))
            if kind == _COMPRESSED:
                head = zlib.decompressobj().decompress(head, _HEAD)
                kind, head = struct.unpack_from("<I", head)[0], head[8:]
            if kind == _MATRIX and (described := _described(head)):
                found[described[0]] = described[1]
            at += 8 + size
            file.seek(at)
    return found


def read_matlab(path: Path) -> dict[str, npt.NDArray[Any]]:
    """All numeric arrays of a file, by name; other variables are left out.

    Args:
        path: a little-endian MATLAB 5 file (``save -v6`` or ``-v7``; ``-v7.3`` is HDF5).

    Raises:
        FileFormatError: the file is something else, or ends too early.
        OSError: the file cannot be read.
    """
    content = path.read_bytes()
    _check(path, content[:_HEADER])
    arrays = {}
    with _whole(path):
        for kind, data in _elements(content[_HEADER:]):
            for inner, matrix in _elements(zlib.decompress(data)) if kind == _COMPRESSED else [(kind, data)]:
                if inner == _MATRIX and (named := _array(matrix)):
                    arrays[named[0]] = named[1]
    return arrays


def _check(path: Path, header: bytes) -> None:
    if not header.startswith(b"MATLAB 5.0") or header[126:128] != b"IM":
        raise FileFormatError(
            f"{path} is not a little-endian MATLAB 5 file; save it with -v7 (version 7.3 is HDF5: open it with h5py)"
        )


@contextmanager
def _whole(path: Path) -> Iterator[None]:
    try:
        yield
    except (struct.error, zlib.error, ValueError) as error:
        raise FileFormatError(f"{path} is damaged or cut off: {error}; fetch it again") from error


def _elements(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Elements (type, data) one after the other, each padded to 8 bytes unless it is compressed."""
    at = 0
    while at < len(data):
        kind, size = struct.unpack_from("<II", data, at)
        if kind >> 16:  # small element: type and size share one word, and the data are in the next
            yield kind & 0xFFFF, data[at + 4 : at + 4 + (kind >> 16)]
            at += 8
            continue
        yield kind, data[at + 8 : at + 8 + size]
        at += 8 + size + (0 if kind == _COMPRESSED else -size % 8)


def _described(matrix: bytes) -> tuple[str, MatlabArray] | None:
    """Name and description of an array, of which the first bytes are enough; None if it holds no numbers."""
    (_, flags), (_, dimensions), (_, name) = islice(_elements(matrix), 3)
    word = struct.unpack_from("<I", flags)[0]
    if word & 0xFF not in _NUMERIC_CLASSES:
        return None
    shape = tuple(int(n) for n in np.frombuffer(dimensions, "<i4"))
    return name.decode(), MatlabArray(shape, bool(word & _COMPLEX))


def _array(matrix: bytes) -> tuple[str, npt.NDArray[Any]] | None:
    described = _described(matrix)
    if described is None:
        return None
    name, array = described
    parts = islice(_elements(matrix), 3, None)
    numbers = [np.frombuffer(data, "<" + _NUMBERS[kind]) for kind, data in parts]
    values = numbers[0] + 1j * numbers[1] if array.is_complex else numbers[0]
    return name, values.reshape(array.shape, order="F")
