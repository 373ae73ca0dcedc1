"""KneeMRI, knees with and without torn cruciate ligaments.

Štajduhar et al., Comput Methods Programs Biomed 2017;140:151. Each ``EXAM-SERIES.pck`` is one pickled array
``(slice, row, column)`` of 12-bit magnitudes. ``metadata.csv``, in the folder of the files or up to two above, has a
row for each: ten whole numbers and the file's name. Its region of interest encloses the ligament. An examination may
have several series, so that the examination is the subject, by which splits are made.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from scanside.datasets.image_file import Box, ImageFile, TableProblem
from scanside.datasets.pickled_arrays import read_pickled_array
from scanside.datasets.scan_file import Place, naming
from scanside.errors import CounterError, FileFormatError

__all__ = ["KneeMriFile", "write_knee_mri"]

_TABLE = "metadata.csv"
_FILE = "volumeFilename"
_NUMBERS = (
    "examId",
    "seriesNo",
    "aclDiagnosis",
    "kneeLR",
    "roiX",
    "roiY",
    "roiZ",
    "roiHeight",
    "roiWidth",
    "roiDepth",
)
_DIAGNOSES = ("healthy", "partially injured", "completely ruptured")
_LEVELS = 2
"""How many folders above a file its table may lie: the volumes come in folders vol01, vol02, …"""


class KneeMriFile(ImageFile):
    """A volume of KneeMRI. Of `labels`, ``acl`` is 0 healthy, 1 partially injured, 2 completely ruptured."""

    FORMAT = "knee-mri"
    SUFFIXES = (".pck",)

    def __init__(self, path: Path) -> None:
        self.path = path
        with naming(path):
            row = _row_of(path)
        self._volume = read_pickled_array(path)
        with naming(path):
            self._look_into(row)

    def _look_into(self, row: Mapping[str, int]) -> None:
        volume = self._volume
        if volume.ndim != 3 or not volume.size or volume.dtype.kind not in "iu":
            raise FileFormatError(
                f"holds {volume.dtype} of the shape {volume.shape}, expected whole numbers (slice, row, column)"
            )
        self.subject = str(row["examId"])
        self.places = [Place(number) for number in range(len(volume))]
        self.shape = volume.shape[1], volume.shape[2]
        diagnosis = row["aclDiagnosis"]
        if not 0 <= diagnosis < len(_DIAGNOSES):
            raise FileFormatError(f"{_TABLE} has the diagnosis {diagnosis}, expected 0, 1 or 2")
        self.labels = {"acl": diagnosis}
        self.facts = {
            "series": str(row["seriesNo"]),
            "diagnosis": _DIAGNOSES[diagnosis],
            "knee": str(row["kneeLR"]),
        }
        box = Box(row["roiZ"], row["roiY"], row["roiX"], row["roiDepth"], row["roiHeight"], row["roiWidth"])
        for first, n, size in zip(box[:3], box[3:], volume.shape, strict=True):
            if first < 0 or n < 1 or first + n > size:
                raise FileFormatError(
                    f"{_TABLE} puts the region of interest at (slice, row, column) {box[:3]} with the size "
                    f"{box[3:]}, and the volume has only {volume.shape}: table and volume are not of one series"
                )
        self.boxes = (box,)

    @classmethod
    def recognises(cls, path: Path) -> bool:
        """See `ImageFile.recognises`."""
        return path.suffix in cls.SUFFIXES

    @classmethod
    def table_problems(cls, folder: Path) -> Iterator[TableProblem]:
        """See `ImageFile.table_problems`."""
        for table in sorted(folder.rglob(_TABLE)):
            if not _is_own_table(table):
                continue
            there = {path.name for path in table.parent.rglob("*.pck")}
            below = table.relative_to(folder)
            try:
                rows = _rows(table)
            except FileFormatError as error:
                yield TableProblem(below, str(error).removeprefix(f"{table}: "))
                continue
            for name in rows:
                if name not in there:
                    yield TableProblem(
                        below.with_name(name),
                        f"{below} has a row of it, and the volume is not there: fetch it, or remove the row",
                    )

    def image(self, place: Place) -> npt.NDArray[np.float32]:
        """See `ImageFile.image`."""
        if place not in self.places:
            raise CounterError(f"{self.path} has no image at {place}; `places` has all there are")
        return np.ascontiguousarray(self._volume[place.slice], np.float32)


def _row_of(path: Path) -> Mapping[str, int]:
    """What the table says of a volume."""
    if not path.exists():
        raise FileNotFoundError(f"{path} does not exist")
    folders = path.resolve().parents[: _LEVELS + 1]
    table = next((folder / _TABLE for folder in folders if (folder / _TABLE).is_file()), None)
    if table is None:
        raise FileFormatError(
            f"no {_TABLE} lies beside it or above: diagnosis, examination and region of interest are there alone"
        )
    row = _rows(table).get(path.name)
    if row is None:
        raise FileFormatError(f"{table} has no row of it: whose examination it is of cannot be told")
    return row


def _rows(table: Path) -> dict[str, dict[str, int]]:
    """The rows of a table, by the name of the volume."""
    with table.open(newline="", encoding="utf-8-sig") as file, naming(table):
        reader = csv.DictReader(file)
        _check_columns(reader.fieldnames)
        rows: dict[str, dict[str, int]] = {}
        for row in reader:
            try:
                rows[row[_FILE]] = {name: int(row[name]) for name in _NUMBERS}
            except (TypeError, ValueError):
                raise FileFormatError(
                    f"line {reader.line_num} is not ten whole numbers and the name of a volume"
                ) from None
        return rows


def _check_columns(found: Sequence[str] | None) -> None:
    lacking = [name for name in (*_NUMBERS, _FILE) if name not in (found or ())]
    if lacking:
        raise FileFormatError(
            f"its first line lacks {', '.join(lacking)}; it has {', '.join(found or ()) or 'nothing'}: it is no "
            "table of KneeMRI, or of another edition"
        )


def _is_own_table(table: Path) -> bool:
    """Other data sets have a table of that name, too."""
    with table.open(encoding="utf-8-sig", errors="replace") as file:
        return _FILE in file.readline()


def write_knee_mri(
    folder: Path, volumes: Sequence[tuple[npt.NDArray[np.integer[Any]], Mapping[str, int]]]
) -> list[Path]:
    """Write a folder as KneeMRI has it: volumes pickled as Python 2 did, and the table.

    Args:
        folder: it is made.
        volumes: ``(slice, row, column)`` each, and its row, by name: all ten numbers.

    Returns:
        The volumes' files.
    """
    paths = []
    below = folder / "vol01"
    below.mkdir(parents=True, exist_ok=True)
    with (folder / _TABLE).open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, [*_NUMBERS, _FILE], lineterminator="\n")
        writer.writeheader()
        for volume, row in volumes:
            paths.append(below / f"{row['examId']}-{row['seriesNo']}.pck")
            writer.writerow({**row, _FILE: paths[-1].name})
            paths[-1].write_bytes(_as_python_2(np.ascontiguousarray(volume, "<u2")))
    return paths


def _as_python_2(array: npt.NDArray[np.uint16]) -> bytes:
    """A pickle of protocol 2, in which Python 2 has strings of bytes where Python 3 has text."""
    shape = b"".join(b"J" + int(n).to_bytes(4, "little") for n in array.shape)
    data = array.tobytes()
    return b"".join(
        [
            b"\x80\x02cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R",
            # The state: version, shape, data type (with its own state), order, and the numbers.
            b"(K\x01(" + shape + b"tcnumpy\ndtype\nU\x02u2K\x00K\x01\x87R",
            b"(K\x03U\x01<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89",
            b"T" + len(data).to_bytes(4, "little") + data + b"tb.",
        ]
    )
