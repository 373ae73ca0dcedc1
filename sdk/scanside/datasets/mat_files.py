"""Arrays of MATLAB files, whichever way they were saved: HDF5 (version 7.3) and the format before it.

Axes are given as HDF5 has them, MATLAB's last one first, for both.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np
import numpy.typing as npt

from scanside.datasets.matlab import MatlabArray, list_matlab, read_matlab
from scanside.datasets.scan_file import naming

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["MatFile", "open_mat"]


class MatFile(ABC):
    """A MATLAB file, open until it is closed; a context manager.

    Attributes:
        arrays: all arrays of numbers by name, with their shapes slow → fast.
    """

    arrays: Mapping[str, MatlabArray]

    @abstractmethod
    def read(self, name: str, index: tuple[int, ...] = ()) -> npt.NDArray[Any]:
        """What lies at an index of the slowest axes; complex numbers as complex64.

        Raises:
            FileFormatError: the file is damaged; the text names it.
        """

    @abstractmethod
    def close(self) -> None:
        """Close the file."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def open_mat(path: Path) -> MatFile:
    """Open a MATLAB file of version 5, 6, 7 or 7.3.

    Raises:
        FileFormatError: it is none, or ends too early; the text names it.
        FileNotFoundError: there is no such file.
    """
    return _Hdf5(path) if h5py.is_hdf5(path) else _Old(path)


class _Hdf5(MatFile):
    """Version 7.3: only what is asked for is read."""

    def __init__(self, path: Path) -> None:
        self._path = path
        with naming(path):
            self._file = h5py.File(path, "r")
            self.arrays = {
                name: MatlabArray(found.shape, found.dtype.names == ("real", "imag"))
                for name, found in self._file.items()
                if isinstance(found, h5py.Dataset)
            }

    def read(self, name: str, index: tuple[int, ...] = ()) -> npt.NDArray[Any]:
        """See `MatFile.read`."""
        with naming(self._path):
            found = np.asarray(self._file[name][index])
        if not self.arrays[name].is_complex:
            return found
        numbers = np.empty(found.shape, np.complex64)
        numbers.real, numbers.imag = found["real"], found["imag"]
        return numbers

    def close(self) -> None:
        """See `MatFile.close`."""
        self._file.close()


class _Old(MatFile):
    """Versions 5 to 7, whose arrays are one stream: the first image that is asked for reads them all."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._numbers: dict[str, npt.NDArray[Any]] = {}
        self.arrays = {
            name: MatlabArray(found.shape[::-1], found.is_complex)
            for name, found in list_matlab(path).items()
        }

    def read(self, name: str, index: tuple[int, ...] = ()) -> npt.NDArray[Any]:
        """See `MatFile.read`."""
        if not self._numbers:
            self._numbers = read_matlab(self._path)
        found = self._numbers[name].T[index]
        return np.ascontiguousarray(found, np.complex64 if self.arrays[name].is_complex else None)

    def close(self) -> None:
        """See `MatFile.close`."""
        self._numbers = {}
