"""MRNet, knees in three planes with labels for each examination (Bien et al., PLoS Med 2018;15:e1002699).

``train/axial/0000.npy`` is ``(slice, 256, 256)`` of bytes, and so are ``coronal`` and ``sagittal``; ``valid`` has the
same folders. ``train-abnormal.csv``, ``train-acl.csv`` and ``train-meniscus.csv`` have a line ``0000,1`` for every
examination, and no header.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from scanside.datasets.image_file import ImageFile, TableProblem
from scanside.datasets.scan_file import Place, naming
from scanside.errors import CounterError, FileFormatError

__all__ = ["MrNetFile", "write_mrnet"]

_PARTS = ("train", "valid")
_PLANES = ("axial", "coronal", "sagittal")
_LABELS = ("abnormal", "acl", "meniscus")
_NAME = re.compile(r"\d{4}\.npy")
_TABLE = re.compile(rf"({'|'.join(_PARTS)})-({'|'.join(_LABELS)})\.csv")
_SIZE = 256


class MrNetFile(ImageFile):
    """One plane of an examination of MRNet. `labels` are 0 or 1, those of the tables that are there."""

    FORMAT = "mrnet"
    SUFFIXES = (".npy",)

    def __init__(self, path: Path) -> None:
        self.path = path
        with naming(path):
            if not self.recognises(path):
                raise FileFormatError(
                    "does not lie as train/axial/0000.npy does: part, plane and examination are told by the path"
                )
            self._volume = np.load(path, mmap_mode="r", allow_pickle=False)
            self._look_into()

    def _look_into(self) -> None:
        volume = self._volume
        if volume.ndim != 3 or volume.shape[1:] != (_SIZE, _SIZE) or volume.dtype != np.uint8:
            raise FileFormatError(
                f"holds {volume.dtype} of the shape {volume.shape}, expected bytes (slice, {_SIZE}, {_SIZE})"
            )
        part, plane = self.path.parent.parent.name, self.path.parent.name
        self.subject = self.path.stem
        self.facts = {"part": part, "plane": plane}
        self.places = [Place(number) for number in range(len(volume))]
        self.shape = _SIZE, _SIZE
        labels = {}
        for name in _LABELS:
            table = self.path.parent.parent.parent / f"{part}-{name}.csv"
            if table.is_file():
                values = _values(table)
                if self.subject not in values:
                    raise FileFormatError(f"{table} has no line of its examination {self.subject}")
                labels[name] = values[self.subject]
        self.labels = labels

    @classmethod
    def recognises(cls, path: Path) -> bool:
        """See `ImageFile.recognises`."""
        return (
            _NAME.fullmatch(path.name) is not None
            and path.parent.name in _PLANES
            and path.parent.parent.name in _PARTS
        )

    @classmethod
    def table_problems(cls, folder: Path) -> Iterator[TableProblem]:
        """See `ImageFile.table_problems`: planes of an examination that a table has a line of."""
        told = set()
        for table in sorted(folder.rglob("*.csv")):
            found = _TABLE.fullmatch(table.name)
            if found is None:
                continue
            part, below = table.parent / found[1], table.relative_to(folder)
            try:
                exams = _values(table)
            except FileFormatError as error:
                yield TableProblem(below, str(error).removeprefix(f"{table}: "))
                continue
            for exam in exams:
                for plane in _PLANES:
                    path = part / plane / f"{exam}.npy"
                    # Three tables have a line of one examination.
                    if (part / plane).is_dir() and not path.exists() and path not in told:
                        told.add(path)
                        yield TableProblem(
                            path.relative_to(folder), f"{below} has a line of it, and the volume is not there"
                        )

    def image(self, place: Place) -> npt.NDArray[np.float32]:
        """See `ImageFile.image`."""
        if place not in self.places:
            raise CounterError(f"{self.path} has no image at {place}; `places` has all there are")
        return np.ascontiguousarray(self._volume[place.slice], np.float32)


def _values(table: Path) -> dict[str, int]:
    """0 or 1 by examination."""
    with table.open(newline="", encoding="utf-8") as file, naming(table):
        values = {}
        for number, row in enumerate(csv.reader(file), start=1):
            if len(row) != 2 or row[1] not in ("0", "1"):
                raise FileFormatError(
                    f"line {number} is {','.join(row)!r}, expected an examination and 0 or 1"
                )
            values[row[0]] = int(row[1])
        return values


def write_mrnet(
    folder: Path,
    exams: Mapping[str, Mapping[str, npt.NDArray[Any]]],
    labels: Mapping[str, Mapping[str, int]],
    *,
    part: str = "train",
) -> list[Path]:
    """Write a folder as MRNet has it.

    Args:
        folder: it is made.
        exams: volumes ``(slice, 256, 256)`` from 0 to 255 by plane, by the examination's four digits.
        labels: 0 or 1 by examination, by name.
        part: ``train`` or ``valid``.

    Returns:
        The volumes' files.
    """
    paths = []
    for exam, planes in exams.items():
        for plane, volume in planes.items():
            paths.append(folder / part / plane / f"{exam}.npy")
            paths[-1].parent.mkdir(parents=True, exist_ok=True)
            np.save(paths[-1], np.asarray(volume, np.uint8))
    for name, values in labels.items():
        lines = "".join(f"{exam},{value}\n" for exam, value in values.items())
        (folder / f"{part}-{name}.csv").write_text(lines, "utf-8")
    return paths
