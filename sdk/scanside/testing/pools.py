"""A pool without processes, to try workers out where a debugger and a test's patches reach them."""

from __future__ import annotations

from typing import Any

from scanside.many.run import Report
from scanside.many.work import Desk

__all__ = ["ThisProcess"]


class ThisProcess:
    """The pool and its only worker: tasks are done here, one after another.

    Attributes:
        payloads: of all tasks, in the order in which they were done.
    """

    size = 1

    def __init__(self) -> None:
        self.payloads: list[Any] = []
        self._reports: list[Report] = []

    def open(self, make_worker: bytes) -> ThisProcess:
        """See `scanside.many.run.Pool.open`."""
        self._desk = Desk()
        self._make_worker = make_worker
        return self

    def hire(self) -> int:
        """See `scanside.many.run.Crew.hire`."""
        self._reports.append(Report(0, self._desk.make(self._make_worker)))
        return 0

    def give(self, worker: int, payload: Any) -> None:
        """See `scanside.many.run.Crew.give`."""
        self.payloads.append(payload)
        self._reports.append(Report(worker, self._desk.work(payload), where="this process"))

    def wait(self) -> list[Report]:
        """See `scanside.many.run.Crew.wait`."""
        return [self._reports.pop(0)]

    def close(self) -> None:
        """See `scanside.many.run.Crew.close`."""
        self._reports.clear()
