"""What is wrong with a folder that cannot be written: said with the disk that it lies on and the room there."""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from scanside.errors import RunError

__all__ = ["has_no_room", "is_storage_error", "naming_disk", "storage_problem", "user_cache"]

_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_NOT_OURS = (errno.EROFS, errno.EACCES, errno.EPERM)
_SAID = ("no space left on device", "disk quota exceeded", "read-only file system")
"""In the texts of libraries that have errors of their own for it, such as safetensors and HDF5."""


def is_storage_error(error: BaseException) -> bool:
    """Whether an error, or one that it came from, tells that a folder is full or must not be written."""
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, OSError) and seen.errno in (*_NO_ROOM, *_NOT_OURS):
            return True
        if any(words in str(seen).lower() for words in _SAID):
            return True
        seen = seen.__cause__ or seen.__context__
    return False


def storage_problem(error: OSError, folder: Path) -> str:
    """Why a folder could not be written, in words: ``FOLDER, on the disk at / with 3 MB free: no space left …``.

    Args:
        error: what the system said.
        folder: that was to be written, there or not.
    """
    said = (error.strerror or str(error)).rstrip(".")
    place = folder.absolute()
    try:
        while not place.is_dir():
            place = place.parent
        free = shutil.disk_usage(place).free
        while not os.path.ismount(place):
            place = place.parent
    except OSError:
        return f"{folder}: {said}"
    return f"{folder}, on the disk at {place} with {free / 1e6:,.0f} MB free: {said}"


def has_no_room(folder: Path, n_bytes: int) -> bool:
    """Whether fewer bytes are free where a folder lies: some libraries do not say why they could not write."""
    try:
        return shutil.disk_usage(folder).free < n_bytes
    except OSError:
        return True


@contextmanager
def naming_disk(folder: Path, what: str) -> Iterator[None]:
    """Whatever cannot be written below a folder is told with it and its disk, which the system's error leaves out.

    Args:
        folder: that is written.
        what: is done there, for messages: ``the training stopped``.

    Raises:
        RunError: the folder is full, or must not be written.
    """
    try:
        yield
    except Exception as error:
        named = getattr(error, "filename", None)
        elsewhere = isinstance(named, str | os.PathLike) and not Path(named).is_relative_to(folder)
        if elsewhere or isinstance(error, RunError) or not is_storage_error(error):
            raise
        told = error if isinstance(error, OSError) else OSError(str(error))
        raise RunError(
            f"{what}: {storage_problem(told, folder)}. Make room there, or name another folder"
        ) from error


def user_cache() -> Path:
    """``scanside`` below ``XDG_CACHE_HOME`` or ``~/.cache``; without a home, as in containers, in the folder of
    temporary files.
    """
    if named := os.environ.get("XDG_CACHE_HOME"):
        return Path(named) / "scanside"
    try:
        return Path.home() / ".cache" / "scanside"
    except RuntimeError:
        return Path(tempfile.gettempdir()) / f"scanside-of-{os.getuid()}"
