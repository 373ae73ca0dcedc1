"""Processes of this machine as workers.

`concurrent.futures` gives up all its tasks when one process dies, and does not say which task killed it. Here each
worker has a pipe of its own, so that a death is heard on that pipe, and concerns one task.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from typing import Any

from scanside.many.run import Report
from scanside.many.work import Answer, Desk

__all__ = ["LocalPool"]

_FAREWELL_SECONDS = 2.0
"""How long a worker without work may take to end."""


class LocalPool:
    """Worker processes, started afresh (``spawn``) and not forked: torch and CUDA do not survive a fork.

    Args:
        n_workers: how many at once.
        threads: CPU threads of each.
        devices: CUDA devices that they share, as CUDA_VISIBLE_DEVICES names them; each worker sees one. Empty
            leaves them what this process sees.
    """

    def __init__(self, n_workers: int, threads: int = 1, devices: tuple[str, ...] = ()) -> None:
        self.n_workers = n_workers
        self.threads = threads
        self.devices = devices

    def open(self, make_worker: bytes) -> LocalCrew:
        """See `scanside.many.run.Pool.open`."""
        return LocalCrew(self, make_worker)


class LocalCrew:
    """The processes of one run; see `scanside.many.run.Crew`."""

    def __init__(self, pool: LocalPool, make_worker: bytes) -> None:
        self.size = pool.n_workers
        self._pool = pool
        self._make_worker = make_worker
        self._members: dict[int, tuple[SpawnProcess, Connection]] = {}
        self._n_hired = 0
        self._idle: set[int] = set()

    def hire(self) -> int:
        """See `Crew.hire`."""
        number, self._n_hired = self._n_hired, self._n_hired + 1
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        process = context.Process(
            target=_serve, args=(theirs,), name=f"scanside-worker-{number}", daemon=True
        )
        with _environment(self._surroundings(number)):
            process.start()
        theirs.close()  # else a worker's death would not close its pipe
        self._members[number] = process, ours
        with suppress(OSError):  # one that is dead already is found so by `wait`
            ours.send_bytes(self._make_worker)
        return number

    def give(self, worker: int, payload: Any) -> None:
        """See `Crew.give`."""
        self._idle.discard(worker)
        with suppress(OSError):
            self._members[worker][1].send(payload)

    def wait(self) -> list[Report]:
        """See `Crew.wait`."""
        by_connection = {connection: number for number, (_, connection) in self._members.items()}
        return [self._report(by_connection[one]) for one in wait(list(by_connection)) if one in by_connection]

    def close(self) -> None:
        """See `Crew.close`."""
        for number, (process, connection) in self._members.items():
            connection.close()
            if number not in self._idle:
                process.kill()
        for process, _ in self._members.values():
            process.join(_FAREWELL_SECONDS)
            process.kill()
            process.join()
        self._members.clear()

    def _report(self, number: int) -> Report:
        process, connection = self._members[number]
        where = f"process {process.pid}"
        try:
            answer: Answer = connection.recv()
        except (EOFError, OSError):
            self._idle.discard(number)
            del self._members[number]
            connection.close()
            process.join()
            return Report(number, None, _how_it_ended(process.exitcode), where)
        self._idle.add(number)
        return Report(number, answer, where=where)

    def _surroundings(self, number: int) -> dict[str, str]:
        """Environment of a worker; read when NumPy, torch and CUDA load, so it must be there from the start."""
        changed = {"OMP_NUM_THREADS": str(self._pool.threads)}
        if self._pool.devices:
            changed["CUDA_VISIBLE_DEVICES"] = self._pool.devices[number % len(self._pool.devices)]
        return changed


@contextmanager
def _environment(changed: dict[str, str]) -> Iterator[None]:
    """The environment that a process inherits, while it is started."""
    before = {name: os.environ.get(name) for name in changed}
    os.environ.update(changed)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _how_it_ended(status: int | None) -> str:
    if status is None or status >= 0:
        return f"the process ended with exit status {status}"
    name = signal.Signals(-status).name
    hint = ", as the system does when memory runs out" if -status == signal.SIGKILL else ""
    return f"the process was ended by {name}{hint}"


def _serve(connection: Connection) -> None:
    """The life of a worker process: be made, then do what comes, until the pipe closes."""
    # Ctrl-C reaches all processes of a terminal; what becomes of this one is for the run to say.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    desk = Desk()
    with suppress(EOFError, OSError):
        connection.send(desk.make(connection.recv_bytes()))
        while True:
            connection.send(desk.work(connection.recv()))


def _end_with_parent() -> None:
    """When the run is killed, nobody waits for the file in hand, and the next run may have begun it already."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    wait([parent.sentinel])
    os._exit(1)
