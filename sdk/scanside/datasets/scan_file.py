"""What readers of data sets have in common: a file of measured k-space, one image at a time.

K-space is brought to one convention, whatever the file's: ``(coil, k1, k0)``, its centre at ``n // 2`` of both axes,
so that `scanside.recon.fourier.to_image` makes coil images of it; k1 is a phase encoding, and k0 the readout, or,
of volumes that are given along their readout, the second phase encoding.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import h5py
import numpy as np
import numpy.typing as npt

from scanside.errors import FileFormatError, ScansideError

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["Hdf5ScanFile", "MeasuredSlice", "Place", "ScanFile", "dataset", "naming", "text", "whole_lines"]


class Place(NamedTuple):
    """Which image of a file, by the counters that ISMRMRD would give it."""

    slice: int
    contrast: int = 0
    phase: int = 0
    repetition: int = 0
    set: int = 0
    average: int = 0


@dataclass(frozen=True, eq=False)
class MeasuredSlice:
    """K-space of one image.

    Attributes:
        kspace: ``(coil, k1, k0)`` complex64, 0 where nothing was acquired.
        acquired: ``(k1, k0)`` booleans, or ``(k1, 1)`` where lines are whole: what was acquired. What a file pads its
            k-space with is not.
    """

    kspace: npt.NDArray[np.complex64]
    acquired: npt.NDArray[np.bool_]


class ScanFile(ABC):
    """A file of a data set, open until it is closed; a context manager.

    Attributes:
        FORMAT: the data set's name, as in configurations.
        path: the file.
        subject: whose it is, or of which examination: all files of one must stay together.
        facts: what the file says of itself, by name: acquisition, contrast, …
        places: all images, in the file's order.
        image_size: (k1, k0) of the images that the data set compares, cut out of the middle of the field of view.
        header: the scan's ISMRMRD header as XML, where the file has one.
        first_line: line of k-space that such a header counts as 0.
        CARTESIAN: whether the samples lie on a grid. Where they do not, the Fourier transform of `measured` is no
            image: the readouts must be regridded first.
    """

    FORMAT: ClassVar[str]
    CARTESIAN: ClassVar[bool] = True

    path: Path
    subject: str
    facts: dict[str, str]
    places: Sequence[Place]
    image_size: tuple[int, int]
    header: bytes | None = None
    first_line: int = 0

    @abstractmethod
    def __init__(self, path: Path) -> None:
        """Open a file.

        Args:
            path: the file.

        Raises:
            FileFormatError: it breaks a rule of the data set, which the text says, with the file's name.
            FileNotFoundError: there is no such file.
        """

    @classmethod
    @abstractmethod
    def recognises(cls, path: Path) -> bool:
        """Whether a file looks like one of the data set. It may be none all the same, which opening it tells."""

    @classmethod
    def accompanies(cls, path: Path) -> bool:  # noqa: ARG003 — readers look at it
        """Whether a file without k-space is of the data set by its name, such as masks and coil maps."""
        return False

    @property
    def shape(self) -> tuple[int, int, int]:
        """(coil, k1, k0) of the k-space of every image.

        Readers that know it without reading k-space say so here.

        Raises:
            FileFormatError: the file is damaged.
        """
        n_coils, n1, n0 = self.measured(self.places[0]).kspace.shape
        return n_coils, n1, n0

    @abstractmethod
    def measured(self, place: Place) -> MeasuredSlice:
        """K-space of one image; no other is read.

        Raises:
            FileFormatError: the file is damaged.
        """

    def acquired(self, place: Place) -> npt.NDArray[np.bool_]:
        """What was acquired of one image, see `MeasuredSlice`.

        Readers that know it without reading k-space say so here.

        Raises:
            FileFormatError: the file is damaged.
        """
        return self.measured(place).acquired

    def reference(self, place: Place) -> npt.NDArray[np.float32] | None:
        """The reconstruction that comes with the file, ``image_size``, along the axes of k-space; None without one.

        Raises:
            FileFormatError: the file is damaged.
        """
        return None

    def maps(self, place: Place) -> npt.NDArray[np.complex64] | None:
        """The coil maps that come with the file, ``(coil, k1, k0)`` along the axes of k-space; None without them.

        Raises:
            FileFormatError: the file is damaged.
        """
        return None

    @abstractmethod
    def close(self) -> None:
        """Close the file."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Hdf5ScanFile(ScanFile):
    """A file of a data set that keeps HDF5 (also MATLAB's version 7.3)."""

    def __init__(self, path: Path) -> None:
        self.path = path
        with naming(path):
            self._file = h5py.File(path, "r")
            try:
                self._look_into(self._file)
            except BaseException:
                self._file.close()
                raise

    @classmethod
    def recognises(cls, path: Path) -> bool:
        """See `ScanFile.recognises`."""
        try:
            with h5py.File(path, "r") as file:
                return cls._has_its_signs(file)
        except (OSError, RuntimeError):
            return False

    @classmethod
    @abstractmethod
    def _has_its_signs(cls, file: h5py.File) -> bool:
        """Whether an HDF5 file looks like one of the data set."""

    @abstractmethod
    def _look_into(self, file: h5py.File) -> None:
        """Set what `ScanFile` promises, and refuse what breaks the rules."""

    def close(self) -> None:
        """See `ScanFile.close`."""
        self._file.close()


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Whatever is wrong with a file of many, its name is in the error.

    Raises:
        FileFormatError: instead of anything that reading a damaged file raises.
    """
    try:
        yield
    except FileNotFoundError:
        raise
    except (ScansideError, OSError, RuntimeError, LookupError, ValueError) as error:
        raise FileFormatError(f"{path}: {error}") from error


def dataset(file: h5py.File, name: str, ndims: tuple[int, ...], axes: str) -> h5py.Dataset:
    """An array of a file.

    Args:
        file: the file.
        name: of the array.
        ndims: how many axes it may have.
        axes: what they are, for messages.

    Raises:
        FileFormatError: there is none, it has other axes, or it is empty.
    """
    found: Any = file.get(name)
    if not isinstance(found, h5py.Dataset):
        there = ", ".join(file) or "nothing"
        raise FileFormatError(f"it has no '{name}' {axes}; it holds {there}")
    if found.ndim not in ndims or not found.size:
        raise FileFormatError(f"'{name}' has the shape {found.shape}, expected {axes}")
    return found


def text(file: h5py.File, name: str) -> bytes:
    """A text of a file.

    Raises:
        FileFormatError: there is none, or it is an array.
    """
    found = dataset(file, name, (0,), "(text)")[()]
    return found if isinstance(found, bytes) else str(found).encode()


def whole_lines(acquired: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """``(k1, 1)`` of ``(k1, k0)`` if each line was acquired wholly or not at all."""
    lines = np.asarray(acquired.any(1, keepdims=True))
    return lines if (acquired == lines).all() else acquired
