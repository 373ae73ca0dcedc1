"""Calls that must end in time."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future
from concurrent.futures import TimeoutError as Timeout
from typing import Any, TypeVar

__all__ = ["DeadlineExceeded", "DeadlineRunner", "StillBusy"]

T = TypeVar("T")


class DeadlineExceeded(Exception):
    """A call had not ended in time; it goes on, and its result is dropped."""


class StillBusy(Exception):
    """An earlier call that was given up has still not ended."""


class DeadlineRunner:
    """Runs calls one by one in a thread of its own, and stops waiting when a deadline has passed.

    Native code cannot be interrupted: a call that is given up goes on, and until it ends no other one is begun. The
    thread never keeps the process from ending.
    """

    def __init__(self) -> None:
        self._calls: queue.SimpleQueue[tuple[Callable[[], Any], Future[Any]]] = queue.SimpleQueue()
        self._given_up: Future[Any] | None = None
        self._thread: threading.Thread | None = None

    def __call__(self, call: Callable[[], T], milliseconds: float) -> T:
        """Run a call.

        Raises:
            DeadlineExceeded: it did not end in time.
            StillBusy: it was not begun.
        """
        if self._given_up is not None and not self._given_up.done():
            raise StillBusy
        if self._thread is None or not self._thread.is_alive():  # threads do not survive a fork
            self._thread = threading.Thread(target=self._work, name="scanside-engine", daemon=True)
            self._thread.start()
        result: Future[T] = Future()
        self._calls.put((call, result))
        try:
            return result.result(milliseconds / 1e3)
        except Timeout:
            if result.done():
                raise  # the call itself ran into some time limit
            self._given_up = result
            raise DeadlineExceeded from None

    def _work(self) -> None:
        while True:
            call, result = self._calls.get()
            try:
                result.set_result(call())
            except BaseException as error:  # noqa: BLE001 — raised again where the result is awaited
                result.set_exception(error)
            del call, result  # nothing of a scan is held while the next one is awaited
