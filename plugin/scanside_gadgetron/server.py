"""A server that Gadgetron's ``<connect>`` and MRD hosts talk to, with a pool of warm workers."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import threading
from collections.abc import Callable, Coroutine, Iterator, Sequence
from concurrent.futures import wait
from contextlib import contextmanager
from dataclasses import dataclass, field
from queue import SimpleQueue
from types import FrameType, TracebackType
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from scanside.errors import ScansideError
from scanside.recording import Recorder
from scanside.scratch import remove_left_folders
from scanside_gadgetron.monitor.config import PICTURES
from scanside_gadgetron.pool.events import Event
from scanside_gadgetron.pool.listen import Address
from scanside_gadgetron.pool.pool import Pool
from scanside_gadgetron.pool.process import COMMAND
from scanside_gadgetron.settings import ServerConfig, is_loopback

if TYPE_CHECKING:
    from scanside_gadgetron.monitor.monitor import Monitor

__all__ = ["Server", "serve"]

logger = logging.getLogger(__name__)

T = TypeVar("T")

_Asked = Literal["stop", "reload"]

_LOOK_SECONDS = 0.1
"""Between looks at whether to give up, while workers get ready."""


class Server:
    """A pool with an event loop in a thread of its own, and its live page; a context manager that serves while it is
    open.

    Args:
        config: settings.
        command: starts a worker; see `Pool`.

    Raises:
        ConfigError: the address cannot be listened on, or the settings let others in without saying whom.
        PipelineError: a pipeline that is to be ready does not exist.
        MissingExtra: the live page is asked for, and its packages are not installed.
    """

    def __init__(self, config: ServerConfig, command: Sequence[str] = COMMAND) -> None:
        self._pool = Pool(config, command)
        self._config = config
        self._monitor: Monitor | None = None
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="scanside-server", daemon=True)

    @property
    def addresses(self) -> list[Address]:
        """Where it listens; more than one for a name with several addresses, all with the same port."""
        return self._pool.addresses

    @property
    def port(self) -> int:
        """The port."""
        return self.addresses[0][1]

    @property
    def pool(self) -> Pool:
        """The workers and what waits for them."""
        return self._pool

    @property
    def monitor_url(self) -> str | None:
        """Where the live page is, if there is one."""
        return None if self._monitor is None else self._monitor.url

    def subscribe(self, callback: Callable[[Event], None]) -> None:
        """See `Pool.subscribe`."""
        self._pool.subscribe(callback)

    def start(self, asked_to_end: Callable[[], bool] = lambda: False) -> bool:
        """Start the workers and wait until they are ready; then take sessions.

        Args:
            asked_to_end: looked at while workers get ready, which can take minutes: whether to give up.

        Returns:
            Whether sessions are taken: if not, it was asked to end, and nothing is left running.

        Raises:
            ConfigError: a worker cannot get ready; says why. Nothing is left running.
        """
        self._thread.start()
        try:
            if self._config.record is not None:
                for entry in Recorder(self._config.record).recover():
                    logger.warning("recording %s was cut off when its process died; it is kept", entry.id)
            if self._config.monitor is None:
                # A server that died may have shown pictures; this one shows none.
                remove_left_folders(PICTURES)
            else:
                from scanside_gadgetron.monitor import start_monitor

                # Before the workers: whoever asks whether the server is ready gets an answer meanwhile.
                self._monitor = start_monitor(
                    self._pool.subscribe,
                    self._pool,
                    self._config.monitor,
                    most_connections=self._pool.shares.page,
                )
                self._pool.session_folder = self._monitor.session_folder
            starting = asyncio.run_coroutine_threadsafe(self._pool.start(), self._loop)
            while not wait([starting], timeout=_LOOK_SECONDS).done:
                if asked_to_end():
                    self.stop(0.0)
                    return False
            starting.result()
        except BaseException:
            self.stop(0.0)
            raise
        return True

    def reload(self, config: ServerConfig) -> None:
        """See `Pool.reload`; waits until the new workers are ready.

        Raises:
            ConfigError: the old workers stay; says why.
        """
        self._call(self._pool.reload(config))

    def stop(self, grace_seconds: float | None = None) -> None:
        """Take no more sessions, let those that run finish, and cut off what is not done in time.

        Args:
            grace_seconds: how long they may take; None for what the settings say.
        """
        self._call(self._pool.stop(grace_seconds))
        if self._monitor is not None:
            self._monitor.stop()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.run_until_complete(self._loop.shutdown_default_executor())
        self._loop.close()

    def __enter__(self) -> Server:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop(0.0 if kind else None)

    def _call(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()


def serve(
    config: ServerConfig,
    *,
    read_again: Callable[[], ServerConfig] | None = None,
    on_ready: Callable[[Server], None] | None = None,
) -> None:
    """Serve until the process is asked to end, then let running sessions finish.

    SIGTERM and SIGINT ask to end; the second one of them cuts off what still runs. While workers are still getting
    ready, which can take minutes, the first one ends it at once. SIGHUP asks to read the settings
    again and to take new workers, with pipelines and bundles as they are then.

    Args:
        config: settings.
        read_again: gives the settings anew; None keeps them.
        on_ready: called once sessions are taken.

    Raises:
        ConfigError: as `Server`.
        PipelineError: as `Server`.
        MissingExtra: as `Server`.
    """
    with _asked() as signals:
        asked = signals.asked
        server = Server(config)
        if not server.start(lambda: signals.to_end):
            logger.info("asked to end before workers were ready")
            return
        logger.info("listening on %s", server.addresses)
        _remark(config)
        if os.getuid() == 0 and not is_loopback(config.host):
            logger.warning("other machines reach this server, and it runs as root: give it a user of its own")
        if server.pool.handover is not None:
            logger.info("nodes hand over at %s", server.pool.handover)
        if on_ready is not None:
            on_ready(server)
        while asked.get() == "reload":
            try:
                again = config if read_again is None else read_again()
                server.reload(again)
                _remark(again)
            except ScansideError as error:
                logger.warning("nothing was reloaded, the server goes on as before: %s", error)
        logger.info("asked to end: running sessions may finish")
        _stop(server, asked)


def _remark(config: ServerConfig) -> None:
    for remark in config.remarks():
        logger.warning("%s", remark)


def _stop(server: Server, asked: SimpleQueue[_Asked]) -> None:
    """Stop; whoever asks a second time does not want to wait."""
    stopping = threading.Thread(target=server.stop, name="scanside-stop")
    stopping.start()
    while stopping.is_alive():
        stopping.join(0.1)
        if not asked.empty() and asked.get() == "stop":
            server.pool.hurry()


@dataclass
class _Signals:
    """What was asked for.

    Attributes:
        asked: in order.
        to_end: whether one of them was to end.
    """

    asked: SimpleQueue[_Asked] = field(default_factory=SimpleQueue)
    to_end: bool = False


@contextmanager
def _asked() -> Iterator[_Signals]:
    """What signals ask for. Only the main thread can hear them: in others nothing comes."""
    signals = _Signals()
    if threading.current_thread() is not threading.main_thread():
        yield signals
        return

    def hear(number: int, _: FrameType | None) -> None:
        # Noted only: an exception from here could strike anywhere, and where locks are taken it would leave them so.
        signals.to_end |= number != signal.SIGHUP
        signals.asked.put("reload" if number == signal.SIGHUP else "stop")

    before = {
        number: signal.signal(number, hear) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    }
    try:
        yield signals
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
