"""The checks of a scanner, one JSON line each."""

from __future__ import annotations

import logging
from pathlib import Path

from pydantic import ValidationError

from scanside.append_log import AppendLog
from scanside.qa.result import QaResult

__all__ = ["QaStore"]

logger = logging.getLogger(__name__)


class QaStore:
    """A folder with ``qa.jsonl``, and the reports that are written there.

    Args:
        folder: made if need be.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._log = AppendLog(folder / "qa.jsonl")

    def add(self, result: QaResult) -> None:
        """Keep a check; it is on the disk when this returns.

        Raises:
            OSError: it could not be written.
        """
        self._log.append(result.model_dump(mode="json"))

    def results(self) -> list[QaResult]:
        """All checks in the order of their times; lines that are none are left out."""
        found = []
        for record in self._log.records():
            try:
                found.append(QaResult.model_validate(record))
            except ValidationError as error:
                logger.warning("a line of %s is no check: %s", self._log.path, error)
        return sorted(found, key=lambda one: one.time)
