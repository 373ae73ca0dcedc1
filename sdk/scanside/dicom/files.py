"""Writing instances to files that are whole or not there at all."""

from __future__ import annotations

import os
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

from scanside.scratch import replacing

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

__all__ = ["encoded", "file_path", "write_durably"]


def encoded(dataset: Dataset) -> bytes:
    """An instance as the bytes of a file (PS3.10)."""
    buffer = BytesIO()
    dataset.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def file_path(dataset: Dataset, folder: Path) -> Path:
    """Where an instance goes in a folder: a folder for each series, names from identifiers only."""
    return folder / str(dataset.SeriesInstanceUID) / f"{dataset.SOPInstanceUID}.dcm"


def write_durably(path: Path, content: bytes) -> None:
    """Write a file that survives a crash: aside, flushed to the disk, and renamed; folders are made.

    Raises:
        OSError: it cannot be written, for example because the disk is full; no part of it is left.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as draft, draft.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    # The name is as durable as the content only once the folder is on the disk.
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
