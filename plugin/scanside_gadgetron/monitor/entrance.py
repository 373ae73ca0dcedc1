"""The live page's connections: how many there may be, and how long one may say nothing.

Whoever asks whether the server lives must be answered however many others hold connections open. So none is turned
away: where there are too many, the one goes that has said nothing for longest. One that has just come, or whose words
are still to be read, is not idle.
"""

from __future__ import annotations

import asyncio
import socket
from time import monotonic
from typing import Any

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.server import ServerState

from scanside_gadgetron.pool.accept import Acceptor

__all__ = ["Entrance"]

_YOUNG_SECONDS = 0.1
"""How long somebody who has just come may take to say a first word before another comes instead."""


class Entrance:
    """Takes connections and gives each to a protocol of uvicorn's.

    Args:
        listener: the socket.
        config: of uvicorn.
        state: of the server that is to end them.
        most: connections at once.
        idle_seconds: how long one may take to ask for something, from its beginning and after each answer.
    """

    def __init__(
        self,
        listener: socket.socket,
        config: uvicorn.Config,
        state: ServerState,
        *,
        most: int,
        idle_seconds: float,
    ) -> None:
        self._config = config
        self._state = state
        self._most = most
        self._idle_seconds = idle_seconds
        # One at a time: room is made only where somebody waits for it.
        self._acceptor = Acceptor(listener, self._take, self._has_room, at_once=1)
        self._open: dict[_Connection, None] = {}
        """Those that have said nothing for longest come first."""
        self._starting: set[asyncio.Task[Any]] = set()

    def open(self) -> None:
        """Begin, in the running event loop."""
        self._config.load()
        self._acceptor.open()

    def close(self) -> None:
        """Take no more."""
        self._acceptor.close()

    @property
    def n_open(self) -> int:
        """How many connections there are."""
        return len(self._open)

    def _has_room(self) -> bool:
        """Whether there is room for one more, if need be once another has gone."""
        if len(self._open) < self._most:
            return True
        now = monotonic()
        old = [one for one in self._open if now - one.since > _YOUNG_SECONDS]
        found = next((one for one in old if one.is_idle), None) or next(iter(old), None)
        if found is None:
            return False
        self.forget(found)
        found.end()
        return True

    def _take(self, sock: socket.socket, _: Any) -> None:
        connection = _Connection(self, sock, self._config, self._state, self._idle_seconds)
        self._open[connection] = None
        sock.setblocking(False)
        task = asyncio.ensure_future(
            asyncio.get_running_loop().connect_accepted_socket(lambda: connection, sock)
        )
        self._starting.add(task)
        task.add_done_callback(self._started)

    def _started(self, task: asyncio.Task[Any]) -> None:
        self._starting.discard(task)
        if not task.cancelled():
            task.exception()  # whoever has left again is none that has to be told of

    def forget(self, connection: _Connection) -> None:
        """A connection is no more."""
        self._open.pop(connection, None)

    def heard(self, connection: _Connection) -> None:
        """A connection has asked for something: others have been silent for longer."""
        if connection in self._open:
            del self._open[connection]
            self._open[connection] = None


class _Connection(H11Protocol):
    """One connection, which has to say something in time.

    Args:
        entrance: where it came in.
        sock: its socket.
        config: of uvicorn.
        state: of the server that is to end it.
        idle_seconds: see `Entrance`.
    """

    def __init__(
        self,
        entrance: Entrance,
        sock: socket.socket,
        config: uvicorn.Config,
        state: ServerState,
        idle_seconds: float,
    ) -> None:
        super().__init__(config, state, {})
        self.since = monotonic()
        self._entrance = entrance
        self._sock = sock
        self._idle_seconds = idle_seconds
        self._deadline: asyncio.TimerHandle | None = None
        self._dropped = False

    @property
    def is_idle(self) -> bool:
        """Whether nothing is being answered, and nothing waits to be read."""
        return self._is_answered and not self._has_words

    @property
    def _is_answered(self) -> bool:
        return self.cycle is None or self.cycle.response_complete

    @property
    def _has_words(self) -> bool:
        try:
            return bool(self._sock.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT))
        except OSError:
            return False

    def end(self) -> None:
        """Close it, whatever it does."""
        self._dropped = True
        if self.transport is not None:
            self.transport.abort()

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """See `asyncio.Protocol`."""
        super().connection_made(transport)
        if self._dropped:
            transport.abort()
        self._wait_for_request()

    def connection_lost(self, exc: Exception | None) -> None:
        """See `asyncio.Protocol`."""
        self._wait_no_longer()
        self._entrance.forget(self)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """See `asyncio.Protocol`. Bytes that are no whole request yet win no time."""
        super().data_received(data)
        if not self._is_answered:
            self._wait_no_longer()
            self._entrance.heard(self)

    def on_response_complete(self) -> None:
        """See `H11Protocol`."""
        super().on_response_complete()
        if self._is_answered:  # the next request may have been there already
            self._wait_for_request()

    def _wait_for_request(self) -> None:
        self._wait_no_longer()
        self._deadline = self.loop.call_later(self._idle_seconds, self.end)

    def _wait_no_longer(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None
