"""Writes a stream to a file in a thread of its own, and gives up rather than hold the stream up."""

from __future__ import annotations

import fcntl
import logging
import os
import queue
import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

from scanside.errors import ScansideError
from scanside.recording.cleaning import Cleaner

__all__ = ["Tape"]

logger = logging.getLogger(__name__)

_CHECK_BYTES = 64 << 20
"""How often the room on the disk is looked at."""

_End = Callable[[], None]


class Tape:
    """One file that is being recorded.

    The file is locked as long as it is written, so that others can tell it from one whose process died.

    Args:
        path: the file, which must not exist.
        cleaner: takes the names out; None writes the stream as it came.
        most_bytes: where the recording is cut off.
        spare_bytes: what it leaves free on the disk.
        queue_bytes: what may wait to be written.

    Attributes:
        problem: why the recording is not whole; empty while it is.
        size: bytes written so far.
    """

    def __init__(
        self, path: Path, cleaner: Cleaner | None, *, most_bytes: int, spare_bytes: int, queue_bytes: int
    ) -> None:
        self.path = path
        self.problem = ""
        self.size = 0
        self._cleaner = cleaner
        self._most, self._spare, self._room = most_bytes, spare_bytes, queue_bytes
        self._waiting: queue.SimpleQueue[bytes | _End] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._unchecked = _CHECK_BYTES
        self._thread = threading.Thread(target=self._run, name="scanside-recording", daemon=True)
        self._thread.start()

    def put(self, data: bytes) -> None:
        """Record the next bytes; never waits."""
        if self.problem:
            return
        with self._lock:
            self._room -= len(data)
            full = self._room < 0
        if full:
            self._give_up("the disk is slower than the scan")
        else:
            self._waiting.put(data)

    def finish(self, then: Callable[[], None]) -> None:
        """Nothing more comes; ``then`` is called in the writing thread, once the file is whole and closed."""
        self._waiting.put(then)

    def join(self, seconds: float | None = None) -> bool:
        """Wait for the end; says whether it came."""
        self._thread.join(seconds)
        return not self._thread.is_alive()

    def _run(self) -> None:
        # What already waits when the queue overflows is still written; after a failure to write nothing is.
        pieces = self._pieces()
        file = self._opened()
        if file is not None:
            try:
                for data in pieces if self._cleaner is None else self._cleaner.clean(pieces):
                    self._write(file, data)
            except (OSError, ScansideError) as error:
                self._give_up(str(error))
            finally:
                os.close(file)
        for _ in pieces:
            pass  # until the session is over
        self._then()

    def _pieces(self) -> Iterator[bytes]:
        """What is put, until nothing more comes."""
        while isinstance(data := self._waiting.get(), bytes):
            yield data
            with self._lock:
                self._room += len(data)
        self._then = data

    def _opened(self) -> int | None:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            file = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            self._give_up(str(error))
            return None
        return file

    def _write(self, file: int, data: bytes) -> None:
        """Write the next bytes.

        Raises:
            OSError: there is no room for them.
        """
        rest = memoryview(data)
        if why := self._no_room(len(rest)):
            raise OSError(why)
        while rest:
            written = os.write(file, rest)
            self.size += written
            rest = rest[written:]

    def _no_room(self, n: int) -> str:
        """Why there is no room for more; empty where there is."""
        if self.size + n > self._most:
            return f"it would be larger than the {self._most / 1e9:g} GB that recordings may take"
        self._unchecked += n
        if self._unchecked >= _CHECK_BYTES:
            self._unchecked = 0
            free = shutil.disk_usage(self.path.parent).free
            if free < self._spare:
                return f"the disk has {free / 1e9:.1f} GB left, and {self._spare / 1e9:g} GB stay free"
        return ""

    def _give_up(self, why: str) -> None:
        with self._lock:
            if self.problem:
                return
            self.problem = why
        logger.warning("the recording %s ends here, the scan goes on: %s", self.path.name, why)
