"""SHA-256 of files, and writing them so that no reader sees half of one."""

from __future__ import annotations

import hashlib
import os
import tempfile
from pathlib import Path

from scanside.engines.manifest import FileRecord

__all__ = ["file_record", "files_below", "write_atomically"]


def file_record(path: Path) -> FileRecord:
    """Size and SHA-256 of a file."""
    digest = hashlib.sha256()
    size = 0
    with path.open("rb") as file:
        while block := file.read(2**20):
            digest.update(block)
            size += len(block)
    return FileRecord(sha256=digest.hexdigest(), size=size)


def files_below(folder: Path) -> list[Path]:
    """All that lies in a folder and its folders and is no folder itself, in order; links are not followed."""
    found = []
    for parent, folders, names in os.walk(folder, followlinks=False):
        # os.walk counts a link to a folder as a folder: it is one of the things to be seen here.
        links = [name for name in folders if (Path(parent) / name).is_symlink()]
        found += [Path(parent) / name for name in (*names, *links)]
    return sorted(found)


def write_atomically(path: Path, data: bytes, mode: int = 0o644) -> None:
    """Write a file aside and rename it, so that it is there whole or as it was before."""
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        if hasattr(os, "fchmod"):
            os.fchmod(descriptor, mode)
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink()
        raise
