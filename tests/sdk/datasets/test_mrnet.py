"""MRNet's folders: volumes, labels, and what does not fit."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from scanside.datasets import open_image_file
from scanside.datasets.checking import check_folder
from scanside.datasets.mrnet import write_mrnet
from scanside.errors import FileFormatError

LABELS = {
    "abnormal": {"0000": 1, "0001": 0},
    "acl": {"0000": 0, "0001": 0},
    "meniscus": {"0000": 1, "0001": 0},
}


def volume(number: int, n: int = 3) -> npt.NDArray[np.uint8]:
    return np.random.default_rng(number).integers(0, 256, (n, 256, 256), np.uint8)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    exams = {
        f"{exam:04}": {plane: volume(exam, n) for plane, n in (("axial", 4), ("coronal", 3), ("sagittal", 2))}
        for exam in range(2)
    }
    write_mrnet(tmp_path, exams, LABELS)
    return tmp_path


def test_a_volume(folder: Path) -> None:
    with open_image_file(folder / "train" / "coronal" / "0000.npy") as file:
        assert (file.FORMAT, file.subject) == ("mrnet", "0000")
        assert file.facts == {"part": "train", "plane": "coronal"}
        assert file.labels == {"abnormal": 1, "acl": 0, "meniscus": 1}
        np.testing.assert_array_equal([file.image(place) for place in file.places], volume(0, 3))


def test_planes_of_one_examination_are_one_subject(folder: Path) -> None:
    np.save(folder / "mask.npy", np.ones(3))  # of nobody's concern
    found = check_folder(folder)
    assert found.datasets == {"mrnet": 6}
    assert (len(found.subjects("mrnet")), found.n_images("mrnet"), found.broken) == (2, 18, ())


def test_without_tables_there_are_no_labels(folder: Path) -> None:
    for table in folder.glob("*.csv"):
        table.unlink()
    with open_image_file(folder / "train" / "axial" / "0001.npy") as file:
        assert file.labels == {}


def test_a_line_whose_volume_is_missing(folder: Path) -> None:
    (folder / "train" / "axial" / "0001.npy").unlink()
    (broken,) = check_folder(folder).broken
    assert broken.path == Path("train/axial/0001.npy")
    assert broken.problem == "train-abnormal.csv has a line of it, and the volume is not there"


def test_an_examination_without_a_line(folder: Path) -> None:
    (folder / "train-acl.csv").write_text("0000,0\n")
    with pytest.raises(FileFormatError, match=r"train-acl\.csv has no line of its examination 0001"):
        open_image_file(folder / "train" / "axial" / "0001.npy")


def test_a_table_with_a_header(folder: Path) -> None:
    (folder / "train-acl.csv").write_text("exam,acl\n0000,0\n")
    with pytest.raises(FileFormatError, match=r"line 1 is 'exam,acl', expected an examination and 0 or 1"):
        open_image_file(folder / "train" / "axial" / "0000.npy")


@pytest.mark.parametrize(
    ("values", "text"),
    [
        (
            np.zeros((3, 128, 128), np.uint8),
            r"uint8 of the shape \(3, 128, 128\), expected bytes \(slice, 256, 256\)",
        ),
        (np.zeros((3, 256, 256), np.float32), "float32 of the shape"),
        (np.array([{}], object), "Python objects in dtype"),
    ],
)
def test_what_is_refused(folder: Path, values: npt.NDArray[np.uint8], text: str) -> None:
    path = folder / "train" / "axial" / "0000.npy"
    np.save(path, values)
    with pytest.raises(FileFormatError, match=rf"0000\.npy: .*{text}"):
        open_image_file(path)


def test_half_a_download(folder: Path) -> None:
    path = folder / "train" / "axial" / "0000.npy"
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(FileFormatError, match=r"0000\.npy: "):
        open_image_file(path)


def test_elsewhere_it_is_no_file_of_the_data_set(folder: Path) -> None:
    path = (folder / "train" / "axial" / "0000.npy").rename(folder / "0000.npy")
    with pytest.raises(FileFormatError, match="no data set of images that is known"):
        open_image_file(path)
    with pytest.raises(FileFormatError, match=r"does not lie as train/axial/0000\.npy does"):
        open_image_file(path, "mrnet")
