"""The node that Gadgetron executes: ``python -m gadgetron PORT scanside_gadgetron reconstruct``.

gadgetron-python connects, reads configuration and header, and hands its connection over. From then on the session
is ours: its own reading and writing is slow and ends a chain in silence when something fails.
"""

from __future__ import annotations

import fcntl
import logging
import os
import socket
from typing import Any

from scanside.mrd.session import ServerSession
from scanside.mrd.streams import SocketStream
from scanside.serving import DRAIN_SECONDS, Outcome, PipelinePool, node_reader, run_session
from scanside.threads import one_blas_thread, sleep_soon
from scanside_gadgetron.pool.handover import hand_over
from scanside_gadgetron.settings import Settings

__all__ = ["reconstruct", "run_node"]

logger = logging.getLogger(__name__)

SEND_SECONDS = 120.0
"""How long Gadgetron may take nothing before it counts as hung."""


class _Silent:
    """Stands in for the connection's socket: leaving its ``with`` block would send CLOSE once more."""

    def close(self) -> None:
        """The session closes its socket itself."""


def reconstruct(connection: Any) -> None:
    """Run a scan through the pipeline that the node's ``<configuration>`` names; see `scanside.serving.Request`.

    It returns in any case: whatever fails has been reported to Gadgetron by then. Where a pool of warm workers runs
    beside Gadgetron (``scanside serve``), the connection is handed over to it, and this process only waits. Otherwise
    device, noise store and a folder of own pipelines come from the environment; see `Settings`.

    Args:
        connection: a ``gadgetron.external.Connection``, of which nothing but configuration and header has been
            read.
    """
    raw = connection.raw_bytes
    if hand_over(connection.socket.socket, raw.config, raw.header):
        _take_socket(connection).close()
        return
    logger.info("no pool takes this scan: this process runs the pipeline itself")
    sleep_soon()
    settings = Settings.from_environment()
    # A chain's configuration is written by whoever installs it: it may name any file.
    pipelines = PipelinePool(settings.context(), folder=settings.pipelines, any_file=True)
    run_node(connection, pipelines)


def run_node(connection: Any, pipelines: PipelinePool, *, drain_seconds: float = DRAIN_SECONDS) -> Outcome:
    """As `reconstruct`, with pipelines of the caller's choice."""
    stream = SocketStream(_take_socket(connection), send_timeout=SEND_SECONDS)
    try:
        raw = connection.raw_bytes
        session = ServerSession.resume(stream, raw.config, raw.header, reader=node_reader(stream))
        with one_blas_thread():
            return run_session(session, pipelines, drain_seconds=drain_seconds)
    finally:
        stream.close()


def _take_socket(connection: Any) -> socket.socket:
    """Take the socket out of a connection, at a descriptor that no library uses for anything else.

    Gadgetron closes the standard input of its nodes, so the connection is descriptor 0: what reads standard input
    would eat the scan. It moves up, and standard input becomes empty.
    """
    taken: socket.socket = connection.socket.socket
    connection.socket = _Silent()
    moved = socket.socket(fileno=fcntl.fcntl(taken.fileno(), fcntl.F_DUPFD_CLOEXEC, 3))
    descriptor = taken.detach()
    if descriptor == 0:
        empty = os.open(os.devnull, os.O_RDONLY)
        os.dup2(empty, 0)
        os.close(empty)
    else:
        os.close(descriptor)
    return moved
