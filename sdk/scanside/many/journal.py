"""What is done already: one line of JSON for each step, so that a run that was cut off can go on."""

from __future__ import annotations

import fcntl
import json
import logging
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from scanside.errors import ConfigError

__all__ = ["JOURNAL", "Journal", "identity"]

logger = logging.getLogger(__name__)

JOURNAL = "journal.jsonl"
"""Its name in a run's folder."""


class Journal:
    """The records of a folder by key; a context manager. One run at a time can have it.

    Every line is a record's ``key`` with what is new of it; of several lines about a key, later ones replace what
    earlier ones said. A line that was cut off is left out: what it told is done again.

    Args:
        folder: made where it is missing.

    Attributes:
        records: by key, as they stand.

    Raises:
        ConfigError: another run has it.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.path = folder / JOURNAL
        self.records: dict[str, dict[str, Any]] = {}
        self._file = self.path.open("a+b", buffering=0)
        try:
            # Goes with the process, however it ends.
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self._file.close()
            raise ConfigError(
                f"another run writes to {folder}: wait until it has ended, or name another folder"
            ) from None
        self._read()

    def __enter__(self) -> Journal:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def note(self, *entries: tuple[str, Mapping[str, Any]]) -> None:
        """Add to records.

        Args:
            entries: keys, and what is new of them, as JSON can say it.
        """
        lines = []
        for key, changes in entries:
            self.records.setdefault(key, {}).update(changes)
            lines.append(json.dumps({"key": key, **changes}, ensure_ascii=False) + "\n")
        text = "".join(lines).encode()
        while text:
            text = text[self._file.write(text) :]

    def _read(self) -> None:
        self._file.seek(0)
        lines = self._file.read().split(b"\n")
        if lines[-1]:
            self._file.write(b"\n")  # what comes next must not be glued to a line that was cut off
        for number, line in enumerate(lines, 1):
            if not line:
                continue
            try:
                record = json.loads(line)
                self.records.setdefault(record.pop("key"), {}).update(record)
            except (ValueError, KeyError, TypeError, AttributeError):
                logger.warning("line %d of %s cannot be read: what it told is done again", number, self.path)


def identity(path: Path) -> dict[str, int]:
    """What tells a file from a later version of it: size in bytes, and when it was last changed.

    Raises:
        OSError: it cannot be looked at.
    """
    found = path.stat()
    return {"size": found.st_size, "mtime_ns": found.st_mtime_ns}
