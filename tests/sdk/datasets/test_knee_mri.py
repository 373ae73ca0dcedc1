"""KneeMRI's folders: volumes, labels, regions of interest, and tables that do not fit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from scanside.datasets import Place, open_image_file
from scanside.datasets.checking import check_folder
from scanside.datasets.knee_mri import write_knee_mri
from scanside.errors import CounterError, FileFormatError

ROW = {
    "examId": 329637,
    "seriesNo": 8,
    "aclDiagnosis": 1,
    "kneeLR": 0,
    "roiX": 7,
    "roiY": 5,
    "roiZ": 2,
    "roiHeight": 4,
    "roiWidth": 6,
    "roiDepth": 3,
}


def volume(number: int = 0) -> npt.NDArray[np.uint16]:
    """4095 in the region of interest, less elsewhere."""
    made = np.random.default_rng(number).integers(0, 4000, (8, 20, 24), np.uint16)
    made[2:5, 5:9, 7:13] = 4095
    return made


def write(folder: Path, **changes: int) -> Path:
    (first, _) = write_knee_mri(
        folder, [(volume(), ROW | changes), (volume(1), ROW | {"seriesNo": 9, "aclDiagnosis": 0})]
    )
    return first


def test_a_volume(tmp_path: Path) -> None:
    with open_image_file(write(tmp_path)) as file:
        assert (file.FORMAT, file.subject, file.labels) == ("knee-mri", "329637", {"acl": 1})
        assert (file.shape, len(file.places)) == ((20, 24), 8)
        found = np.stack([file.image(place) for place in file.places])
        np.testing.assert_array_equal(found, volume())
        (box,) = file.boxes
        inside: Any = found[
            box.slice : box.slice + box.n_slices,
            box.row : box.row + box.n_rows,
            box.column : box.column + box.n_columns,
        ]
        assert inside.min() == 4095
        assert (found == 4095).sum() == inside.size
        with pytest.raises(CounterError, match="has no image at"):
            file.image(Place(8))


def test_series_of_one_examination_are_one_subject(tmp_path: Path) -> None:
    write(tmp_path)
    found = check_folder(tmp_path)
    assert found.datasets == {"knee-mri": 2}
    assert found.subjects("knee-mri") == {"329637"}
    assert (found.n_images("knee-mri"), found.broken) == (16, ())
    assert dict(found.files[0].facts)["acl"] == "1"


@pytest.mark.parametrize("change", [{"roiZ": 6}, {"roiX": 19}, {"roiY": -1}, {"roiHeight": 0}])
def test_a_region_outside_of_the_volume(tmp_path: Path, change: dict[str, int]) -> None:
    path = write(tmp_path, **change)
    with pytest.raises(FileFormatError, match=r"329637-8\.pck: .*region of interest .* only \(8, 20, 24\)"):
        open_image_file(path)


def test_a_row_whose_volume_is_missing(tmp_path: Path) -> None:
    write(tmp_path).unlink()
    (broken,) = check_folder(tmp_path).broken
    assert broken.path == Path("329637-8.pck")
    assert broken.problem is not None
    assert broken.problem.startswith("metadata.csv has a row of it, and the volume is not there")


def test_a_volume_without_a_row(tmp_path: Path) -> None:
    path = write(tmp_path)
    renamed = path.rename(path.with_name("1-1.pck"))
    with pytest.raises(FileFormatError, match=r"1-1\.pck: .*metadata\.csv has no row of it"):
        open_image_file(renamed)


def test_a_volume_without_a_table(tmp_path: Path) -> None:
    path = write(tmp_path)
    (tmp_path / "metadata.csv").unlink()
    with pytest.raises(FileFormatError, match=r"no metadata\.csv lies beside it or above"):
        open_image_file(path)


def test_a_table_of_another_edition(tmp_path: Path) -> None:
    path = write(tmp_path)
    table = tmp_path / "metadata.csv"
    table.write_text(table.read_text().replace("aclDiagnosis", "diagnosis"))
    with pytest.raises(FileFormatError, match=r"lacks aclDiagnosis; it has examId, .* another edition"):
        open_image_file(path)
    assert check_folder(tmp_path).broken[-1].path == Path("metadata.csv")


def test_a_row_that_is_no_number(tmp_path: Path) -> None:
    path = write(tmp_path)
    table = tmp_path / "metadata.csv"
    table.write_text(table.read_text().replace(",7,", ",seven,", 1))
    with pytest.raises(FileFormatError, match="line 2 is not ten whole numbers"):
        open_image_file(path)


def test_half_a_download(tmp_path: Path) -> None:
    path = write(tmp_path)
    path.write_bytes(path.read_bytes()[:300])
    with pytest.raises(FileFormatError, match=r"329637-8\.pck: .*(not whole|cut short)"):
        open_image_file(path)


def test_a_diagnosis_that_there_is_not(tmp_path: Path) -> None:
    with pytest.raises(FileFormatError, match="the diagnosis 3, expected 0, 1 or 2"):
        open_image_file(write(tmp_path, aclDiagnosis=3))
