"""The folder of recordings: what is in it, and what has to go."""

from __future__ import annotations

import fcntl
import logging
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime, timedelta, timezone
from pathlib import Path

from pydantic import ValidationError

from scanside.errors import ConfigError
from scanside.recording.entry import RecordingEntry
from scanside.scratch import is_abandoned, remove_abandoned, replacing

__all__ = ["ENDING", "PART", "RecordingRing", "new_id"]

logger = logging.getLogger(__name__)

ENDING, PART = ".mrd", ".part"

_TIME = "%Y%m%dT%H%M%S.%fZ"


def new_id(session: str, begun: datetime) -> str:
    """Name of a recording: when it began, so that names sort by age, and its session."""
    return f"{begun.astimezone(timezone.utc).strftime(_TIME)}-{re.sub(r'[^A-Za-z0-9_.]', '_', session)[:80]}"


class RecordingRing:
    """Recordings in a folder, each a stream ``ID.mrd`` and what is known of it in ``ID.json``.

    Several processes may record into one folder.

    Args:
        folder: need not exist.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def entries(self) -> list[RecordingEntry]:
        """All recordings, the oldest first; files that are none are left out."""
        found = []
        for path in sorted(self.folder.glob("*.json")):
            try:
                entry = RecordingEntry.model_validate_json(path.read_bytes())
            except (OSError, ValidationError) as error:
                logger.warning("%s tells of no recording: %s", path, error)
                continue
            if self.path(entry).is_file():
                found.append(entry)
        return found

    def path(self, entry: RecordingEntry) -> Path:
        """The recorded stream."""
        return self.folder / f"{entry.id}{ENDING}"

    def find(self, name: str) -> RecordingEntry:
        """A recording by its ID, its session, or the beginning of either.

        Raises:
            ConfigError: there is none, or more than one.
        """
        entries = self.entries()
        found = [one for one in entries if name in (one.id, one.session)]
        found = found or [one for one in entries if one.id.startswith(name) or one.session.startswith(name)]
        if len(found) == 1:
            return found[0]
        if found:
            raise ConfigError(
                f"'{name}' may be any of {', '.join(one.id for one in found)}: write more of it"
            )
        raise ConfigError(
            f"there is no recording '{name}' in {self.folder}: 'scanside record list --folder {self.folder}' shows "
            "them"
        )

    def add(self, part: Path, entry: RecordingEntry) -> None:
        """Take a recorded part in.

        Raises:
            OSError: it could not be written down what it is; the part stays.
        """
        self._write(entry)
        part.replace(self.path(entry))

    def discard(self, part: Path, entry: RecordingEntry) -> None:
        """Remove a part that could not be taken in, and whatever of it was."""
        for path in (part, self._json(entry)):
            with suppress(OSError):
                path.unlink(missing_ok=True)

    def pin(self, name: str, *, pinned: bool = True) -> RecordingEntry:
        """Keep a recording whatever its age, or release it.

        Raises:
            ConfigError: there is no such recording.
        """
        entry = self.find(name).model_copy(update={"pinned": pinned})
        with self._locked():
            self._write(entry)
        return entry

    def prune(self, most_bytes: int | None = None, days: float | None = None) -> list[RecordingEntry]:
        """Remove what is too old, and then the oldest until the rest fits; never what is pinned.

        Args:
            most_bytes: that all recordings may take; None for any.
            days: that one is kept; None for ever.

        Returns:
            Those that were removed.
        """
        with self._locked():
            entries = self.entries()
            total = sum(entry.size for entry in entries)
            oldest = None if days is None else datetime.now(timezone.utc) - timedelta(days=days)
            removed = []
            for entry in entries:
                too_old = oldest is not None and entry.begun < oldest
                too_much = most_bytes is not None and total > most_bytes
                if not entry.pinned and (too_old or too_much):
                    total -= entry.size
                    self.path(entry).unlink(missing_ok=True)
                    self._json(entry).unlink(missing_ok=True)
                    removed.append(entry)
            return removed

    def count_session(self) -> int:
        """The number of one more session, counted from 1 over all processes."""
        with self._locked():
            counter = self.folder / ".sessions"
            number = 1 + (int(counter.read_text() or 0) if counter.exists() else 0)
            with replacing(counter) as draft:
                draft.write_text(str(number), encoding="ascii")
            return number

    def left_behind(self) -> list[tuple[Path, int]]:
        """Parts whose process died, and their sizes; drafts of what is known of them are removed."""
        remove_abandoned(self.folder, f".*{PART}")
        found = []
        for part in sorted(self.folder.glob(f"*{ENDING}{PART}")):
            with suppress(OSError):  # its process was faster, and has finished it
                if is_abandoned(part):
                    found.append((part, part.stat().st_size))
        return found

    def _json(self, entry: RecordingEntry) -> Path:
        return self.folder / f"{entry.id}.json"

    def _write(self, entry: RecordingEntry) -> None:
        with replacing(self._json(entry)) as draft:
            draft.write_text(entry.model_dump_json(indent=2) + "\n", encoding="utf-8")

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """One process at a time changes what is there."""
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        lock = os.open(self.folder / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
        finally:
            os.close(lock)
