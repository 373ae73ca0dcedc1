"""Whether other accounts of the machine could change a file that this process is about to trust."""

from __future__ import annotations

import os
import stat
from pathlib import Path

__all__ = ["who_else_can_write"]


def who_else_can_write(path: Path) -> str | None:
    """Says which other account could change a file or folder; None where only its owner, we or root, can.

    On systems without POSIX owners nothing is known, and None is given.

    Raises:
        OSError: there is no such file.
    """
    if not hasattr(os, "getuid"):
        return None
    status = path.lstat()
    if stat.S_ISLNK(status.st_mode):
        return "it is a symbolic link"
    if status.st_uid not in (os.getuid(), 0):
        return f"it belongs to user {status.st_uid}"
    if status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        return f"its mode {stat.S_IMODE(status.st_mode):04o} lets others write"
    return None
