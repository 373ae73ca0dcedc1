"""Folders that are closed: plain files only, exactly those of a list, each with the size and hash that it says."""

from __future__ import annotations

import stat
from collections.abc import Mapping
from pathlib import Path

from scanside.engines.hashing import file_record, files_below
from scanside.engines.manifest import FileRecord
from scanside.errors import BundleError

__all__ = ["check_files", "plain_files", "read_small"]

_MOST_FILES = 1000


def plain_files(folder: Path, kind: str) -> dict[str, Path]:
    """All files of a folder by their path in it.

    Args:
        folder: must be there.
        kind: what it should be, for errors: ``bundle``.

    Raises:
        BundleError: something in it is no plain file and no folder, or there are too many.
    """
    files = files_below(folder)
    if len(files) > _MOST_FILES:
        raise BundleError(f"{folder} is no {kind}: it holds {len(files)} files")
    for path in files:
        if not stat.S_ISREG(path.lstat().st_mode):
            found = "a symbolic link" if path.is_symlink() else "not a plain file"
            raise BundleError(
                f"{path} is {found}: a {kind} holds plain files only; put the file itself there"
            )
    return {path.relative_to(folder).as_posix(): path for path in files}


def read_small(path: Path, limit: int) -> bytes:
    """All of a file that cannot be large.

    Raises:
        BundleError: it is.
    """
    with path.open("rb") as file:
        data = file.read(limit + 1)
    if len(data) > limit:
        raise BundleError(f"{path} is larger than {limit} bytes: it cannot be what its name says")
    return data


def check_files(
    folder: Path, found: Mapping[str, Path], files: Mapping[str, FileRecord], kind: str, listed_in: str
) -> None:
    """Compare the files of a folder with those of a list.

    Args:
        folder: named in errors.
        found: files that are there, by their path in it.
        files: those that should be, with size and hash.
        kind: what the folder is: ``bundle``.
        listed_in: where the list stands: ``manifest``.

    Raises:
        BundleError: one is missing, changed or too many; says which.
    """
    again = f"fetch the {kind} again, or build it again"
    if missing := sorted(set(files) - set(found)):
        raise BundleError(f"{folder}: file '{missing[0]}' is missing ({len(missing)} in all): {again}")
    if extra := sorted(set(found) - set(files)):
        raise BundleError(
            f"{folder}: file '{extra[0]}' does not stand in the {listed_in} ({len(extra)} in all): a {kind} holds "
            "nothing else; take it away"
        )
    for name, record in files.items():
        if (size := found[name].stat().st_size) != record.size:
            raise BundleError(f"{found[name]} has {size} bytes, the {listed_in} says {record.size}: {again}")
        if (there := file_record(found[name])).sha256 != record.sha256:
            raise BundleError(
                f"{found[name]} was changed: its SHA-256 is {there.sha256[:16]}…, the {listed_in} says "
                f"{record.sha256[:16]}…: {again}"
            )
