"""SKM-TEA's annotations: subjects, boxes, and boxes that cannot be used."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest

from scanside.datasets.skm_tea_annotations import SkmTeaBox, SkmTeaScan, read_skm_tea_annotations
from scanside.errors import FileFormatError


def scan(number: int, name: str, **settings: Any) -> dict[str, Any]:
    return {
        "id": number,
        "file_name": f"{name}.h5",
        "scan_id": name,
        "subject_id": 48,
        "timepoint": 0,
        "voxel_spacing": [0.3125, 0.3125, 0.8],
        "matrix_shape": [512, 512, 160],
        "orientation": ["SI", "AP", "LR"],
        "num_echoes": 2,
        "inspected": True,
    } | settings


def box(number: int, scan: int, where: list[float], **settings: Any) -> dict[str, Any]:
    given = {
        "id": number,
        "image_id": scan,
        "category_id": 2,
        "tissue_id": 1,
        "bbox": where,
        "confidence": 4.0,
    }
    return given | settings


TABLE: dict[str, Any] = {
    "info": {"version": "v1.0.0"},
    "categories": [
        {"id": 2, "name": "Meniscal Tear (Horizontal)", "supercategory": "Meniscal Tear"},
        {"id": 16, "name": "Effusion", "supercategory": "Effusion"},
    ],
    "tissues": [{"id": 1, "name": "Meniscus"}],
    "images": [
        scan(1, "MTR_013"),
        scan(2, "MTR_127", orientation=["SI", "AP", "RL"], inspected=False, subject_id=131),
    ],
    "annotations": [
        box(1, 1, [355.0, 208.0, 41.0, 12.0, 21.0, 15.0]),
        box(2, 1, [88.0, 19.0, 38.0, 247.0, 240.0, 92.0], category_id=16, tissue_id=-1),
        # As some are in the data set: the extent runs backwards, or beyond the volume, too.
        box(3, 1, [301.0, 333.0, 120.0, -8.0, 14.0, 19.0]),
        box(4, 1, [2478.0, 336.0, 35.0, -2212.0, 14.0, 21.0]),
        box(5, 1, [300.0, 300.0, 150.0, 5.0, 5.0, 11.0]),
    ],
}


def write(folder: Path, table: Any = TABLE) -> Path:
    path = folder / "val.json"
    path.write_text(json.dumps(table))
    return path


def test_scans_with_their_boxes(tmp_path: Path) -> None:
    found = read_skm_tea_annotations(write(tmp_path))
    assert list(found) == ["MTR_013", "MTR_127"]
    tear = SkmTeaBox("Meniscal Tear (Horizontal)", "Meniscus", (355, 208, 41), (12, 21, 15), 4)
    effusion = SkmTeaBox("Effusion", None, (88, 19, 38), (247, 240, 92), 4)
    assert found["MTR_013"] == SkmTeaScan(
        subject=48,
        orientation=("SI", "AP", "LR"),
        voxel_mm=(0.3125, 0.3125, 0.8),
        shape=(512, 512, 160),
        inspected=True,
        boxes=(tear, effusion),
        unusable=(3, 4, 5),
    )


def test_a_scan_that_nobody_inspected(tmp_path: Path) -> None:
    found = read_skm_tea_annotations(write(tmp_path))["MTR_127"]
    assert not found.inspected
    assert (found.boxes, found.unusable) == ((), ())
    assert found.orientation[2] == "RL"
    assert found.subject == 131


def of_another_scan(table: Any) -> None:
    table["annotations"][0]["image_id"] = 9


def of_another_tissue(table: Any) -> None:
    table["annotations"][0]["tissue_id"] = 7


def with_a_flat_box(table: Any) -> None:
    table["annotations"][0]["bbox"] = [1, 2, 3, 4]


def too_sure(table: Any) -> None:
    table["annotations"][0]["confidence"] = 6


def with_a_scan_twice(table: Any) -> None:
    table["images"][1]["scan_id"] = "MTR_013"


def without_tissues(table: Any) -> None:
    del table["tissues"]


@pytest.mark.parametrize(
    ("broken", "text"),
    [
        (of_another_scan, "lacks 9, or refers to it"),
        (of_another_tissue, "lacks 7, or refers to it"),
        (with_a_flat_box, "is no table of SKM-TEA's annotations: not enough values"),
        (too_sure, "box 1 has the confidence 6.0, expected 0 to 5"),
        (with_a_scan_twice, "scan MTR_013 stands there twice"),
        (without_tissues, "lacks 'tissues', or refers to it; expected images, categories, tissues"),
    ],
)
def test_a_broken_table(tmp_path: Path, broken: Any, text: str) -> None:
    table = copy.deepcopy(TABLE)
    broken(table)
    with pytest.raises(FileFormatError, match=rf"val\.json: .*{text}"):
        read_skm_tea_annotations(write(tmp_path, table))


def test_half_a_download(tmp_path: Path) -> None:
    path = write(tmp_path)
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(FileFormatError, match=r"val\.json: is no table of SKM-TEA's annotations"):
        read_skm_tea_annotations(path)
