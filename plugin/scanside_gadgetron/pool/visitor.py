"""A connection on its way to a worker."""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass, field
from time import monotonic

from scanside_gadgetron.pool.channel import Channel

__all__ = ["Visitor"]


@dataclass(eq=False)
class Visitor:
    """A connection, and what is known of it.

    Attributes:
        session: id of its session.
        socket: the connection.
        peer: who is at the other end.
        opening: a file of CONFIG and HEADER, where a node has read them.
        node: the node that handed it over and lives until the session is over.
        since: when it came, by `time.monotonic`.
        ended: what became of its session, once that is known.
    """

    session: str
    socket: socket.socket
    peer: str
    opening: int | None = None
    node: Channel | None = None
    since: float = field(default_factory=monotonic)
    ended: str = ""

    @property
    def handed_over(self) -> bool:
        """Whether a node handed it over."""
        return self.opening is not None

    @property
    def descriptors(self) -> tuple[int, ...]:
        """What a worker needs."""
        return (self.socket.fileno(), *(() if self.opening is None else (self.opening,)))

    def release(self) -> None:
        """Close this process's copies; the worker's stay. The node's channel stays open."""
        self.socket.close()
        if self.opening is not None:
            os.close(self.opening)
