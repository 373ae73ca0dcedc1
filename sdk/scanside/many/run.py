"""The run: who does what next, what becomes of the tasks of workers that die, and when it is over."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

from scanside.errors import RunError
from scanside.many.work import Answer, MakeWorker, Result, Task, packed

__all__ = ["Crew", "Pool", "Report", "run_many"]

TRIES = 2
"""Workers that may die over one task, before it counts as failed: once may be bad luck."""

FALSE_STARTS = 3
"""Workers that may die one after another before they are ready for a task."""


@dataclass(frozen=True)
class Report:
    """What is heard of a worker.

    Attributes:
        worker: its number.
        answer: what it said; None when it died.
        lost: how it died.
        where: its machine and process.
    """

    worker: int
    answer: Answer | None
    lost: str = ""
    where: str = ""


class Crew(Protocol):
    """The workers of one run."""

    size: int
    """How many workers there may be at once."""

    def hire(self) -> int:
        """Start a worker and give its number; a `Report` follows when it is ready."""

    def give(self, worker: int, payload: Any) -> None:
        """Hand a task to a worker that has nothing to do."""

    def wait(self) -> list[Report]:
        """Wait until something is heard of a worker.

        Raises:
            RunError: nothing will be.
        """

    def close(self) -> None:
        """End all workers, also those at work."""


class Pool(Protocol):
    """Where workers come from."""

    def open(self, make_worker: bytes) -> Crew:
        """Make ready for a run.

        Args:
            make_worker: from `scanside.many.work.packed`.

        Raises:
            ScansideError: there are no workers to be had.
        """


def run_many(tasks: Iterable[Task], make_worker: MakeWorker, pool: Pool) -> Iterator[Result]:
    """Do all tasks, and give their results as they come.

    A task whose worker dies is tried once more by another worker, and is a failure when that one dies too. The first
    worker starts alone, so that others find what it has built, such as engines.

    Args:
        tasks: in the order in which they are begun.
        make_worker: makes a worker, once in each process.
        pool: where the workers are.

    Raises:
        RunError: no worker can be made, they die before they are ready, or one says that no task can succeed.
        ScansideError: the pool cannot be opened.
    """
    waiting = _Waiting(tasks)
    if not waiting:
        return
    crew = pool.open(packed(make_worker))
    try:
        yield from _Run(waiting, crew).results()
    finally:
        crew.close()


@dataclass
class _Try:
    """A task in a worker's hands, or waiting for the next one's."""

    task: Task
    number: int = 1


class _Waiting:
    """Tasks that wait, by group."""

    def __init__(self, tasks: Iterable[Task]) -> None:
        self._groups: OrderedDict[str, deque[_Try]] = OrderedDict()
        self._n = 0
        for task in tasks:
            self._groups.setdefault(task.group, deque()).append(_Try(task))
            self._n += 1

    def __len__(self) -> int:
        return self._n

    def take(self, last: str | None, busy: set[str]) -> _Try:
        """The next task for a worker: of the group that it had last, else of one that nobody has."""
        group = last if last in self._groups else next((one for one in self._groups if one not in busy), None)
        group = next(iter(self._groups)) if group is None else group
        chosen = self._groups[group].popleft()
        if not self._groups[group]:
            del self._groups[group]
        self._n -= 1
        return chosen

    def put_back(self, again: _Try) -> None:
        self._groups.setdefault(again.task.group, deque()).appendleft(again)
        self._n += 1


class _Run:
    def __init__(self, waiting: _Waiting, crew: Crew) -> None:
        self._waiting = waiting
        self._crew = crew
        self._starting: set[int] = set()
        self._idle: dict[int, str | None] = {}  # with the group of their last task
        self._working: dict[int, _Try] = {}
        self._false_starts = 0
        self._one_was_ready = False

    def results(self) -> Iterator[Result]:
        while self._waiting or self._working:
            self._hire()
            for report in self._crew.wait():
                if report.answer is None:
                    yield from self._lost(report)
                else:
                    yield from self._heard(report, report.answer)
            self._hand_out()

    def _hire(self) -> None:
        there = len(self._starting) + len(self._idle) + len(self._working)
        wanted = min(self._crew.size, len(self._waiting) + len(self._working)) if self._one_was_ready else 1
        for _ in range(wanted - there):
            self._starting.add(self._crew.hire())

    def _hand_out(self) -> None:
        while self._idle and self._waiting:
            worker, last = self._idle.popitem()
            chosen = self._waiting.take(last, {one.task.group for one in self._working.values()})
            self._working[worker] = chosen
            self._crew.give(worker, chosen.task.payload)

    def _heard(self, report: Report, answer: Answer) -> Iterator[Result]:
        if answer.kind == "unfit":
            raise RunError(f"no worker can start: {answer.text}")
        if answer.kind == "stop":
            raise RunError(answer.text)
        if answer.kind == "ready":
            self._starting.discard(report.worker)
            self._idle[report.worker] = None
            self._false_starts, self._one_was_ready = 0, True
            return
        done = self._working.pop(report.worker)
        self._idle[report.worker] = done.task.group
        yield Result(done.task, answer.value, answer.text, done.number, answer.seconds, report.where)

    def _lost(self, report: Report) -> Iterator[Result]:
        self._idle.pop(report.worker, None)
        if report.worker in self._starting:
            self._starting.discard(report.worker)
            self._false_starts += 1
            if self._false_starts >= FALSE_STARTS:
                raise RunError(f"{FALSE_STARTS} workers in a row died while they started: {report.lost}")
        lost = self._working.pop(report.worker, None)
        if lost is None:
            return
        if lost.number < TRIES:
            self._waiting.put_back(_Try(lost.task, lost.number + 1))
        else:
            error = f"{TRIES} workers died over it: {report.lost}"
            yield Result(lost.task, None, error, lost.number, 0.0, report.where)
