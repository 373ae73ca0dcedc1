"""Joins the parts: events in, a web server out, each in a thread of its own."""

from __future__ import annotations

import asyncio
import logging
import queue
import socket
import tempfile
import threading
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from time import monotonic, sleep
from typing import TYPE_CHECKING

import uvicorn

from scanside.errors import ConfigError
from scanside.scratch import ScratchFolder
from scanside_gadgetron.monitor.app import MonitorApp
from scanside_gadgetron.monitor.config import PICTURES, MonitorConfig
from scanside_gadgetron.monitor.contract import PoolState, Subscribe
from scanside_gadgetron.monitor.entrance import Entrance
from scanside_gadgetron.monitor.metrics import Metrics
from scanside_gadgetron.monitor.state import LiveState
from scanside_gadgetron.pool.events import Event

if TYPE_CHECKING:
    from scanside_gadgetron.monitor.tracing import Tracing

__all__ = ["Monitor"]

logger = logging.getLogger(__name__)

_MOST_EVENTS = 10_000
_START_SECONDS = 60.0
_STOP_SECONDS = 10.0
_SILENT_CLIENT_MS = 30_000
_IDLE_SECONDS = 10.0
"""How long a connection may take to ask for something."""


class Monitor:
    """Watches a pool and shows it; see `scanside_gadgetron.monitor.start_monitor`.

    Events are taken from the pool at once and worked on in a thread of the monitor's own, so that neither a slow
    disk nor a fault here can hold up a session. What that thread is too slow for is dropped and counted.

    Args:
        subscribe: see `Subscribe`.
        state: the pool.
        config: settings.
        most_connections: to the page, at once.

    Raises:
        ConfigError: the address cannot be listened on, or others could look without a token.
        MissingExtra: traces are asked for, and the extra ``tracing`` is not installed.
    """

    def __init__(
        self, subscribe: Subscribe, state: PoolState, config: MonitorConfig, most_connections: int
    ) -> None:
        config.check()
        self._tracing = _tracing() if config.tracing else None
        with ExitStack() as undo:
            self._folder = _live_folder(config.folder)
            undo.callback(self._folder.remove)
            self._listener = _listen(config.host, config.port)
            undo.callback(self._listener.close)
            self._start(state, config, most_connections)
            undo.pop_all()
        subscribe(self._put)
        logger.info("live page at %s", self.url)

    def _start(self, state: PoolState, config: MonitorConfig, most_connections: int) -> None:
        self._address: tuple[str, int] = self._listener.getsockname()[:2]
        self._live = LiveState(self._folder.path, config.keep_sessions, config.keep_images)
        self._metrics = Metrics(self._live, state)
        self._takers: list[Callable[[Event], None]] = [self._live.take, self._metrics.take]
        if self._tracing is not None:
            self._takers.append(self._tracing.take)
        token = None if config.token is None else config.token.get_secret_value()
        self._app = MonitorApp(self._live, state, self._metrics, token=token, names=(config.host,))
        settings = uvicorn.Config(
            self._app.asgi,
            loop="asyncio",
            http="h11",
            ws="none",
            lifespan="off",
            log_config=None,
            log_level="critical",  # what goes wrong in a request is logged by the application
            access_log=False,
            proxy_headers=False,
            server_header=False,
            timeout_graceful_shutdown=3,
        )
        self._server = uvicorn.Server(settings)
        self._entrance = Entrance(
            self._listener,
            settings,
            self._server.server_state,
            most=most_connections,
            idle_seconds=_IDLE_SECONDS,
        )
        self._stopped = threading.Event()
        self._inbox: queue.Queue[Event | None] = queue.Queue(_MOST_EVENTS)
        self._threads = [
            threading.Thread(target=self._take_all, name="scanside-monitor", daemon=True),
            threading.Thread(
                target=lambda: asyncio.run(self._serve()), name="scanside-monitor-web", daemon=True
            ),
        ]
        for thread in self._threads:
            thread.start()
        self._wait_until_started()

    @property
    def url(self) -> str:
        """Where a browser finds the page."""
        host, port = self._address
        return f"http://[{host}]:{port}/" if ":" in host else f"http://{host}:{port}/"

    @property
    def port(self) -> int:
        """Where it listens."""
        return self._address[1]

    def session_folder(self, session: str) -> Path:
        """Where the worker of a session puts its pictures; it makes the folder itself.

        Raises:
            FileFormatError: that is no session's id.
        """
        return self._live.session_folder(session)

    def stop(self) -> None:
        """Show what came so far no longer, and remove it. Once more does nothing."""
        if self._stopped.is_set():
            return
        self._stopped.set()
        self._app.feed.stop()
        self._server.should_exit = True
        self._inbox.put(None)
        for thread in self._threads:
            thread.join(_STOP_SECONDS)
        if self._tracing is not None:
            self._tracing.stop()
        self._listener.close()
        self._folder.remove()

    def _wait_until_started(self) -> None:
        deadline = monotonic() + _START_SECONDS
        while not self._server.started:
            if monotonic() > deadline or not self._threads[1].is_alive():
                raise ConfigError(f"the live page at {self.url} did not start; the log may say why")
            sleep(0.01)

    async def _serve(self) -> None:
        self._entrance.open()
        try:
            await self._server.serve(sockets=[])
        finally:
            self._entrance.close()

    def _put(self, event: Event) -> None:
        if self._stopped.is_set():
            return
        try:
            self._inbox.put_nowait(event)
        except queue.Full:
            self._metrics.dropped.inc()

    def _take_all(self) -> None:
        while (event := self._inbox.get()) is not None:
            for take in self._takers:
                try:
                    take(event)
                except Exception:  # showing must go on with the next event
                    logger.exception("the monitor could not take an event of kind '%s'", event.kind)


def _live_folder(parent: Path | None) -> ScratchFolder:
    """A folder for the pictures of one server's life."""
    try:
        return ScratchFolder(PICTURES, parent)
    except OSError as error:
        raise ConfigError(
            f"the live page cannot keep pictures in {parent or tempfile.gettempdir()}: {error}; name another folder"
        ) from error


def _tracing() -> Tracing:
    from scanside_gadgetron.monitor.tracing import Tracing

    return Tracing()


def _listen(host: str, port: int) -> socket.socket:
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.create_server(address[:2], family=family, backlog=64)
    except OSError as error:
        raise ConfigError(
            f"the live page cannot listen on {host}, port {port}: {error}; take another port, or 0 for any free one"
        ) from error
    # Connections inherit this: one whose other end takes nothing for so long is closed by the system.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _SILENT_CLIENT_MS)
    return listener
