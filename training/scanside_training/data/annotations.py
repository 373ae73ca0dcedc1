"""Tables of boxes that radiologists drew: fastMRI+ (Zhao et al., Scientific Data 9:152, 2022).

One row for each box: ``file`` (without ``.h5``), ``slice`` (from 0), ``study_level``, ``x``, ``y``, ``width``,
``height`` and ``label``. The boxes were drawn on images that are flipped up and down, so that the first row of a box
is ``rows - y - height``. Rows with ``study_level`` say something of the whole examination, and have no box.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from scanside.errors import ConfigError
from scanside_training.data.boxes import Boxes, no_boxes
from scanside_training.data.tables import table_rows

logger = logging.getLogger(__name__)

__all__ = ["Place", "boxes_of"]

_COLUMNS = ("file", "slice", "study_level", "x", "y", "width", "height", "label")


class Place(NamedTuple):
    """A slice of a file.

    Attributes:
        file: its name, without ``.h5``.
        number: of the slice, from 0.
        rows: of its pixels.
        columns: of its pixels.
    """

    file: str
    number: int
    rows: int
    columns: int


class _Drawn(NamedTuple):
    """A box as it is written in a table, and the line that it stands in."""

    line: int
    x: int
    y: int
    width: int
    height: int


def boxes_of(table: Path, places: Iterable[Place], labels: Collection[str] = ()) -> list[Boxes]:
    """The boxes of every slice. Those that cannot be, without extent or not within an image, are left out and told.

    Args:
        table: a CSV file.
        places: the slices.
        labels: those that count; all by default.

    Raises:
        ConfigError: the table cannot be read, lacks a column, a number in it is none, a label is in no row, or no box
            lies in any of the slices.
    """
    drawn = _read(table, labels)
    made, files = [], set()
    wrong: list[int] = []
    for place in places:
        files.add(place.file)
        good = []
        for one in drawn.pop((place.file, place.number), ()):
            row = place.rows - one.y - one.height
            within = min(row, one.x, one.y) >= 0 and one.x + one.width <= place.columns
            if within and min(one.width, one.height) > 0:
                good.append((row, one.x, one.height, one.width))
            else:
                wrong.append(one.line)
        made.append(np.array(good, np.int64) if good else no_boxes())
    wrong += [one.line for (file, _), left in drawn.items() if file in files for one in left]
    if wrong:
        logger.warning(
            "%s: %d boxes have no extent, reach out of their image or lie in slices that there are not, and are left "
            "out (lines %s)",
            table,
            len(wrong),
            ", ".join(map(str, sorted(wrong)[:5])) + (", …" if len(wrong) > 5 else ""),
        )
    if not any(len(one) for one in made):
        raise ConfigError(
            f"no box of {table} lies in any of the slices: their files are called differently, were not looked at, "
            "or are those of another anatomy; give the table that belongs to the folder, or leave it out"
        )
    return made


def _read(table: Path, labels: Collection[str]) -> dict[tuple[str, int], list[_Drawn]]:
    """The boxes of every file and slice."""
    found: dict[tuple[str, int], list[_Drawn]] = defaultdict(list)
    known: set[str] = set()
    for line, row in enumerate(table_rows(table), start=2):
        if missing := [name for name in _COLUMNS if name not in row]:
            raise ConfigError(
                f"{table} has no column '{missing[0]}', only {', '.join(row)}: a table of fastMRI+ has "
                f"{', '.join(_COLUMNS)}"
            )
        label = row["label"].strip()
        known.add(label)
        if row["study_level"].strip().lower() == "yes" or (labels and label not in labels):
            continue
        number, *box = (
            _whole(row[name], name, table, line) for name in ("slice", "x", "y", "width", "height")
        )
        found[row["file"].strip().removesuffix(".h5"), number].append(_Drawn(line, *box))
    if unknown := sorted(set(labels) - known):
        raise ConfigError(
            f"no row of {table} is labelled {', '.join(map(repr, unknown))}; it has {', '.join(sorted(known))}"
        )
    return found


def _whole(text: str, name: str, table: Path, line: int) -> int:
    try:
        return round(float(text))
    except (ValueError, OverflowError) as error:
        raise ConfigError(f"{table}, line {line}: {name} is {text!r}, no number") from error
