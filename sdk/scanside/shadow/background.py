"""Work that may wait and may be dropped, done in order in one thread that gives way to all others."""

from __future__ import annotations

import atexit
import logging
import os
import queue
import threading
from collections.abc import Callable
from contextlib import suppress

__all__ = ["Background"]

logger = logging.getLogger(__name__)

_NICE = 10

_EXIT_SECONDS = 60.0
"""How long a process that ends, such as a node that Gadgetron executed, waits for what is still to be done."""


_LINGER_SECONDS = 1.0
"""How long the thread stays when there is nothing to do: between the k-spaces of a scan, not between scans."""


class Background:
    """Runs jobs one after the other, beside whoever gives them.

    Its thread lives while there is something to do, so that one that is not used any more leaves nothing behind.

    Args:
        most_waiting: jobs that may be dropped of which so many may wait.
    """

    def __init__(self, most_waiting: int) -> None:
        self._jobs: queue.SimpleQueue[tuple[Callable[[], None], bool]] = queue.SimpleQueue()
        self._idle = threading.Condition()
        self._most_waiting = most_waiting
        self._n_waiting = self._n_unfinished = 0
        self._thread: threading.Thread | None = None
        self._linger_seconds = _LINGER_SECONDS

    def offer(self, job: Callable[[], None]) -> bool:
        """Have a job done unless too many wait; says whether it will be."""
        with self._idle:
            if self._n_waiting >= self._most_waiting:
                return False
            self._n_waiting += 1
        self._put(job, droppable=True)
        return True

    def order(self, job: Callable[[], None]) -> None:
        """Have a small job done after those that came before, however many wait."""
        self._put(job, droppable=False)

    def wait(self, seconds: float) -> bool:
        """Wait until all is done; says whether it is."""
        with self._idle:
            return self._idle.wait_for(lambda: not self._n_unfinished, seconds)

    def _put(self, job: Callable[[], None], *, droppable: bool) -> None:
        with self._idle:
            self._n_unfinished += 1
            self._jobs.put((job, droppable))
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="scanside-shadow", daemon=True)
                self._thread.start()
                atexit.register(self._end)

    def _end(self) -> None:
        """Let the thread end before the process does: one that is cut off in native code takes the process along."""
        self.wait(_EXIT_SECONDS)
        if (thread := self._thread) is not None:
            self._linger_seconds = 0.0
            self.order(lambda: None)
            thread.join(_EXIT_SECONDS)

    def _work(self) -> None:
        # On Linux each thread has a niceness of its own, and the threads that it starts inherit it.
        with suppress(OSError, AttributeError):
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICE)
        while True:
            try:
                job, droppable = self._jobs.get(timeout=self._linger_seconds)
            except queue.Empty:
                with self._idle:
                    if self._n_unfinished:
                        continue
                    self._thread = None
                    atexit.unregister(self._end)
                return
            try:
                job()
            except Exception:
                logger.exception("work in the background failed; the scan is not touched")
            del job  # nothing of a scan is held while the next job is awaited
            with self._idle:
                self._n_waiting -= droppable
                self._n_unfinished -= 1
                self._idle.notify_all()
