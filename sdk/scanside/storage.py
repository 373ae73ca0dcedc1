"""What is wrong with a folder that cannot be written: said with the disk that it lies on and the room there."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path

__all__ = ["is_storage_error", "storage_problem"]

_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_NOT_OURS = (errno.EROFS, errno.EACCES, errno.EPERM)


def is_storage_error(error: BaseException) -> bool:
    """Whether an error, or one that it came from, tells that a folder is full or must not be written."""
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, OSError) and seen.errno in (*_NO_ROOM, *_NOT_OURS):
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
