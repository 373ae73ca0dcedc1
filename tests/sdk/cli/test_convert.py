"""`scanside convert`: the scan that it writes, and what it refuses."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.sdk.datasets.conftest import coils_of
from typer.testing import Result

from scanside.datasets import Place, open_scan_file
from scanside.datasets.bart_files import read_cfl
from scanside.datasets.fastmri import write_fastmri
from scanside.datasets.fourier import middle
from scanside.items import Readouts
from scanside.mrd.files import open_recording
from scanside.mrd.hdf5 import Hdf5Reader
from scanside.mrd.header import MrdHeader

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
    refused = scanside("convert", tmp_path / "images.h5", tmp_path / "k.cfl", status=1).stderr
    assert "holds no lines of images" in refused
    assert not (tmp_path / "k.cfl").exists()


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


def test_a_file_of_a_data_set_as_mrd_2(scanside: Scanside, knee: Path, tmp_path: Path) -> None:
    """The same as by way of ISMRMRD."""
    direct, scan, by_way = (tmp_path / name for name in ("direct.mrd", "scan.h5", "by_way.mrd"))
    assert scanside("convert", knee, direct).stdout.startswith("2 images of fastmri")
    scanside("convert", knee, scan)
    scanside("convert", scan, by_way)
    with open_recording(direct) as one, open_recording(by_way) as other:
        assert MrdHeader.parse(one.header_xml) == MrdHeader.parse(other.header_xml)
        blocks = [[block for block in file.items() if isinstance(block, Readouts)] for file in (one, other)]
    samples, wanted = (np.concatenate([block.samples for block in some]) for some in blocks)
    assert len(samples) == 72
    np.testing.assert_array_equal(samples, wanted)


@pytest.mark.parametrize("suffix", [".h5", ".mrd"])
def test_a_scan_for_bart(scanside: Scanside, bart: str, knee: Path, tmp_path: Path, suffix: str) -> None:
    """Its commands find dimensions and images; with the header beside, the scan comes back as it was."""
    scan, again = tmp_path / f"scan{suffix}", tmp_path / "again.h5"
    scanside("convert", knee, scan)
    assert scanside("convert", scan, tmp_path / "k.cfl").stdout.startswith("2 images: ")
    shown = subprocess.run(
        [bart, "show", "-m", "k"], cwd=tmp_path, check=True, capture_output=True, text=True
    )
    dimensions = [int(n) for n in re.findall(r"\d+", shown.stdout.split("AoD:")[-1])]
    assert dimensions[:14] == [64, 36, 1, 3, *[1] * 9, 2]
    for arguments in (("fft", "-u", "-i", "3", "k", "images"), ("rss", "8", "images", "rss")):
        subprocess.run([bart, *arguments], cwd=tmp_path, check=True)
    found = np.abs(read_cfl(tmp_path / "rss").squeeze().T)
    with open_scan_file(knee) as file:
        for number, image in enumerate(found):
            wanted = file.reference(Place(number))
            assert wanted is not None
            np.testing.assert_allclose(middle(image, wanted.shape), wanted, atol=1e-5 * wanted.max())
    assert MrdHeader.parse((tmp_path / "k.xml").read_bytes()).encoding(0).encoded.matrix == (64, 36, 1)
    scanside("convert", tmp_path / "k.hdr", again)
    with Hdf5Reader(again) as one:
        (block,) = one.blocks()
        assert block.headers["idx"]["kspace_encode_step_1"].tolist() == [*range(36)] * 2


def test_what_was_not_acquired_is_nothing_in_bart(
    scanside: Scanside, small_scan: Path, tmp_path: Path
) -> None:
    scanside("convert", small_scan, tmp_path / "new" / "k.cfl")
    kspace = read_cfl(tmp_path / "new" / "k")
    acquired = kspace.any((0, 3)).squeeze()
    with Hdf5Reader(small_scan) as reader:
        n_lines = sum(len(block) for block in reader.blocks())
        matrix = MrdHeader.parse(reader.header_xml).encoding(0).encoded.matrix
    assert kspace.shape[:3] == (matrix[0], matrix[1], 1)
    assert 0 < acquired.sum() <= n_lines
    assert not acquired.all()


def test_a_header_of_another_scan_beside_bart(scanside: Scanside, knee: Path, tmp_path: Path) -> None:
    scanside("convert", knee, tmp_path / "k.cfl")
    header = tmp_path / "k.xml"
    header.write_bytes(header.read_bytes().replace(b"<y>36</y>", b"<y>40</y>"))
    refused = scanside("convert", tmp_path / "k.cfl", tmp_path / "scan.h5", status=1).stderr
    assert "they are not of one scan; remove the header" in " ".join(refused.split())
