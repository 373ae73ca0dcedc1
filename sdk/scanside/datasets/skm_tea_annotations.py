"""SKM-TEA's annotations, ``annotations/v1.0.0/{train,val,test}.json``: whose a scan is, and boxes around findings.

A box begins at x, y and z and goes on for so many voxels: rows from superior to inferior, columns from anterior to
posterior, depth from left to right or from right to left, which the scan says. Some boxes have negative extents or
lie outside of the volume: which corner was meant cannot be told. Scans that nobody inspected have no boxes either,
and that does not make them free of findings.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from scanside.errors import FileFormatError

__all__ = ["SkmTeaBox", "SkmTeaScan", "read_skm_tea_annotations"]

Triple = tuple[float, float, float]


class SkmTeaBox(NamedTuple):
    """A finding.

    Attributes:
        finding: its category.
        tissue: where it is; None where it is in no single one, as an effusion.
        start: (x, y, z) of its first voxel.
        extent: voxels along (x, y, z).
        confidence: of the reader, 0 to 5.
    """

    finding: str
    tissue: str | None
    start: Triple
    extent: Triple
    confidence: float


@dataclass(frozen=True)
class SkmTeaScan:
    """What is known of a scan.

    Attributes:
        subject: whose knee it is; scans of one subject must stay together.
        orientation: of (x, y, z), such as ``("SI", "AP", "LR")``.
        voxel_mm: along (x, y, z).
        shape: voxels of the volume.
        inspected: whether anyone looked for findings.
        boxes: those that can be used.
        unusable: ids of boxes that cannot be.
    """

    subject: int
    orientation: tuple[str, str, str]
    voxel_mm: Triple
    shape: tuple[int, int, int]
    inspected: bool
    boxes: tuple[SkmTeaBox, ...]
    unusable: tuple[int, ...]


def read_skm_tea_annotations(path: Path) -> dict[str, SkmTeaScan]:
    """All scans of one part of the data set, by their names, as `SkmTeaFile.subject` is.

    Raises:
        FileFormatError: it is no such table, or parts of it do not fit each other.
        FileNotFoundError: there is no such file.
    """
    try:
        return _scans(json.loads(path.read_bytes()))
    except KeyError as error:
        raise FileFormatError(
            f"{path}: lacks {error}, or refers to it; expected images, categories, tissues and annotations of SKM-TEA"
        ) from error
    except (TypeError, ValueError) as error:
        raise FileFormatError(f"{path}: is no table of SKM-TEA's annotations: {error}") from error


def _scans(table: Any) -> dict[str, SkmTeaScan]:
    findings = {one["id"]: str(one["name"]) for one in table["categories"]}
    tissues = {one["id"]: str(one["name"]) for one in table["tissues"]} | {-1: None}
    shapes = {one["id"]: one["matrix_shape"] for one in table["images"]}
    boxes: dict[int, list[SkmTeaBox]] = {number: [] for number in shapes}
    unusable: dict[int, list[int]] = {number: [] for number in shapes}
    for one in table["annotations"]:
        number = one["image_id"]
        x, y, z, dx, dy, dz = (float(value) for value in one["bbox"])
        confidence = float(one["confidence"])
        if not 0 <= confidence <= 5:
            raise ValueError(f"box {one['id']} has the confidence {confidence}, expected 0 to 5")
        box = SkmTeaBox(
            findings[one["category_id"]], tissues[one["tissue_id"]], (x, y, z), (dx, dy, dz), confidence
        )
        inside = all(
            start >= 0 and extent > 0 and start + extent <= n
            for start, extent, n in zip(box.start, box.extent, shapes[number], strict=True)
        )
        if inside:
            boxes[number].append(box)
        else:
            unusable[number].append(int(one["id"]))
    scans: dict[str, SkmTeaScan] = {}
    for one in table["images"]:
        if one["scan_id"] in scans:
            raise ValueError(f"scan {one['scan_id']} stands there twice")
        x, y, z = one["orientation"]
        n_x, n_y, n_z = (int(n) for n in one["matrix_shape"])
        mm_x, mm_y, mm_z = (float(mm) for mm in one["voxel_spacing"])
        scans[one["scan_id"]] = SkmTeaScan(
            subject=int(one["subject_id"]),
            orientation=(x, y, z),
            voxel_mm=(mm_x, mm_y, mm_z),
            shape=(n_x, n_y, n_z),
            inspected=bool(one["inspected"]),
            boxes=tuple(boxes[one["id"]]),
            unusable=tuple(unusable[one["id"]]),
        )
    return scans
