"""Slices from ISMRMRD files: fully sampled scans, reconstructed and combined over coils with their phase kept."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from scanside.errors import ConfigError, FileFormatError
from scanside.items import Item, KSpace
from scanside.pipeline import Pipeline
from scanside.recon.combine import combine_with_maps
from scanside.recon.fourier import spatial_dims, to_image
from scanside.replay import replay

__all__ = ["SUBJECTS_TABLE", "decode_folder", "decode_recording", "folder_recordings"]

SUBJECTS_TABLE = "subjects.csv"
"""File in a folder that says whose the recordings are."""

_PATTERNS = ("*.h5", "*.mrd")

_STAGES: list[str | dict[str, Any]] = [
    "noise",
    "oversampling",
    "accumulate",
    # Maps everywhere: a training slice keeps what lies beyond the calibrated region.
    {"coil-maps": {"method": "espirit", "crop": 0.0}},
    "fourier",
    "finish",
]


def decode_recording(path: Path) -> list[npt.NDArray[np.complex64]]:
    """All slices ``(y, x)`` of a recorded scan: whitened, oversampling removed, combined with ESPIRiT maps.

    Args:
        path: ISMRMRD file of a fully sampled 2-D Cartesian scan.

    Raises:
        FileFormatError: the scan is undersampled or 3-D, or holds no image.
        ScansideError: the scan cannot be reconstructed.
    """
    slices: list[npt.NDArray[np.complex64]] = []

    def take(label: str, item: Item) -> None:
        if label != "coil-maps" or not isinstance(item, KSpace):
            return
        assert item.coil_maps is not None
        if item.data.shape[-3] != 1 or not bool(item.mask.all()):
            raise FileFormatError(
                f"{path} is no fully sampled 2-D scan: {int((~item.mask).sum())} of {item.mask.numel()} lines of "
                f"{item.mask.shape[-2]} partition(s) are missing; truth can only be had from complete slices, "
                "so leave the file out"
            )
        image = combine_with_maps(to_image(item.data, spatial_dims(item.data)), item.coil_maps)
        slices.extend(image.reshape(-1, *image.shape[-2:]).cpu().numpy())

    pipeline = Pipeline.from_config({"name": "training-slices", "stages": _STAGES})
    replay(path, pipeline, device="cpu", threads=False, observe=take)
    if not slices:
        raise FileFormatError(f"{path} holds no image: it cannot be trained on, leave it out")
    return slices


def folder_recordings(folder: Path) -> list[tuple[str, Path]]:
    """Subject and file of every recording in a folder.

    Raises:
        ConfigError: the folder is not there or empty, or does not tell whose the files are.
    """
    if not folder.is_dir():
        raise ConfigError(
            f"source mrd-folder: {folder} is no folder; set sources.folder to one of ISMRMRD files"
        )
    table = folder / SUBJECTS_TABLE
    found = _by_table(table) if table.exists() else _by_subfolder(folder)
    if not found:
        raise ConfigError(f"source mrd-folder: {folder} holds no file {' or '.join(_PATTERNS)}")
    return found


def decode_folder(folder: Path) -> tuple[list[str], list[npt.NDArray[Any]]]:
    """Subject and pixels of every slice of a folder.

    Raises:
        ConfigError: see `folder_recordings`.
        ScansideError: see `decode_recording`.
    """
    subjects: list[str] = []
    slices: list[npt.NDArray[Any]] = []
    for subject, path in folder_recordings(folder):
        decoded = decode_recording(path)
        slices += decoded
        subjects += [subject] * len(decoded)
    return subjects, slices


def _by_subfolder(folder: Path) -> list[tuple[str, Path]]:
    found = sorted({path for pattern in _PATTERNS for path in folder.rglob(pattern)})
    stray = [path.name for path in found if path.parent == folder]
    if stray:
        raise ConfigError(
            f"source mrd-folder: {folder} does not say whose the files are ({', '.join(stray[:3])}"
            f"{', ...' if len(stray) > 3 else ''} lie in no sub-folder), and splits go by subject: put the files of "
            f"each subject into a sub-folder of its own, or write {folder / SUBJECTS_TABLE} with a line "
            f"'file,subject' and one such as '{stray[0]},subject-01' for every file"
        )
    return [(path.relative_to(folder).parts[0], path) for path in found]


def _by_table(table: Path) -> list[tuple[str, Path]]:
    with table.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    found = []
    for number, row in enumerate(rows, start=2):
        name, subject = (row.get(column) or "" for column in ("file", "subject"))
        if not name.strip() or not subject.strip():
            raise ConfigError(
                f"{table}, line {number}: 'file' or 'subject' is missing; the first line is 'file,subject', every "
                "other one names a file relative to the folder and its subject"
            )
        path = table.parent / name.strip()
        if not path.is_file():
            raise ConfigError(
                f"{table}, line {number}: there is no file {path}; correct the name or drop the line"
            )
        found.append((subject.strip(), path))
    return found
