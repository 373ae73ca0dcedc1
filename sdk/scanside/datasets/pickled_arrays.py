"""NumPy arrays out of pickles, and nothing else.

A pickle is a program: it may call whatever it names. This one may name three things, the reconstructor, the class and
the data type of NumPy's arrays, and even these are stand-ins that can make an array only. Python 2 wrote text and
bytes alike; as latin-1, which has a character for every byte, NumPy gets the bytes back.
"""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from scanside.errors import FileFormatError

__all__ = ["read_pickled_array"]

_ARRAY = "numpy.ndarray"
"""Stands for the class: it can be handed to the reconstructor, and not be called."""


def read_pickled_array(path: Path) -> npt.NDArray[Any]:
    """The one array of numbers that a pickle holds.

    Args:
        path: of Python 2 or 3, protocols 0 to 4.

    Raises:
        FileFormatError: it names anything that is no part of such an array, holds something else, or is cut short.
        FileNotFoundError: there is no such file.
    """
    with path.open("rb") as file:
        try:
            found = _ArrayUnpickler(file, encoding="latin1").load()
        except FileFormatError as error:
            raise FileFormatError(f"{path}: {error}") from None
        except EOFError:
            raise FileFormatError(f"{path}: ends within its array: the download is not whole") from None
        except (
            pickle.UnpicklingError,
            ValueError,
            TypeError,
            LookupError,
            AttributeError,
            MemoryError,
            ArithmeticError,
        ) as error:
            raise FileFormatError(f"{path}: is no pickled array, or is cut short: {error}") from error
    if not isinstance(found, np.ndarray) or found.dtype.kind not in "biuf":
        what = f"an array of {found.dtype}" if isinstance(found, np.ndarray) else f"a {type(found).__name__}"
        raise FileFormatError(f"{path}: holds {what}, expected one array of numbers")
    return found


def _empty_array(kind: object, shape: object, _: object) -> npt.NDArray[np.int8]:
    """The array that a pickle fills later; it never asks for more than nothing."""
    if kind != _ARRAY or shape != (0,):
        raise FileFormatError(
            f"it asks for an array of the shape {shape} before its data: arrays begin empty"
        )
    return np.empty(0, np.int8)


def _data_type(kind: object, *_: object) -> np.dtype[Any]:
    """A data type, without the flags for alignment and copying, which later NumPy takes as booleans only."""
    if not isinstance(kind, str):
        raise FileFormatError(f"it has a data type {kind!r}, expected a name such as 'u2'")
    return np.dtype(kind)


_ADMITTED: dict[tuple[str, str], Any] = {
    ("numpy.core.multiarray", "_reconstruct"): _empty_array,
    ("numpy._core.multiarray", "_reconstruct"): _empty_array,
    ("numpy", "ndarray"): _ARRAY,
    ("numpy", "dtype"): _data_type,
}


class _ArrayUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _ADMITTED:
            raise FileFormatError(
                f"its pickle asks for {module}.{name}, and only arrays are read: nothing of it was run; do not open "
                "it by other means before you know who made it"
            )
        return _ADMITTED[module, name]

    def persistent_load(self, pid: Any) -> Any:
        raise FileFormatError("its pickle refers to objects outside of it, and only arrays are read")
