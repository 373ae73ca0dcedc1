"""What a file of a data set is, in words."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from scanside.datasets.as_ismrmrd import obstacle_to_scan, outline_of_file
from scanside.datasets.image_file import ImageFile
from scanside.datasets.opening import dataset_of, image_dataset_of, open_image_file, open_scan_file
from scanside.datasets.scan_file import Place, ScanFile
from scanside.outline import Outline

__all__ = ["DescribedFile", "describe_file"]


@dataclass(frozen=True)
class DescribedFile:
    """A file of a data set.

    Attributes:
        path: the file.
        dataset: that it is of.
        subject: whose it is.
        rows: what is in it, by name, in the order in which to show it.
        obstacle: why no pipeline can take it; None where one can.
        defect: what is known to be wrong with it; None where nothing is.
        outline: of its scan, by its first film; None where there is none.
        broken: what must be mended before any pipeline can take it.
    """

    path: Path
    dataset: str
    subject: str
    rows: dict[str, str]
    obstacle: str | None
    defect: str | None
    outline: Outline | None = None
    broken: tuple[str, ...] = ()


def describe_file(path: Path) -> DescribedFile | None:
    """What a file of a data set is; None where it looks like one of none. Its first image is read.

    Raises:
        FileFormatError: it breaks a rule of its data set.
        MissingExtra: a package that reads it is not installed.
    """
    if dataset_of(path) is not None:
        with open_scan_file(path) as scan:
            return _scan(scan)
    if image_dataset_of(path) is not None:
        with open_image_file(path) as images:
            return _images(images)
    return None


def _scan(file: ScanFile) -> DescribedFile:
    first = file.measured(file.places[0])
    n_coils, n1, n0 = first.kspace.shape
    reference, maps = file.reference(file.places[0]), file.maps(file.places[0])
    rows = {
        **_facts(file.facts),
        "images": _counted(list(file.places)),
        "k-space (coil, k1, k0)": f"{n_coils} × {n1} × {n0}, the first",
        "acquired": _acquired(first.acquired),
        "image size (k1, k0)": f"{file.image_size[0]} × {file.image_size[1]}",
        "reconstruction": "none" if reference is None else "comes with the file",
        "coil maps": "none" if maps is None else "come with the file",
        "ISMRMRD header": "none" if file.header is None else "comes with the file",
    }
    return DescribedFile(
        file.path,
        file.FORMAT,
        file.subject,
        rows,
        obstacle_to_scan(file, first),
        file.facts.get("defect"),
        *outline_of_file(file),
    )


def _images(file: ImageFile) -> DescribedFile:
    first = file.image(file.places[0])
    rows = {
        **_facts(file.facts),
        "images": _counted(list(file.places)),
        "image size (row, column)": f"{file.shape[0]} × {file.shape[1]}",
        "values of the first": f"{first.min():g} to {first.max():g}",
    }
    if file.voxel_mm is not None:
        rows["voxel (slice, row, column)"] = " × ".join(f"{size:.3g}" for size in file.voxel_mm) + " mm"
    rows |= {f"label {name}": str(value) for name, value in file.labels.items()}
    for box in file.boxes:
        rows["box"] = (
            f"slices {box.slice} to {box.slice + box.n_slices - 1}, rows {box.row} to {box.row + box.n_rows - 1}, "
            f"columns {box.column} to {box.column + box.n_columns - 1}"
        )
    obstacle = "holds magnitude images: there is no k-space to reconstruct"
    return DescribedFile(
        file.path, file.FORMAT, file.subject, rows, obstacle, None, broken=(f"the file {obstacle}",)
    )


def _facts(facts: dict[str, str]) -> dict[str, str]:
    return {name: text for name, text in facts.items() if text and name != "defect"}


def _counted(places: list[Place]) -> str:
    """How many images there are, and by which counters."""
    different = {name: len({getattr(place, name) for place in places}) for name in Place._fields}
    told = [f"{n} {name}{'' if n == 1 else 's'}" for name, n in different.items() if n > 1 or name == "slice"]
    return f"{len(places)}: {', '.join(told)}"


def _acquired(acquired: npt.NDArray[np.bool_]) -> str:
    """Which lines or samples of the first image were acquired."""
    if acquired.shape[1] != 1:
        return f"{int(acquired.sum())} of {acquired.size} samples (k1, k0), {acquired.mean():.0%}"
    lines = np.flatnonzero(acquired)
    if not lines.size:
        return f"none of {acquired.size} lines k1"
    n_between = int(lines[-1] - lines[0]) + 1 - len(lines)
    gaps = f", {n_between} between them are missing" if n_between else ""
    return f"{len(lines)} of {acquired.size} lines k1, from {lines[0]} to {lines[-1]}{gaps}"
