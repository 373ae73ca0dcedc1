"""Logs that are only ever added to: JSON lines, on the disk when `append` returns, turned over when they grow."""

from __future__ import annotations

import fcntl
import json
import logging
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

__all__ = ["AppendLog"]

logger = logging.getLogger(__name__)


class AppendLog:
    """One log that several processes may write.

    Args:
        path: of the newest lines, for example ``series.jsonl``; older ones are in ``series.1.jsonl``,
            ``series.2.jsonl`` and so on.
        most_bytes: size from which a file is turned over.
        n_old: how many older files are kept; None for all.
    """

    def __init__(self, path: Path, *, most_bytes: int = 16_000_000, n_old: int | None = None) -> None:
        self.path = path
        self._most_bytes = most_bytes
        self._n_old = n_old

    def append(self, record: Mapping[str, Any]) -> None:
        """Add a line; when this returns, it is on the disk.

        Raises:
            ValueError: a number is NaN or infinite, which JSON cannot hold.
            OSError: it could not be written.
        """
        line = json.dumps(record, ensure_ascii=False, allow_nan=False).encode() + b"\n"
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self._locked():
            if self.path.exists() and self.path.stat().st_size + len(line) > self._most_bytes:
                self._turn_over()
            file = os.open(self.path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)
            try:
                # A crash may have left half a line: the next one must not be lost with it.
                size = os.fstat(file).st_size
                if size and os.pread(file, 1, size - 1) != b"\n":
                    line = b"\n" + line
                _write_all(file, line)
                os.fsync(file)
            finally:
                os.close(file)

    def records(self) -> list[dict[str, Any]]:
        """All lines, the oldest first; what is none is left out."""
        found = []
        for path in [*reversed(self._old()), self.path]:
            if not path.exists():
                continue
            for number, line in enumerate(path.read_bytes().splitlines(), 1):
                try:
                    record = json.loads(line)
                except ValueError:
                    if line.strip():
                        logger.warning("%s, line %d, is not whole and is left out", path, number)
                    continue
                if isinstance(record, dict):
                    found.append(record)
        return found

    def _old(self) -> list[Path]:
        """Older files, the newest of them first."""
        found: list[Path] = []
        while (path := self._numbered(len(found) + 1)).exists():
            found.append(path)
        return found

    def _numbered(self, number: int) -> Path:
        return self.path.with_name(f"{self.path.stem}.{number}{self.path.suffix}")

    def _turn_over(self) -> None:
        old = self._old()
        for number in range(len(old), 0, -1):
            if self._n_old is not None and number >= self._n_old:
                self._numbered(number).unlink()
            else:
                self._numbered(number).replace(self._numbered(number + 1))
        if self._n_old == 0:
            self.path.unlink()
        else:
            self.path.replace(self._numbered(1))

    @contextmanager
    def _locked(self) -> Iterator[None]:
        lock = os.open(
            self.path.with_name(f".{self.path.name}.lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644
        )
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
        finally:
            os.close(lock)


def _write_all(file: int, data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(file, rest) :]
