"""One worker process as the server sees it."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from time import monotonic
from typing import TYPE_CHECKING, Literal

from scanside.threads import ONE_BLAS_THREAD, sleep_soon
from scanside_gadgetron.pool.channel import Begin, Channel, Message
from scanside_gadgetron.pool.note import Note

if TYPE_CHECKING:
    from scanside_gadgetron.pool.visitor import Visitor

__all__ = ["COMMAND", "Reason", "WorkerProcess", "worker_environment"]

COMMAND = (sys.executable, "-m", "scanside_gadgetron.pool.worker")
"""Starts a worker; descriptors follow."""

Reason = Literal["stopped", "died", "hung", "leaked", "reloaded"]

_THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")


def worker_environment(inherited: Mapping[str, str], threads: int | None) -> dict[str, str]:
    """What a worker finds in its environment; libraries read it when they are loaded, so it is there from the start.

    Args:
        inherited: environment of the server; what it says of small work stands.
        threads: of torch in the worker; None leaves it to the libraries, or to what is inherited.
    """
    environment = {**ONE_BLAS_THREAD, **inherited}
    sleep_soon(environment)
    if threads is not None:
        environment.update({name: str(threads) for name in _THREAD_VARIABLES})
    # A child that is started from a checkout must find what this process imports.
    environment["PYTHONPATH"] = os.pathsep.join(entry for entry in sys.path if entry)
    return environment


@dataclass(eq=False)
class WorkerProcess:
    """A worker.

    Attributes:
        index: its place among the workers, from 0.
        begin: what it was told at first.
        process: the process.
        channel: to it.
        note: what it notes of its connection.
        ready: set once its pipelines are prepared; fails with the reason where they cannot be.
        visitor: whose session it runs.
        session_began: when, by `time.monotonic`.
        beaten: when it gave its last sign of life.
        memory: its resident bytes.
        stage: whose code it runs, and for how many seconds already.
        late: for how many seconds what it has to report waits already.
        silent: for how many seconds its host has sent next to nothing.
        over_at: when its session was told to be over, where that is so and it is not free yet.
        ending: why it is to end, once that is so.
        detail: the same for the log.
        asked: since when it has been asked to end, where it has.
        idle_since: since when it has had no session.
    """

    index: int
    begin: Begin
    process: subprocess.Popen[bytes]
    channel: Channel
    note: Note
    ready: asyncio.Future[None]
    started: float = field(default_factory=monotonic)
    visitor: Visitor | None = None
    session_began: float = 0.0
    beaten: float = field(default_factory=monotonic)
    memory: int = 0
    stage: tuple[str, float] | None = None
    late: float = 0.0
    silent: float = 0.0
    over_at: float | None = None
    ending: Reason | None = None
    detail: str = ""
    asked: float | None = None
    idle_since: float = 0.0
    gone: bool = False

    @classmethod
    def start(cls, index: int, begin: Begin, command: Sequence[str] = COMMAND) -> WorkerProcess:
        """Start a process.

        Raises:
            OSError: this machine has no room for one.
        """
        ours, theirs = Channel.pair()
        note = Note()
        try:
            process = subprocess.Popen(
                [*command, str(theirs.fileno()), str(note.descriptor)],
                env=worker_environment(os.environ, begin.threads),
                stdin=subprocess.DEVNULL,
                # Standard output is for the one line that says where the server listens.
                stdout=2,
                pass_fds=(theirs.fileno(), note.descriptor),
                # Ctrl-C in a terminal is for the server, which lets running sessions finish.
                start_new_session=True,
            )
        except OSError:
            ours.close()
            note.close()
            raise
        finally:
            theirs.close()
        ours.socket.setblocking(False)
        ours.send(begin)
        ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        # Nobody waits for a worker that replaces another: its failure is logged, not raised.
        ready.add_done_callback(lambda one: one.cancelled() or one.exception())
        return cls(index, begin, process, ours, note, ready)

    @property
    def pid(self) -> int:
        """Process id."""
        return self.process.pid

    @property
    def is_ready(self) -> bool:
        """Whether its pipelines are prepared."""
        return self.ready.done() and not self.ready.cancelled() and self.ready.exception() is None

    @property
    def is_idle(self) -> bool:
        """Whether it can take a session."""
        return self.is_ready and self.visitor is None and self.ending is None and not self.gone

    def tell(self, message: Message, *descriptors: int) -> None:
        """Send it a message; see `Channel.send`."""
        self.channel.send(message, *descriptors, wait=False)

    def kill(self, reason: Reason, detail: str) -> None:
        """End it at once, with whatever it started."""
        self.ending, self.detail = reason, detail
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, signal.SIGKILL)

    async def wait(self) -> str:
        """Wait until the process is no more; gives how it ended."""
        status = await asyncio.get_running_loop().run_in_executor(None, self.process.wait)
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, signal.SIGKILL)  # what it started must not outlive it
        if status >= 0:
            return f"it ended with status {status}"
        try:
            return f"it was ended by {signal.Signals(-status).name}"
        except ValueError:
            return f"it was ended by signal {-status}"

    def close(self) -> None:
        """Release what belongs to it here."""
        self.channel.close()
        self.note.close()
