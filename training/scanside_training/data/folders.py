"""Slices from ISMRMRD files: fully sampled scans, combined over coils with their phase kept, or scans as they are."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from scanside.errors import ConfigError, FileFormatError, ScansideError
from scanside.items import Item, KSpace
from scanside.mrd.hdf5 import Hdf5Reader, groups
from scanside.pipeline import Pipeline
from scanside.recon.combine import combine_with_maps
from scanside.recon.fourier import spatial_dims, to_image
from scanside.replay import replay
from scanside_training.data.cache import Decoded
from scanside_training.data.tables import table_rows

__all__ = [
    "SUBJECTS_TABLE",
    "decode_folder",
    "decode_recording",
    "decode_scan",
    "folder_files",
    "folder_recordings",
    "recording_digest",
    "recordings_of_table",
]

SUBJECTS_TABLE = "subjects.csv"
"""File in a folder that says whose the recordings are."""

_PATTERNS = ("*.h5", "*.mrd")
_COLUMNS = ("file", "subject")

_STAGES: list[str | dict[str, Any]] = [
    "noise",
    "oversampling",
    "accumulate",
    # Maps everywhere: a training slice keeps what lies beyond the calibrated region.
    {"coil-maps": {"method": "espirit", "crop": 0.0, "sets": 1}},
    "fourier",
    "finish",
]


_STAGES_OF_SCANS: list[str | dict[str, Any]] = [
    *("noise", "oversampling", "accumulate"),
    {"coil-maps": {"method": "espirit", "sets": 1}},
    *("sense", "finish"),
]


def decode_recording(path: Path) -> list[npt.NDArray[np.complex64]]:
    """All slices ``(y, x)`` of a recorded scan: whitened, oversampling removed, combined with ESPIRiT maps.

    Args:
        path: ISMRMRD file of a fully sampled 2-D Cartesian scan.

    Raises:
        FileFormatError: the scan cannot be read or reconstructed, is undersampled or 3-D, or holds no image; the text
            names the file.
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
    with _naming(path):
        replay(path, pipeline, device="cpu", threads=False, observe=take)
    if not slices:
        raise FileFormatError(f"{path} holds no image: it cannot be trained on, leave it out")
    return slices


def decode_scan(path: Path) -> list[npt.NDArray[np.complex64]]:
    """All slices of an undersampled scan as an engine stage gets them: ``(2, coil, k1, k0)``, k-space and coil maps.

    Args:
        path: ISMRMRD file of a 2-D Cartesian scan with calibration lines.

    Raises:
        FileFormatError: the scan cannot be read, is 3-D, has no calibration lines, or holds no image; the text names
            the file.
    """
    scans: list[npt.NDArray[np.complex64]] = []

    def take(label: str, item: Item) -> None:
        if label != "coil-maps" or not isinstance(item, KSpace):
            return
        assert item.coil_maps is not None
        if item.data.shape[-3] != 1:
            raise FileFormatError(f"{path} is a 3-D scan, and networks take slices: leave the file out")
        maps = item.coil_maps.expand(*item.data.shape[:-4], *item.coil_maps.shape[-4:])
        both = torch.stack((item.data, maps), dim=-5)[..., 0, :, :]
        scans.extend(both.reshape(-1, *both.shape[-4:]).cpu().numpy())

    pipeline = Pipeline.from_config({"name": "training-scans", "stages": _STAGES_OF_SCANS})
    with _naming(path):
        replay(path, pipeline, device="cpu", threads=False, observe=take)
    if not scans:
        raise FileFormatError(f"{path} holds no image: it cannot be trained on, leave it out")
    return scans


def folder_files(folder: Path) -> list[Path]:
    """All files that slices of a folder hang on.

    Raises:
        ConfigError: see `folder_recordings`.
    """
    table = folder / SUBJECTS_TABLE
    return [path for _, path in folder_recordings(folder)] + [table] * table.exists()


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
    found = recordings_of_table(table) if table.exists() else _by_subfolder(folder)
    if not found:
        raise ConfigError(f"source mrd-folder: {folder} holds no file {' or '.join(_PATTERNS)}")
    return found


def recording_digest(path: Path) -> str:
    """SHA-256 of what a recording measured: its samples in their order, whatever the file is called or says of them.

    Copies of a scan are found by it that were renamed, made anonymous or packed otherwise.

    Raises:
        FileFormatError: the file is not ISMRMRD HDF5; the text names it.
    """
    digest = hashlib.sha256()
    with _naming(path):
        for group in groups(path):
            with Hdf5Reader(path, group) as reader:
                if reader.n_readouts:
                    for block in reader.blocks():
                        digest.update(np.ascontiguousarray(block.samples).tobytes())
    return digest.hexdigest()


def decode_folder(
    folder: Path, decode: Callable[[Path], Sequence[npt.NDArray[Any]]] = decode_recording
) -> Decoded:
    """Subject, pixels and recording of every slice of a folder.

    Args:
        folder: see `folder_recordings`.
        decode: gives the slices of a file.

    Raises:
        ConfigError: see `folder_recordings`; or the same recording lies there under two subjects.
        FileFormatError: see `decode_recording`.
    """
    made = Decoded([], [], [])
    first: dict[str, tuple[str, Path]] = {}
    for subject, path in folder_recordings(folder):
        digest = recording_digest(path)
        whose, where = first.setdefault(digest, (subject, path))
        if whose != subject:
            raise ConfigError(
                f"source mrd-folder: {path} of subject '{subject}' is the same recording as {where} of subject "
                f"'{whose}': in training and test it would be measured what was learned by heart. Leave one of "
                "them out, or give both to one subject"
            )
        decoded = decode(path)
        made.slices.extend(decoded)
        made.subjects.extend([subject] * len(decoded))
        made.recordings.extend([digest] * len(decoded))
    return made


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Whatever is wrong with a file of many, its name is in the error."""
    try:
        yield
    except (ScansideError, OSError) as error:
        if isinstance(error, FileFormatError) and str(path) in str(error):
            raise
        raise FileFormatError(f"{path} cannot be trained on, leave it out or mend it: {error}") from error


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


def recordings_of_table(table: Path) -> list[tuple[str, Path]]:
    """Subject and file of every row of a table with the columns ``file``, relative to the table, and ``subject``.

    Raises:
        ConfigError: it cannot be read, a row is not whole, there is no such file, or it is given to two subjects.
    """
    found = []
    owners: dict[Path, str] = {}
    for number, row in enumerate(table_rows(table), start=2):
        name, subject = (row.get(column) or "" for column in _COLUMNS)
        if not name.strip() or not subject.strip():
            raise ConfigError(
                f"{table}, line {number}: 'file' or 'subject' is missing (found the columns "
                f"{', '.join(map(repr, row)) or 'none'}); the first line is 'file,subject', every "
                "other one names a file relative to the folder and its subject"
            )
        path = table.parent / name.strip()
        if not path.is_file():
            raise ConfigError(
                f"{table}, line {number}: there is no file {path}; correct the name or drop the line"
            )
        owner = owners.setdefault(path, subject.strip())
        if owner != subject.strip():
            raise ConfigError(
                f"{table}, line {number}: {path} is of subject '{subject.strip()}' here, and of '{owner}' in a line "
                "before: all of a file is of one subject"
            )
        found.append((subject.strip(), path))
    return found
