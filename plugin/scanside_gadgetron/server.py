"""A server that Gadgetron's ``<connect>`` and MRD hosts talk to, with pipelines that stay loaded."""

from __future__ import annotations

import errno
import logging
import select
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from time import monotonic
from types import TracebackType

from scanside.errors import ConfigError
from scanside.mrd.streams import SocketStream
from scanside.serving import DEFAULT_PIPELINE, DRAIN_SECONDS, PipelinePool, serve_stream
from scanside_gadgetron.settings import Settings

__all__ = ["Address", "MrdServer", "serve"]

logger = logging.getLogger(__name__)

Address = tuple[str, int]
"""Host and port."""

_TRIES = 20
_KEEP_ALIVE = {"TCP_KEEPIDLE": 60, "TCP_KEEPINTVL": 15, "TCP_KEEPCNT": 4}


class MrdServer:
    """Listens, and runs one thread for each session; a context manager that listens while it is open.

    A session that fails ends itself and no other. Hosts that come while all places are taken wait in the queue of
    the operating system.

    Args:
        pipelines: where the sessions' pipelines come from.
        host: address or name. A name is listened on in all its families: Gadgetron tries only the first address
            that a name resolves to. It is loopback unless told otherwise: there is no access control.
        port: 0 for any free one.
        max_sessions: how many run at once.
        opening_seconds: how long a host may take to send configuration and header.
        send_seconds: how long a host may take no result before it counts as hung.
        drain_seconds: see `run_session`.

    Raises:
        ConfigError: the host is not known, or the port is taken.
    """

    def __init__(
        self,
        pipelines: PipelinePool,
        host: str = "127.0.0.1",
        port: int = 9002,
        *,
        max_sessions: int = 2,
        opening_seconds: float = 60.0,
        send_seconds: float = 120.0,
        drain_seconds: float = DRAIN_SECONDS,
    ) -> None:
        self._pipelines = pipelines
        self._opening_seconds = opening_seconds
        self._send_seconds = send_seconds
        self._drain_seconds = drain_seconds
        self._listeners = _listen(host, port)
        self._addresses: list[Address] = [listener.getsockname()[:2] for listener in self._listeners]
        self._places = threading.Semaphore(max_sessions)
        self._wake, self._woken = socket.socketpair()
        self._stopping = threading.Event()
        self._lock = threading.Lock()
        self._running: dict[threading.Thread, SocketStream] = {}
        self._thread = threading.Thread(target=self._accept_all, name="scanside-server", daemon=True)

    @property
    def addresses(self) -> list[Address]:
        """Where it listens; more than one for a name with several addresses, all with the same port."""
        return list(self._addresses)

    @property
    def port(self) -> int:
        """The port."""
        return self._addresses[0][1]

    def start(self) -> None:
        """Begin to take sessions."""
        self._thread.start()

    def stop(self, grace_seconds: float = 30.0) -> None:
        """Take no more sessions, let those that run finish, and cut off what is not done in time."""
        self._stopping.set()
        self._wake.send(b"\0")
        self._places.release()
        if self._thread.is_alive():
            self._thread.join()
        deadline = monotonic() + grace_seconds
        for thread in self._sessions():
            thread.join(max(0.0, deadline - monotonic()))
        with self._lock:
            left = dict(self._running)
        for stream in left.values():
            logger.warning("the server stops: a session is cut off")
            stream.shutdown()
        for thread in left:
            thread.join(5.0)
        for one in (*self._listeners, self._wake, self._woken):
            one.close()

    def __enter__(self) -> MrdServer:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop(0.0 if kind else 30.0)

    def _sessions(self) -> list[threading.Thread]:
        with self._lock:
            return list(self._running)

    def _accept_all(self) -> None:
        while True:
            self._places.acquire()
            accepted = self._accept()
            if accepted is None:
                return
            sock, peer = accepted
            stream = SocketStream(sock, self._opening_seconds, self._send_seconds)
            thread = threading.Thread(
                target=self._session, args=(stream, peer), name=f"scanside-session-{peer}", daemon=True
            )
            with self._lock:
                self._running[thread] = stream
            thread.start()

    def _accept(self) -> tuple[socket.socket, str] | None:
        """The next connection and who it is; None when the server stops."""
        while not self._stopping.is_set():
            ready, _, _ = select.select([*self._listeners, self._woken], [], [])
            for listener in ready:
                if listener is self._woken:
                    continue
                try:
                    sock, address = listener.accept()
                except OSError as error:
                    # The host left before it was served, or this process has no descriptors left.
                    logger.warning("a connection could not be taken: %s", error)
                    continue
                _keep_alive(sock)
                return sock, f"{address[0]}:{address[1]}"
        return None

    def _session(self, stream: SocketStream, peer: str) -> None:
        try:
            logger.info("%s connected", peer)
            self._run(stream)
        except Exception:  # one session must not end the server
            logger.exception("the session with %s failed", peer)
        finally:
            stream.close()
            with self._lock:
                del self._running[threading.current_thread()]
            self._places.release()

    def _run(self, stream: SocketStream) -> None:
        def opened() -> None:
            # A scanner may pause; only until it has said what it wants is it held to a time.
            stream.timeout = None

        serve_stream(stream, self._pipelines, drain_seconds=self._drain_seconds, opened=opened)


