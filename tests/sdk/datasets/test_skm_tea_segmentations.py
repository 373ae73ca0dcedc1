"""SKM-TEA's segmentations lie over the images of their own track, and over no others."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import nibabel
import numpy as np
import numpy.typing as npt
import pytest

from scanside.datasets.skm_tea import SkmTeaFile, write_skm_tea
from scanside.datasets.skm_tea_segmentations import (
    TISSUES,
    read_skm_tea_segmentation,
    write_skm_tea_images,
)
from scanside.errors import FileFormatError

SHAPE = (3, 8, 6)


def labels() -> npt.NDArray[np.uint8]:
    return np.random.default_rng(1).integers(0, 7, SHAPE).astype(np.uint8)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A folder as the data set's, of one scan."""
    folders = ("files_recon_calib-24", "image_files", "raw-data-track", "dicom-track")
    for folder in folders:
        (tmp_path / folder).mkdir()
    ones = np.ones((3, 2, 8, 6), np.complex64)
    write_skm_tea(tmp_path / folders[0] / "MTR_005.h5", ones, ones, acquired_size=(6, 4))
    echoes = np.random.default_rng(2).random((2, *SHAPE))
    write_skm_tea_images(tmp_path / folders[1] / "MTR_005.h5", echoes, labels())
    for folder, found in (("raw-data-track", labels()[:, ::-1]), ("dicom-track", labels())):
        nibabel.save(nibabel.Nifti1Image(found, np.eye(4)), tmp_path / folder / "MTR_005.nii.gz")
    return tmp_path


def test_of_the_raw_data_track(root: Path) -> None:
    images = root / "files_recon_calib-24" / "MTR_005.h5"
    found = read_skm_tea_segmentation(root / "raw-data-track" / "MTR_005.nii.gz", images)
    assert found.track == "raw-data"
    np.testing.assert_array_equal(found.labels, labels()[:, ::-1])
    with SkmTeaFile(images) as scan:
        assert found.labels[scan.places[0].slice].shape == scan.image_size


@pytest.mark.parametrize("name", ["image_files/MTR_005.h5", "dicom-track/MTR_005.nii.gz"])
def test_of_the_dicom_track(root: Path, name: str) -> None:
    found = read_skm_tea_segmentation(root / name, root / "image_files" / "MTR_005.h5")
    assert found.track == "dicom"
    np.testing.assert_array_equal(found.labels, labels())


def test_images_have_the_published_layout(root: Path) -> None:
    with h5py.File(root / "image_files" / "MTR_005.h5") as file:
        assert set(file) == {"echo1", "echo2", "seg", "stats"}
        assert file["seg"].shape == (*SHAPE, 6)
        np.testing.assert_array_equal(file["seg"][..., TISSUES.index("medial meniscus")], labels() == 5)
        assert set(file["stats"]) == {"echo1", "echo2", "rss"}
        assert file["stats/echo2/max"][()] == file["echo2"][()].max()
    assert not SkmTeaFile.recognises(root / "image_files" / "MTR_005.h5")


RAW, DICOM = "files_recon_calib-24/MTR_005.h5", "image_files/MTR_005.h5"


@pytest.mark.parametrize(
    ("name", "images", "text"),
    [
        ("raw-data-track/MTR_005.nii.gz", DICOM, "is of the raw-data track, and .* of the dicom track"),
        ("dicom-track/MTR_005.nii.gz", RAW, "is of the dicom track, and .* of the raw-data track"),
        (DICOM, RAW, "is of the dicom track, and .* of the raw-data track"),
    ],
)
def test_tracks_are_not_mixed(root: Path, name: str, images: str, text: str) -> None:
    with pytest.raises(FileFormatError, match=rf"{text}.*take the segmentation of the same track"):
        read_skm_tea_segmentation(root / name, root / images)


def renamed(root: Path) -> Path:
    path = root / "dicom-track" / "MTR_006.nii.gz"
    return (root / "dicom-track" / "MTR_005.nii.gz").rename(path)


def moved(root: Path) -> Path:
    return (root / "dicom-track" / "MTR_005.nii.gz").rename(root / "MTR_005.nii.gz")


def written(root: Path, found: Any) -> Path:
    path = root / "dicom-track" / "MTR_005.nii.gz"
    nibabel.save(nibabel.Nifti1Image(found, np.eye(4)), path)
    return path


def larger(root: Path) -> Path:
    return written(root, np.zeros((4, 8, 6), np.uint8))


def with_seven(root: Path) -> Path:
    return written(root, labels() + np.uint8(1))


def with_halves(root: Path) -> Path:
    return written(root, labels().astype(np.float32) / 2)


def with_two_tissues(root: Path) -> Path:
    path = root / DICOM
    with h5py.File(path, "a") as file:
        file["seg"][0, 0, 0, 2:4] = 1
        file["seg"][0, 0, 0, :2] = 0
    return path


def with_five_tissues(root: Path) -> Path:
    path = root / DICOM
    with h5py.File(path, "a") as file:
        found = file["seg"][..., :5]
        del file["seg"]
        file["seg"] = found
    return path


@pytest.mark.parametrize(
    ("broken", "text"),
    [
        (renamed, "is of another scan than"),
        (moved, "lies in neither of the folders raw-data-track and dicom-track"),
        (larger, r"has the size \(4, 8, 6\), and .* \(3, 8, 6\)"),
        (with_seven, "values from 1 to 7, expected labels from 0 to 6"),
        (with_halves, "expected labels from 0 to 6"),
        (with_two_tissues, "has voxels of lateral tibial cartilage that are of another tissue, too"),
        (with_five_tissues, r"'seg' has the shape \(3, 8, 6, 5\), expected \(x, y, z, 6\)"),
    ],
)
def test_what_is_broken_is_told(root: Path, broken: Any, text: str) -> None:
    with pytest.raises(FileFormatError, match=rf"MTR_00.*{text}"):
        read_skm_tea_segmentation(broken(root), root / DICOM)
