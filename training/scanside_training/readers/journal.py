"""All that readers answered, one line of JSON for each answer, on the disk before the page is told so."""

from __future__ import annotations

import fcntl
import json
import logging
import os
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from scanside.append_log import AppendLog
from scanside.errors import ConfigError

__all__ = ["ANSWERS", "DAMAGED", "AnswerJournal", "FolderLock", "read_answers"]

logger = logging.getLogger(__name__)

ANSWERS = "answers.jsonl"
DAMAGED = "answers.damaged"
"""Lines that were not whole, as they were found."""


class FolderLock:
    """One process at a time may have a study's folder; a context manager, which goes with the process.

    Raises:
        ConfigError: another one has it.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._file = (folder / ".lock").open("wb")
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self._file.close()
            raise ConfigError(
                f"another server has the reader study in {folder}: use its page, or end it first"
            ) from None

    def __enter__(self) -> FolderLock:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()

    def release(self) -> None:
        """Let others have it."""
        self._file.close()


class AnswerJournal:
    """The journal of a folder that this process has locked.

    Lines that are not whole, as a machine that lost power leaves them, are put aside when it is opened, and told.

    Args:
        folder: of the study.

    Attributes:
        records: all lines, the oldest first.
    """

    def __init__(self, folder: Path) -> None:
        self._log = AppendLog(folder / ANSWERS, most_bytes=1 << 40)
        _put_aside(folder)
        self.records = self._log.records()

    def note(self, record: Mapping[str, Any]) -> None:
        """Add a line; when this returns, it is on the disk.

        Raises:
            OSError: it could not be written.
        """
        self._log.append(record)
        self.records.append(dict(record))


def read_answers(folder: Path) -> list[dict[str, Any]]:
    """The lines of a study's journal, also while a server adds to it; what is not whole is told and left out."""
    return AppendLog(folder / ANSWERS).records()


def _put_aside(folder: Path) -> None:
    path = folder / ANSWERS
    if not path.exists():
        return
    lines = path.read_bytes().splitlines(keepends=True)
    damaged = [line for line in lines if not _is_whole(line)]
    if not damaged:
        return
    kept = b"".join(line for line in lines if _is_whole(line))
    # What is taken away here is on the disk there first, and the file is the old one or the new one.
    _write(folder / DAMAGED, b"".join(line.rstrip(b"\n") + b"\n" for line in damaged), os.O_APPEND)
    fresh = folder / f"{ANSWERS}.new"
    _write(fresh, kept, os.O_TRUNC)
    fresh.replace(path)
    logger.warning(
        "%d line(s) of %s were not whole: they are in %s now, and what they answered is asked again",
        len(damaged),
        path,
        folder / DAMAGED,
    )


def _is_whole(line: bytes) -> bool:
    try:
        return line.endswith(b"\n") and isinstance(json.loads(line), dict)
    except ValueError:
        return False


def _write(path: Path, content: bytes, how: int) -> None:
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | how, 0o644)
    with os.fdopen(file, "wb") as opened:
        opened.write(content)
        opened.flush()
        os.fsync(opened.fileno())
