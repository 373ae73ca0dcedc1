"""Tasks, what came of them, and what a worker says; the same for every pool."""

from __future__ import annotations

import logging
import os
import pickle
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any, Literal, TypeAlias

from scanside.errors import RunError, ScansideError

__all__ = ["Answer", "Desk", "MakeWorker", "Result", "Task", "Worker", "packed", "reason"]

Worker: TypeAlias = Callable[[Any], Any]
"""Takes a task's payload and gives its value; both can be pickled. `RunError` ends the whole run, any other
exception is this task's failure."""

MakeWorker: TypeAlias = Callable[[], Worker]
"""Makes the worker, in its own process: loads the pipeline, warms the engines up. It can be pickled."""


@dataclass(frozen=True)
class Task:
    """Something to be done once.

    Attributes:
        key: names it; no two tasks of a run share one.
        payload: what the worker gets.
        group: tasks of one group go to one worker where that can be, as they use the same data.
    """

    key: str
    payload: Any
    group: str = ""


@dataclass(frozen=True)
class Result:
    """What came of a task.

    Attributes:
        task: which.
        value: what the worker gave; None where it failed.
        error: why it failed, for people; empty where it did not.
        tries: how many workers had it: 2 where the first one died.
        seconds: how long the last one took, 0 where it died.
        where: machine and process that did it.
    """

    task: Task
    value: Any
    error: str
    tries: int
    seconds: float
    where: str


@dataclass(frozen=True)
class Answer:
    """What a worker says.

    Attributes:
        kind: ``ready`` for tasks; ``unfit``: it could not be made; ``done`` or ``failed`` with a task; ``stop``: no
            task can succeed any more.
        value: of a task that is done.
        text: why not.
        seconds: how long it took.
    """

    kind: Literal["ready", "unfit", "done", "failed", "stop"]
    value: Any = None
    text: str = ""
    seconds: float = 0.0


def packed(make_worker: MakeWorker) -> bytes:
    """What a process elsewhere needs to make a worker: where this one works, its settings, and `make_worker`.

    Relative paths, and the folders that environment variables of Scanside name, mean the same there as here.
    """
    settings = {name: value for name, value in os.environ.items() if name.startswith("SCANSIDE_")}
    return pickle.dumps((str(Path.cwd()), settings, pickle.dumps(make_worker)))


class Desk:
    """A worker in its process: made once, then asked again and again; whatever it raises becomes an answer."""

    def __init__(self) -> None:
        self._worker: Worker | None = None
        # What a worker warns of comes back with its results: on standard error it would belong to no file.
        logging.getLogger("scanside").addHandler(logging.NullHandler())

    def make(self, pack: bytes) -> Answer:
        """Make the worker that `packed` has packed."""
        begun = perf_counter()
        try:
            folder, settings, pickled = pickle.loads(pack)  # noqa: S301 — our own process packed it
            _go_to(folder)
            os.environ.update(settings)
            make: MakeWorker = pickle.loads(pickled)  # noqa: S301
            self._worker = make()
        except Exception as error:  # noqa: BLE001 — told to the process that waits
            return Answer("unfit", text=reason(error))
        return Answer("ready", seconds=perf_counter() - begun)

    def work(self, payload: Any) -> Answer:
        """Do one task."""
        assert self._worker is not None
        begun = perf_counter()
        try:
            value = self._worker(payload)
        except RunError as error:
            return Answer("stop", text=reason(error))
        except Exception as error:  # noqa: BLE001 — a file that fails must not stop the others
            return Answer("failed", text=reason(error), seconds=perf_counter() - begun)
        return Answer("done", value, seconds=perf_counter() - begun)


def _go_to(folder: str) -> None:
    try:
        os.chdir(folder)
    except OSError as error:
        raise RunError(
            f"the folder in which the run was started, {folder}, is not there on this machine ({error}): all "
            "machines of a cluster must see the same paths"
        ) from error


def reason(error: BaseException) -> str:
    """An error in words: our own say all, of any other one needs to know the type too."""
    kind = "" if isinstance(error, ScansideError) else f"{type(error).__name__}: "
    return f"{kind}{error}".strip()
