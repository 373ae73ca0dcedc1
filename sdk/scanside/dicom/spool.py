"""A folder of instances that are still to be sent: what is in it is never lost, only sent.

An instance is a file ``<time>-<SOP Instance UID>.dcm``, written aside and renamed; beside one that was refused, a
``.json`` of the same name says how often and why. Several processes may add to a spool; one at a time sends from it.
"""

from __future__ import annotations

import fcntl
import json
import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from scanside.dicom.files import write_durably
from scanside.errors import ConfigError
from scanside.scratch import remove_abandoned

__all__ = ["Spool", "Waiting"]

logger = logging.getLogger(__name__)

_MARK = ".scanside-spool"


@dataclass(frozen=True, slots=True)
class Waiting:
    """An instance in a spool.

    Attributes:
        path: its file.
        attempts: how often it was refused.
        reason: why, the last time.
    """

    path: Path
    attempts: int = 0
    reason: str = ""


class Spool:
    """A folder of instances to send.

    Args:
        folder: made where it is absent; only what the spool itself wrote is ever removed.

    Raises:
        OSError: the folder cannot be made or written to.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        (folder / _MARK).touch()
        remove_abandoned(folder, ".*.part")

    @classmethod
    def existing(cls, folder: Path) -> Spool:
        """A spool that is there already.

        Raises:
            ConfigError: the folder is no spool: files that someone keeps there would be removed once sent.
        """
        if not (folder / _MARK).is_file():
            raise ConfigError(
                f"{folder} is no spool: sending removes what was sent, so only folders that 'scanside dicom --send' "
                "or the stage 'dicom' made are sent"
            )
        return cls(folder)

    def add(self, content: bytes, uid: str) -> Path:
        """Put an instance in; when this returns, it is on the disk.

        Args:
            content: the file's bytes.
            uid: SOP Instance UID.

        Raises:
            OSError: it cannot be written; nothing is left of it.
        """
        # Time first: sent in the order in which they came. One that comes again replaces none that is being sent.
        path = self.folder / f"{time.time_ns():020d}-{uid}.dcm"
        write_durably(path, content)
        return path

    def waiting(self) -> list[Waiting]:
        """What is to be sent, oldest first."""
        return [self._read(path) for path in sorted(self.folder.glob("*.dcm"))]

    @property
    def n_waiting(self) -> int:
        """How many are to be sent."""
        return sum(1 for _ in self.folder.glob("*.dcm"))

    def sent(self, one: Waiting) -> None:
        """An instance has arrived: forget it."""
        one.path.unlink(missing_ok=True)
        one.path.with_suffix(".json").unlink(missing_ok=True)

    def refused(self, one: Waiting, reason: str) -> None:
        """An instance has not arrived: it stays, with the reason."""
        note = json.dumps({"attempts": one.attempts + 1, "reason": reason})
        try:
            write_durably(one.path.with_suffix(".json"), note.encode())
        except OSError as error:
            # The instance itself is safe; on a full disk only the note about it is missing.
            logger.warning("the reason why %s was not sent cannot be kept: %s", one.path.name, error)

    @contextmanager
    def sending(self) -> Iterator[bool]:
        """Whether it is this process's turn to send; a process that dies gives its turn back."""
        with (self.folder / _MARK).open("a") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                yield False
                return
            yield True

    def _read(self, path: Path) -> Waiting:
        try:
            note = json.loads(path.with_suffix(".json").read_bytes())
            return Waiting(path, int(note["attempts"]), str(note["reason"]))
        except (OSError, ValueError, KeyError, TypeError):
            return Waiting(path)
