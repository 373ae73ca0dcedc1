"""BART's files: ``.hdr`` with the dimensions as text, ``.cfl`` with complex64 in column-major order."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import numpy.typing as npt

from scanside.errors import ConfigError, FormatError

__all__ = ["create_cfl", "header_beside", "map_cfl", "pair_of", "read_cfl", "read_dimensions", "write_cfl"]

_SUFFIXES = (".hdr", ".cfl")
_TITLE = "# Dimensions"
_SAMPLE_BYTES = 8


def pair_of(path: Path) -> tuple[Path, Path]:
    """The files ``.hdr`` and ``.cfl`` of an array, by their common name or by one of them."""
    name = path.with_suffix("") if path.suffix in _SUFFIXES else path
    header, data = (name.with_name(name.name + suffix) for suffix in _SUFFIXES)
    return header, data


def header_beside(path: Path) -> Path:
    """Where the ISMRMRD header of the scan lies that an array was made of, which BART itself has no place for."""
    header, _ = pair_of(path)
    return header.with_suffix(".xml")


def read_dimensions(path: Path) -> tuple[int, ...]:
    """BART's dimensions (k0, k1, k2, coil, …) of an array, without those of 1 at the end.

    Raises:
        ConfigError: the header is not there.
        FormatError: it has no dimensions.
    """
    header, _ = pair_of(path)
    _check_there(header)
    try:
        lines = header.read_text("utf-8").splitlines()
        shape = [int(n) for n in lines[lines.index(_TITLE) + 1].split()]
    except (ValueError, IndexError):
        shape = []
    if not shape or min(shape) < 1:
        raise FormatError(f"{header}: expected '{_TITLE}' and a line of whole numbers below it")
    while len(shape) > 4 and shape[-1] == 1:
        shape.pop()
    return tuple(shape)


def map_cfl(path: Path) -> npt.NDArray[np.complex64]:
    """An array as `read_cfl` has it, of which only what is looked at is read."""
    shape = read_dimensions(path)
    header, data = pair_of(path)
    _check_there(data)
    n_bytes, n_wanted = data.stat().st_size, math.prod(shape)
    if n_bytes != _SAMPLE_BYTES * n_wanted:
        raise FormatError(
            f"{data} holds {n_bytes / _SAMPLE_BYTES:.12g} samples, and {header.name} announces "
            f"{' × '.join(map(str, shape))} = {n_wanted}: one of them is truncated or of another scan"
        )
    return np.memmap(data, "<c8", "r", shape=shape, order="F")


def read_cfl(path: Path) -> npt.NDArray[np.complex64]:
    """Read an array.

    Args:
        path: name of both files without suffix, or of one of them.

    Returns:
        The array in BART's order of dimensions (k0, k1, k2, coil, …), without dimensions of 1 at the end.

    Raises:
        ConfigError: a file is not there.
        FormatError: the header has no dimensions, or the data are of another size.
    """
    return np.array(map_cfl(path), np.complex64, order="F")


def write_cfl(path: Path, values: npt.ArrayLike) -> None:
    """Write an array, dimensions in BART's order, as ``path.hdr`` and ``path.cfl``."""
    array = np.asarray(values, "<c8")
    create_cfl(path, array.shape)[...] = array


def create_cfl(path: Path, shape: tuple[int, ...]) -> np.memmap[tuple[int, ...], np.dtype[np.complex64]]:
    """An array of zeros, to be filled where it lies."""
    header, data = pair_of(path)
    header.write_text(f"{_TITLE}\n{' '.join(map(str, shape))}\n", "utf-8")
    return np.memmap(data, "<c8", "w+", shape=shape, order="F")


def _check_there(file: Path) -> None:
    if not file.is_file():
        raise ConfigError(f"{file} does not exist: BART's format is a pair of files .hdr and .cfl")
