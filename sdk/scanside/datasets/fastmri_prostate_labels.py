"""What radiologists said of each slice of fastMRI's prostates: tables of PI-RADS scores.

``t2_slice_level_labels.csv`` and ``dwi_slice_level_labels.csv`` have the columns ``fastmri_pt_id``, ``slice``
(from 1), ``PIRADS``, ``fastmri_rawfile``, ``data_split`` and ``folder``.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path

from scanside.errors import FileFormatError
from scanside.texts import shown

__all__ = ["read_prostate_labels"]

_COLUMNS = ("fastmri_pt_id", "slice", "PIRADS")


def read_prostate_labels(path: Path) -> Mapping[tuple[int, int], int]:
    """PI-RADS, 1 to 5, by patient and slice.

    Args:
        path: the table of one sequence: T2 and diffusion are scored apart.

    Returns:
        By the patient's number (`FastMriProstateT2File.patient`) and the slice from 0, as in `Place`.

    Raises:
        FileFormatError: a column is missing, a value is none that can be, or a slice stands there twice.
        FileNotFoundError: there is no such file.
    """
    labels: dict[tuple[int, int], int] = {}
    with path.open(encoding="utf-8-sig", newline="") as lines:
        rows = csv.DictReader(lines)
        lacking = [name for name in _COLUMNS if name not in (rows.fieldnames or ())]
        if lacking:
            raise FileFormatError(f"{path}: has no column {', '.join(lacking)}; it has {rows.fieldnames}")
        for row in rows:
            patient, number, score = (_whole(path, rows.line_num, name, row[name]) for name in _COLUMNS)
            if number < 1 or not 1 <= score <= 5:
                raise FileFormatError(
                    f"{path}: line {rows.line_num} has slice {number} and PIRADS {score}, expected slices from 1 on "
                    "and scores from 1 to 5"
                )
            if labels.setdefault((patient, number - 1), score) != score:
                raise FileFormatError(
                    f"{path}: line {rows.line_num} gives slice {number} of patient {patient} another score than a "
                    "line before: tables of T2 and diffusion are not one"
                )
    return labels


def _whole(path: Path, line: int, name: str, text: str | None) -> int:
    try:
        return int(text or "")
    except ValueError:
        raise FileFormatError(
            f"{path}: line {line} has {name} {shown(text)}, expected a whole number"
        ) from None