def serve(
    host: str = "127.0.0.1",
    port: int = 9002,
    *,
    pipeline: str | Path = DEFAULT_PIPELINE,
    max_sessions: int = 2,
    settings: Settings | None = None,
    on_ready: Callable[[list[Address]], None] | None = None,
) -> None:
    """Listen until the process is asked to end (SIGINT, SIGTERM), then let running sessions finish.

    Args:
        host: see `MrdServer`.
        port: 0 for any free one.
        pipeline: name or file, for sessions that ask for none. It is prepared before the first session.
        max_sessions: how many run at once.
        settings: device, noise store and folder of own pipelines; None reads them from the environment.
        on_ready: called with the addresses once sessions are taken.

    Raises:
        ConfigError: the host is not known, or the port is taken.
        PipelineError: there is no such pipeline, or it cannot be loaded.
        MissingExtra: a package that the pipeline needs is not installed.
        StageError: a stage of the pipeline cannot be prepared.
    """
    settings = settings or Settings.from_environment()
    pipelines = PipelinePool(settings.context(), default=pipeline, folder=settings.pipelines)
    pipelines.warm_up()
    with _asked_to_end() as asked, MrdServer(pipelines, host, port, max_sessions=max_sessions) as server:
        logger.info("listening on %s", server.addresses)
        if on_ready is not None:
            on_ready(server.addresses)
        asked.wait()
        logger.info("asked to end: running sessions may finish")


@contextmanager
def _asked_to_end() -> Iterator[threading.Event]:
    """An event that SIGINT and SIGTERM set. Only the main thread can see to that: in others it stays unset."""
    asked = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield asked
        return
    before = {
        number: signal.signal(number, lambda *_: asked.set()) for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        yield asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _keep_alive(sock: socket.socket) -> None:
    """Notice a host that vanished without a word, which would hold its place for ever."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in _KEEP_ALIVE.items():
        if hasattr(socket, name):
            sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)


def _listen(host: str, port: int) -> list[socket.socket]:
    """A listening socket for every address of a host, all on one port."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except socket.gaierror as error:
        raise ConfigError(f"there is no host '{host}' to listen on: {error}") from error
    # A free port of one address may be taken on another: then the next is tried.
    for _ in range(_TRIES if port == 0 else 1):
        listeners, problem = _bind_all([(family, address) for family, _, _, _, address in found], port)
        if listeners:
            return listeners
    raise ConfigError(
        f"cannot listen on {host}, port {port}: {problem}; take another port, or 0 for any free one"
    )


def _bind_all(
    addresses: list[tuple[int, tuple[str, int] | tuple[str, int, int, int] | tuple[int, bytes]]], port: int
) -> tuple[list[socket.socket], OSError | None]:
    """Bind all addresses to one port, leaving out families that this machine does not have."""
    problem: OSError | None = None
    with ExitStack() as undo:
        listeners: list[socket.socket] = []
        for family, address in addresses:
            listener = undo.enter_context(socket.socket(family, socket.SOCK_STREAM))
            try:
                listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                if family == socket.AF_INET6:
                    listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
                listener.bind((address[0], port, *address[2:]))
                listener.listen()
            except OSError as error:
                problem = error
                if error.errno in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT):
                    listener.close()
                    continue
                return [], problem
            port = listener.getsockname()[1]
            listeners.append(listener)
        undo.pop_all()
        return listeners, problem
