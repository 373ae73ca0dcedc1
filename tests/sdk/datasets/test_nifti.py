"""NIfTI files as nibabel writes them."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest

from scanside.datasets.nifti import read_nifti
from scanside.errors import FileFormatError

ARRAY = np.arange(60).reshape(3, 4, 5)


def write(path: Path, kind: Any = np.uint8, **settings: Any) -> Path:
    image = nibabel.Nifti1Image(ARRAY.astype(kind), np.diag([-2.0, 1, 3, 1]), **settings)
    nibabel.save(image, path)
    return path


@pytest.mark.parametrize("kind", ["u1", "i1", "i2", "u2", "i4", "u4", "f4", "f8"])
@pytest.mark.parametrize("ending", [".nii", ".nii.gz"])
def test_what_nibabel_wrote(tmp_path: Path, kind: str, ending: str) -> None:
    found = read_nifti(write(tmp_path / f"one{ending}", kind))
    assert found.dtype == np.dtype(kind)
    np.testing.assert_array_equal(found, ARRAY)


def test_the_other_order_of_bytes(tmp_path: Path) -> None:
    header = nibabel.Nifti1Header(endianness=">")
    header.set_data_dtype(np.int16)
    path = write(tmp_path / "one.nii", ">i2", header=header)
    assert path.read_bytes()[:4] == (348).to_bytes(4, "big")
    np.testing.assert_array_equal(read_nifti(path), ARRAY)


def scaled(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[112:116] = np.float32(2).tobytes()
    path.write_bytes(data)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def cut_while_packed(path: Path) -> None:
    path.write_bytes(gzip.compress(path.read_bytes())[:-20])


def of_text(path: Path) -> None:
    path.write_text("nothing")


def of_colours(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[70:72] = np.int16(128).tobytes()
    path.write_bytes(data)


@pytest.mark.parametrize(
    ("broken", "text"),
    [
        (scaled, "scales its values by 2.0 and adds"),
        (cut, "holds 59 bytes of its 60: the download is not whole"),
        (cut_while_packed, "cannot be unpacked"),
        (of_text, "is no NIfTI-1 file that holds its own data"),
        (of_colours, r"holds \[3, 4, 5\] values of NIfTI's type 128; real numbers are read here"),
    ],
)
def test_what_is_not_read(tmp_path: Path, broken: Any, text: str) -> None:
    path = write(tmp_path / "one.nii")
    broken(path)
    with pytest.raises(FileFormatError, match=rf"one\.nii: {text}"):
        read_nifti(path)
