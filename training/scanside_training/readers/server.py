"""Serves a prepared study to the browsers of this machine."""

from __future__ import annotations

import asyncio
import logging
import socket
import threading
from collections.abc import Sequence
from contextlib import ExitStack
from time import monotonic, sleep
from types import TracebackType

import uvicorn

from scanside.errors import ConfigError
from scanside_training.readers.app import ReaderApp
from scanside_training.readers.journal import AnswerJournal, FolderLock
from scanside_training.readers.readings import LiveReadings
from scanside_training.readers.study import ReaderStudy

__all__ = ["ReaderServer"]

logger = logging.getLogger(__name__)

_HOST = "127.0.0.1"
_START_SECONDS = 60.0
_STOP_SECONDS = 10.0


class ReaderServer:
    """A web server on loopback in a thread of its own; a context manager.

    Args:
        study: that is read.
        readers: who may read now; None for all.
        port: where it listens; 0 for any that is free.

    Raises:
        ConfigError: another server has the study, the port cannot be had, or a reader is none of the study's.
        FileFormatError: the journal is not one of this study.
    """

    def __init__(self, study: ReaderStudy, readers: Sequence[str] | None = None, port: int = 0) -> None:
        self._study = study
        links = {study.link(reader) for reader in readers or study.form.readers}
        with ExitStack() as undo:
            lock = undo.enter_context(FolderLock(study.folder))
            app = ReaderApp(study, LiveReadings(study, AnswerJournal(study.folder)), links)
            self._listener = undo.enter_context(_listen(port))
            self._server = uvicorn.Server(
                uvicorn.Config(
                    app.asgi,
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
            )
            self._thread = threading.Thread(target=self._serve, name="scanside-readers", daemon=True)
            self._lock = lock
            self._thread.start()
            self._wait_until_started()
            undo.pop_all()

    @property
    def port(self) -> int:
        """Where it listens."""
        port: int = self._listener.getsockname()[1]
        return port

    def address(self, reader: str) -> str:
        """The link of a reader.

        Raises:
            ConfigError: there is no such reader.
        """
        return f"http://{_HOST}:{self.port}/r/{self._study.link(reader)}/"

    @property
    def is_running(self) -> bool:
        """Whether it answers."""
        return self._thread.is_alive()

    def __enter__(self) -> ReaderServer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """Answer no longer, and let others have the study."""
        self._server.should_exit = True
        self._thread.join(_STOP_SECONDS)
        self._listener.close()
        self._lock.release()

    def _serve(self) -> None:
        asyncio.run(self._server.serve(sockets=[self._listener]))

    def _wait_until_started(self) -> None:
        deadline = monotonic() + _START_SECONDS
        while not self._server.started:
            if monotonic() > deadline or not self._thread.is_alive():
                raise ConfigError(f"the page of the reader study did not start on port {self.port}")
            sleep(0.01)


def _listen(port: int) -> socket.socket:
    try:
        return socket.create_server((_HOST, port), backlog=64)
    except (OSError, OverflowError) as error:
        raise ConfigError(
            f"the reader study cannot be served on {_HOST}, port {port}: {error}; take another port, or 0 for any "
            "free one"
        ) from error
