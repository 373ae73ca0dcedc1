"""`scanside convert`: the scan that it writes, and what it refuses."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.sdk.datasets.conftest import coils_of
from typer.testing import Result

from scanside.datasets.fastmri import write_fastmri
from scanside.mrd.hdf5 import Hdf5Reader

Scanside = Callable[..., Result]


@pytest.fixture
def knee(tmp_path: Path) -> Path:
    path = tmp_path / "file1000001.h5"
    write_fastmri(path, coils_of(2, 3, 36, 64), patient="somebody", image_size=(32, 32))
    return path


def test_convert(scanside: Scanside, as_json: Callable[..., Any], knee: Path, tmp_path: Path) -> None:
    told = scanside("convert", knee, tmp_path / "scan.h5").stdout
    assert told.startswith("2 images of fastmri, subject somebody: ")
    found = scanside("inspect", tmp_path / "scan.h5", status=3).stdout
    assert "36 of 36 lines" in found


def test_a_file_of_another_data_set(scanside: Scanside, knee: Path, tmp_path: Path) -> None:
    knee.write_bytes(knee.read_bytes()[:3000])
    refused = scanside("convert", knee, tmp_path / "scan.h5", status=1).stderr
    assert "looks like a file of no data set that is known" in refused
    assert not (tmp_path / "scan.h5").exists()


def test_the_file_is_not_written_over(scanside: Scanside, knee: Path) -> None:
    assert "is named twice" in scanside("convert", knee, knee, status=2).stderr


def test_by_suffix(scanside: Scanside, knee: Path, tmp_path: Path) -> None:
    nibabel = pytest.importorskip("nibabel")
    scanside("convert", knee, tmp_path / "new" / "k.cfl")
    assert (tmp_path / "new" / "k.hdr").read_text().splitlines()[1].startswith("64 36 1 3 ")
    scanside("convert", knee, tmp_path / "r.nii.gz")
    assert nibabel.load(tmp_path / "r.nii.gz").shape == (32, 32, 2)
    refused = scanside("convert", knee, tmp_path / "k.zip", status=2).stderr
    assert "the suffix says what is written" in refused


def test_images_of_a_replay(scanside: Scanside, small_scan: Path, tmp_path: Path) -> None:
    """The preset's slices lie along the head's axis, 5 mm apart, rows to the back, columns to the left."""
    nibabel = pytest.importorskip("nibabel")
    scanside("replay", small_scan, "-o", tmp_path / "images.h5", "-p", "grappa", "--device", "cpu")
    assert "2 images: " in scanside("convert", tmp_path / "images.h5", tmp_path / "images.nii").stdout
    found = nibabel.load(tmp_path / "images.nii")
    assert "".join(nibabel.aff2axcodes(found.affine)) == "LPS"
    affine = np.load(small_scan.with_name("truth.npz"))["affine"]
    np.testing.assert_allclose(found.affine, np.diag([-1, -1, 1, 1]) @ affine, atol=1e-4)
    refused = scanside("convert", small_scan, tmp_path / "images.nii", status=1).stderr
    assert "holds no images: reconstruct it first" in refused


def test_options_that_are_for_images(scanside: Scanside, knee: Path, tmp_path: Path) -> None:
    refused = scanside("convert", knee, tmp_path / "scan.h5", "--series", "image_1", status=2).stderr
    assert "choose among images" in refused


def test_mrd_2_there_and_back(scanside: Callable[..., Result], small_scan: Path, tmp_path: Path) -> None:
    stream, again = tmp_path / "scan.mrd", tmp_path / "again.h5"
    assert "60 readouts" in scanside("convert", small_scan, stream).stdout
    scanside("convert", stream, again)
    with Hdf5Reader(small_scan) as one, Hdf5Reader(again) as other:
        assert one.n_readouts == other.n_readouts
        for ours, theirs in zip(other.blocks(), one.blocks(), strict=True):
            np.testing.assert_array_equal(ours.samples, theirs.samples)
            np.testing.assert_array_equal(ours.headers, theirs.headers)
    assert "MRD 2 stream" in scanside("inspect", stream).stdout
