"""The figures of a run as one CSV file, which a resumed run continues."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers.logger import Logger
from lightning.pytorch.utilities import rank_zero_only

__all__ = ["CsvLog"]


class CsvLog(Logger):
    """Rows by step; one column per figure, empty where a row has none.

    Args:
        path: the file. Rows of it up to `resumed_step` are kept: what an interrupted run logged after its last
            checkpoint is made again.
        resumed_step: step from which the run goes on; 0 begins a new file.
    """

    def __init__(self, path: Path, resumed_step: int = 0) -> None:
        super().__init__()
        self.path = path
        self._columns = ["step"]
        self._rows: list[dict[str, Any]] = []
        self._written = 0
        if resumed_step and path.is_file():
            with path.open(newline="", encoding="utf-8") as file:
                reader = csv.DictReader(file)
                self._rows = [row for row in reader if int(row["step"]) <= resumed_step]
                self._columns = list(reader.fieldnames or self._columns)

    @property
    def name(self) -> str:
        """Of the logger."""
        return "csv"

    @property
    def version(self) -> str:
        """There is one."""
        return ""

    def log_hyperparams(self, *args: Any, **kwargs: Any) -> None:
        """They stand in ``config.yaml``."""

    @rank_zero_only
    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        """Take one row; it is written at once, so that a run can be watched."""
        row: dict[str, Any] = {"step": step, **{k: v for k, v in metrics.items() if k != "epoch"}}
        new = [name for name in row if name not in self._columns]
        self._columns += new
        self._rows.append(row)
        first = 0 if new or not self._written else self._written
        with self.path.open("a" if first else "w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, self._columns, restval="")
            if not first:
                writer.writeheader()
            writer.writerows(self._rows[first:])
        self._written = len(self._rows)
