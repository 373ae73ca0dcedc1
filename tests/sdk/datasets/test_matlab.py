"""MATLAB files as SciPy writes them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import scipy.io

from scanside.datasets.matlab import MatlabArray, list_matlab, read_matlab
from scanside.errors import FileFormatError

ARRAYS = {
    "maps": (np.arange(24.0).reshape(2, 3, 4) * (1 - 2j)).astype(np.complex64),
    "n": np.array([[7]], np.uint8),
    "x": np.linspace(0, 1, 5)[None],
    "text": "not a number",
}


@pytest.fixture(params=[True, False], ids=["compressed", "plain"])
def file(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    path = tmp_path / "arrays.mat"
    scipy.io.savemat(path, ARRAYS, do_compression=request.param)
    return path


def test_numbers_are_read_as_they_were_written(file: Path) -> None:
    read = read_matlab(file)
    assert sorted(read) == ["maps", "n", "x"]
    for name, array in read.items():
        np.testing.assert_array_equal(array, ARRAYS[name])


def test_shapes_are_told_without_the_numbers(file: Path) -> None:
    assert list_matlab(file) == {
        "maps": MatlabArray((2, 3, 4), True),
        "n": MatlabArray((1, 1), False),
        "x": MatlabArray((1, 5), False),
    }


def test_measured_maps_as_scipy_reads_them(shared_data: Path) -> None:
    path = shared_data / "coil-maps-32ch" / "xGT.mat"
    expected = scipy.io.loadmat(path)
    for name, array in read_matlab(path).items():
        np.testing.assert_array_equal(array, expected[name])
        assert array.dtype == expected[name].dtype


@pytest.mark.parametrize("share", [0.5, 0.95])
def test_a_file_that_was_cut_off(file: Path, share: float) -> None:
    content = file.read_bytes()
    file.write_bytes(content[: int(share * len(content))])
    with pytest.raises(FileFormatError, match=r"arrays\.mat is damaged or cut off"):
        read_matlab(file)
    with pytest.raises(FileFormatError, match=r"arrays\.mat is damaged or cut off"):
        list_matlab(file)


def test_another_format(tmp_path: Path) -> None:
    path = tmp_path / "new.mat"
    path.write_bytes(b"MATLAB 7.3 MAT-file".ljust(512))
    with pytest.raises(FileFormatError, match=r"version 7\.3 is HDF5"):
        read_matlab(path)
