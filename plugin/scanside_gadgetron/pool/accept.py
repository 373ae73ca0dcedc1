"""Taking connections in an event loop, also when this process can open nothing more."""

from __future__ import annotations

import asyncio
import errno
import logging
import socket
from collections.abc import Callable
from time import monotonic
from typing import Any

__all__ = ["Acceptor", "Seldom"]

logger = logging.getLogger(__name__)

_PAUSE_SECONDS = 0.5
_WAIT_SECONDS = 0.02
_GONE = frozenset({errno.ECONNABORTED, errno.EPERM, errno.EPROTO, errno.EINTR})
"""The host left before it was served, or a firewall says no: the next may be there all the same."""


class Seldom:
    """Logs what may happen a thousand times a second, once a minute of each kind, and how often it was.

    Args:
        log: where to.
        seconds: between two lines of one kind.
    """

    def __init__(self, log: logging.Logger, seconds: float = 60.0) -> None:
        self._log = log
        self._seconds = seconds
        self._kinds: dict[str, tuple[float, int]] = {}

    def warning(self, kind: str, text: str) -> None:
        """Log a warning, unless one of its kind was logged just now."""
        self._tell(logging.WARNING, kind, text)

    def info(self, kind: str, text: str) -> None:
        """The same for what is no reason to worry."""
        self._tell(logging.INFO, kind, text)

    def _tell(self, level: int, kind: str, text: str) -> None:
        now = monotonic()
        told, n_untold = self._kinds.get(kind, (-self._seconds, 0))
        if now - told < self._seconds:
            self._kinds[kind] = told, n_untold + 1
            return
        more = f" ({n_untold} more like this since the last time it was told)" if n_untold else ""
        self._log.log(level, "%s%s", text, more)
        self._kinds[kind] = now, 0


class Acceptor:
    """Takes the connections of a listening socket.

    Where the process has no descriptors left, it waits for half a second: trying again at once would only burn the
    processor.

    Args:
        listener: the socket; it becomes non-blocking.
        take: gets each connection and the address of its other end.
        has_room: says whether there is room for one more; those that come meanwhile wait.
        at_once: how many are taken before others have their turn.
    """

    def __init__(
        self,
        listener: socket.socket,
        take: Callable[[socket.socket, Any], None],
        has_room: Callable[[], bool] = lambda: True,
        at_once: int = 64,
    ) -> None:
        self._listener = listener
        self._take = take
        self._has_room = has_room
        self._at_once = at_once
        self._seldom = Seldom(logger)
        self._loop: asyncio.AbstractEventLoop | None = None

    def open(self) -> None:
        """Begin, in the running event loop."""
        self._loop = asyncio.get_running_loop()
        self._listener.setblocking(False)
        self._loop.add_reader(self._listener, self._accept)

    def close(self) -> None:
        """End; the socket itself stays open."""
        if self._loop is not None:
            self._loop.remove_reader(self._listener)
            self._loop = None

    def _accept(self) -> None:
        for _ in range(self._at_once):
            if self._loop is None:
                return
            if not self._has_room():
                self._pause(_WAIT_SECONDS)
                return
            try:
                connection, address = self._listener.accept()
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno not in _GONE:
                    self._seldom.warning("accept", f"connections cannot be taken now, they wait: {error}")
                    self._pause(_PAUSE_SECONDS)
                    return
            else:
                self._take(connection, address)

    def _pause(self, seconds: float) -> None:
        assert self._loop is not None
        self._loop.remove_reader(self._listener)
        self._loop.call_later(seconds, self._resume)

    def _resume(self) -> None:
        if self._loop is not None and self._listener.fileno() >= 0:
            self._loop.add_reader(self._listener, self._accept)
