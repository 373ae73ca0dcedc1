"""Files of one process's life that hold data of patients: whatever ends the process, the next one removes them.

Whoever works on such a file or folder holds a lock on it, which the system lets go when the process dies. So what
nobody has locked was left behind.
"""

from __future__ import annotations

import fcntl
import logging
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from time import time
from types import TracebackType

__all__ = ["ScratchFolder", "is_abandoned", "remove_abandoned", "remove_left_folders", "replacing"]

logger = logging.getLogger(__name__)

_LOCK = ".lock"
_GRACE_SECONDS = 10.0
"""Age from which something that nobody has locked counts as left behind: it is locked just after it is made."""


class ScratchFolder:
    """A folder that only its owner can enter, for as long as this process lives; a context manager.

    What processes of the same user left beside it that died is removed first.

    Args:
        prefix: of its name, and of those that are looked for.
        parent: where it is made; None for the system's place for temporary files.

    Attributes:
        path: the folder.

    Raises:
        OSError: it cannot be made.
    """

    def __init__(self, prefix: str, parent: Path | None = None) -> None:
        if parent is not None:
            parent.mkdir(parents=True, exist_ok=True)
        remove_left_folders(prefix, parent)
        self.path = Path(tempfile.mkdtemp(prefix=prefix, dir=parent))
        self._lock = os.open(self.path / _LOCK, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)

    def remove(self) -> None:
        """Remove it with all that is in it. Once more does nothing."""
        if self._lock >= 0:
            shutil.rmtree(self.path, ignore_errors=True)
            os.close(self._lock)
            self._lock = -1

    def __enter__(self) -> Path:
        return self.path

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.remove()


def remove_left_folders(prefix: str, parent: Path | None = None) -> None:
    """Remove what processes of this user left that died.

    Args:
        prefix: of the folders' names.
        parent: where they are; None for the system's place for temporary files.
    """
    for left in Path(parent or tempfile.gettempdir()).glob(f"{prefix}*"):
        _remove_if_left(left)


def _remove_if_left(folder: Path) -> None:
    """Remove a folder if a process of this user made it and died."""
    try:
        found = folder.lstat()
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid() or found.st_mode & 0o077:
            return  # not of our making
        if (folder / _LOCK).exists():
            abandoned = not _is_locked(folder / _LOCK)
        else:
            abandoned = time() - found.st_mtime > _GRACE_SECONDS
        if abandoned:
            shutil.rmtree(folder)
            logger.info("removed %s, which a process left that died", folder)
    except OSError as error:
        logger.warning(
            "%s may have been left by a process that died, and cannot be removed: %s", folder, error
        )


def is_abandoned(path: Path) -> bool:
    """Whether a file of this user was being written by a process that died.

    Raises:
        OSError: it cannot be looked at, for example because it is there no longer.
    """
    found = path.lstat()
    return (
        stat.S_ISREG(found.st_mode)
        and found.st_uid == os.geteuid()
        and time() - found.st_mtime > _GRACE_SECONDS
        and not _is_locked(path)
    )


def remove_abandoned(folder: Path, *patterns: str) -> None:
    """Remove files of a folder that were being written by processes that died.

    Args:
        folder: need not exist.
        patterns: of the names that files have until they are whole.
    """
    for pattern in patterns:
        for path in folder.glob(pattern):
            with suppress(OSError):  # its process was faster
                if is_abandoned(path):
                    path.unlink()
                    logger.info("removed %s, which a process left that died", path)


@contextmanager
def replacing(path: Path, suffix: str = ".part") -> Iterator[Path]:
    """Write a file aside that only its owner can read, and give it its name once it is whole.

    Args:
        path: of the file.
        suffix: of the draft, which is ``.NAME.RANDOM`` and this; see `remove_abandoned`.

    Yields:
        The draft, which is there and empty.

    Raises:
        OSError: it cannot be written; no part of it is left.
    """
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.stem}.", suffix=suffix)
    draft = Path(name)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield draft
        draft.replace(path)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise
    finally:
        os.close(descriptor)


def _is_locked(path: Path) -> bool:
    file = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(file)
    return False
