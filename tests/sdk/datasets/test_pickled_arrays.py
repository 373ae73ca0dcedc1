"""Pickles: arrays of Python 2 and 3 are read as the standard library reads them, and nothing is run."""

from __future__ import annotations

import os
import pickle
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from scanside.datasets.knee_mri import _as_python_2
from scanside.datasets.pickled_arrays import read_pickled_array
from scanside.errors import FileFormatError

ARRAY = np.arange(2 * 3 * 5, dtype="<u2").reshape(2, 3, 5) * 137


def in_text(array: npt.NDArray[Any], module: str = "numpy.core.multiarray") -> bytes:
    """As Python 2 pickled by default, protocol 0, whose bytes are written as Python writes strings."""
    data = repr(array.tobytes().decode("latin1")).encode("latin1", "backslashreplace")
    shape = b"".join(b"I%d\n" % n for n in array.shape)
    return (
        b"c"
        + module.encode()
        + b"\n_reconstruct\n(cnumpy\nndarray\n(I0\ntS'b'\ntR(I1\n("
        + shape
        + b"tcnumpy\ndtype\n"
        b"(S'u2'\nI0\nI1\ntR(I3\nS'<'\nNNNI-1\nI-1\nI0\ntbI00\nS" + data + b"\ntb."
    )


@pytest.mark.parametrize(
    "content",
    [
        _as_python_2(ARRAY),
        in_text(ARRAY),
        in_text(ARRAY, "numpy._core.multiarray"),
        pickle.dumps(ARRAY, 3),
        pickle.dumps(ARRAY, 4),
    ],
    ids=["python 2", "python 2 in text", "numpy 2", "protocol 3", "protocol 4"],
)
def test_what_the_standard_library_reads(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "1-2.pck"
    path.write_bytes(content)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of flags that NumPy wants as booleans
        expected = pickle.loads(content, encoding="latin1")
    found = read_pickled_array(path)
    np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(found, ARRAY)


class Runs:
    def __reduce__(self) -> Any:
        return os.system, ("touch hacked",)


class Huge:
    def __reduce__(self) -> Any:
        return np.ndarray, ((1 << 40,),)


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (
            pickle.dumps(Runs(), 2),
            r"asks for (posix|nt)\.system, and only arrays are read: nothing of it was run",
        ),
        (b"cos\nsystem\n(S'touch hacked'\ntR.", r"asks for os\.system"),
        (b"cnumpy.core.multiarray\nscalar\n.", r"asks for numpy\.core\.multiarray\.scalar"),
        (pickle.dumps([ARRAY, np.save], 2), "asks for"),
        (pickle.dumps(Huge(), 2), "is no pickled array, or is cut short"),
        (_as_python_2(ARRAY).replace(b"K\x00\x85", b"K\xff\x85"), r"asks for an array of the shape \(255,\)"),
        (_as_python_2(ARRAY)[:-20], "ends within its array|is cut short"),
        (b"", "ends within its array"),
        (pickle.dumps({"volume": 3}, 2), "holds a dict, expected one array of numbers"),
        (pickle.dumps(np.array([{}, None]), 3), "holds an array of object"),
        (b"P1\n.", "refers to objects outside of it"),
        (b"\x89HDF\r\n\x1a\n", "is no pickled array"),
    ],
)
def test_what_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes, text: str) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "1-2.pck").write_bytes(content)
    with pytest.raises(FileFormatError, match=rf"1-2\.pck: .*({text})"):
        read_pickled_array(tmp_path / "1-2.pck")
    assert not (tmp_path / "hacked").exists()
