"""The door of a server: who comes in, and who is told that there is no place.

A connection counts only once its host has said something: one that says nothing takes no place in the queue, and no
worker.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import ssl
import stat
from collections.abc import Callable, Coroutine
from itertools import count
from time import time
from typing import Any, Literal

from scanside.errors import MessageError, PeerSilent
from scanside_gadgetron.pool.accept import Acceptor, Seldom
from scanside_gadgetron.pool.channel import Channel, HandOver, Refused, close_all, peer_user
from scanside_gadgetron.pool.descriptors import Shares
from scanside_gadgetron.pool.events import Event, SessionRefused
from scanside_gadgetron.pool.farewell import cut_off, turned_away
from scanside_gadgetron.pool.listen import Allowed, keep_alive
from scanside_gadgetron.pool.visitor import Visitor

__all__ = ["Door"]

logger = logging.getLogger(__name__)

Why = Literal["queue-full", "not-allowed", "stopping", "tls"]

_NODE_SECONDS = 5.0
_REFUSED_DRAIN_SECONDS = 60.0


class Door:
    """Accepts connections of hosts and of nodes.

    Args:
        listeners: of hosts.
        nodes: of nodes that hand over, or None.
        users: whose nodes may.
        enter: takes each connection whose host has said something.
        emit: takes events.
        opening_seconds: how long a host may say nothing.
        shares: how many there may be that are no scans.

    Attributes:
        allowed: hosts that may connect.
        tls: what connections are encrypted with, or None.
    """

    def __init__(
        self,
        listeners: list[socket.socket],
        nodes: socket.socket | None,
        users: frozenset[int],
        enter: Callable[[Visitor], None],
        emit: Callable[[Event], None],
        opening_seconds: float,
        shares: Shares,
    ) -> None:
        self.allowed = Allowed(())
        self.tls: ssl.SSLContext | None = None
        self._acceptors = [Acceptor(one, self._take) for one in listeners]
        if nodes is not None:
            self._acceptors.append(Acceptor(nodes, self._take_node))
        self._users = users
        self._enter = enter
        self._emit = emit
        self._opening_seconds = opening_seconds
        self._shares = shares
        self._seldom = Seldom(logger)
        self._numbers = count(1)
        self._silent: dict[Visitor, asyncio.TimerHandle] = {}
        self._leaving: set[asyncio.Task[Any]] = set()
        self._loop: asyncio.AbstractEventLoop | None = None

    def open(self) -> None:
        """Begin to accept, in the running event loop."""
        self._loop = asyncio.get_running_loop()
        for acceptor in self._acceptors:
            acceptor.open()

    def close(self) -> None:
        """Accept nobody any more; those who have said nothing yet are told."""
        if self._loop is None:
            return
        for acceptor in self._acceptors:
            acceptor.close()
        for visitor in list(self._silent):
            self._forget(visitor)
            self.turn_away(visitor, "stopping")

    async def wait(self, seconds: float) -> None:
        """Wait until everybody who was told something has left."""
        if self._leaving:
            await asyncio.wait(self._leaving, timeout=seconds)
        for task in self._leaving:
            task.cancel()

    def turn_away(self, visitor: Visitor, why: Why, text: str = "") -> None:
        """Tell somebody that there is no place, without holding anyone up."""
        reason = text or {
            "queue-full": "all workers are busy, and as many scans wait as may: send the scan again later, or give "
            "the server more workers or a longer queue",
            "stopping": "the server is being stopped: send the scan again when it runs",
            "not-allowed": "this host may not connect: the server's setting 'allow' says which may",
            "tls": "this server takes encrypted connections only",
        }.get(why, why)
        self._seldom.warning(why, f"{visitor.peer} is turned away: {reason}")
        self._emit(SessionRefused(time=time(), session=visitor.session, peer=visitor.peer, reason=why))
        if visitor.node is not None:
            self.answer_node(visitor.node, Refused(why=reason))
            visitor.release()
        elif why == "not-allowed":
            # Whoever may not connect is owed no answer, and learns nothing about what listens here.
            cut_off(visitor.socket)
        else:
            self._say_goodbye(visitor.socket, f"Scanside: {reason}")

    def later(self, farewell: Coroutine[Any, Any, Any]) -> None:
        """Let a farewell take its time."""
        task = asyncio.ensure_future(farewell)
        self._leaving.add(task)
        task.add_done_callback(self._leaving.discard)

    @staticmethod
    def answer_node(node: Channel, message: Any) -> None:
        """Say the last word to a node."""
        try:
            node.send(message, wait=False)
        except (OSError, MessageError) as error:
            logger.info("a node did not wait for its answer: %s", error)
        node.close()

    def _say_goodbye(self, sock: socket.socket, text: str) -> None:
        if len(self._leaving) >= self._shares.leaving:
            cut_off(sock)
        else:
            self.later(turned_away(sock, text, self.tls, _REFUSED_DRAIN_SECONDS))

    def _take(self, sock: socket.socket, address: Any) -> None:
        keep_alive(sock)
        visitor = Visitor(f"s{next(self._numbers):06d}", sock, f"{address[0]}:{address[1]}")
        if address[0] not in self.allowed:
            self.turn_away(visitor, "not-allowed")
        else:
            self._await_first_byte(visitor)

    def _await_first_byte(self, visitor: Visitor) -> None:
        assert self._loop is not None
        if len(self._silent) >= self._shares.silent:
            self._too_silent(next(iter(self._silent)), "as many hosts say nothing as may")
        timer = self._loop.call_later(self._opening_seconds, self._too_silent, visitor)
        self._silent[visitor] = timer
        self._loop.add_reader(visitor.socket, self._heard, visitor)

    def _forget(self, visitor: Visitor) -> None:
        assert self._loop is not None
        self._silent.pop(visitor).cancel()
        self._loop.remove_reader(visitor.socket)

    def _heard(self, visitor: Visitor) -> None:
        self._forget(visitor)
        try:
            nothing = not visitor.socket.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
        except OSError:
            nothing = True
        if nothing:
            self._seldom.info("probe", f"{visitor.peer} asked whether somebody is there")
            visitor.release()
        else:
            self._enter(visitor)

    def _too_silent(self, visitor: Visitor, why: str = "") -> None:
        self._forget(visitor)
        why = why or f"nothing came for {self._opening_seconds:g} s (limits.opening_seconds)"
        text = f"{why}: a session begins with configuration and header"
        self._seldom.warning("silent", f"{visitor.peer}: {text}")
        self._say_goodbye(visitor.socket, f"Scanside: {text}")

    def _take_node(self, sock: socket.socket, _: Any) -> None:
        user = peer_user(sock)
        if user not in self._users:
            self._seldom.warning("user", f"a node of user {user} may not hand over to this server")
            sock.close()
        elif len(self._leaving) >= self._shares.leaving:
            self._seldom.warning("nodes", "too many nodes connect at once; this one reconstructs by itself")
            sock.close()
        else:
            self.later(self._hear_node(Channel(sock)))

    async def _hear_node(self, node: Channel) -> None:
        """Wait for what a node hands over; it sends it at once."""
        assert self._loop is not None
        loop = self._loop
        node.socket.setblocking(False)
        came = asyncio.Event()
        loop.add_reader(node, came.set)
        try:
            await asyncio.wait_for(came.wait(), _NODE_SECONDS)
        except asyncio.TimeoutError:
            self._seldom.warning("silent node", "a node connected and said nothing")
            node.close()
            return
        finally:
            loop.remove_reader(node)
        try:
            received = node.receive(wait=False)
        except (MessageError, PeerSilent) as error:
            self._seldom.warning("node", f"a node was not understood: {error}")
            received = None
        if received is None:
            node.close()  # it only asked whether somebody is there
            return
        message, descriptors = received
        if not isinstance(message, HandOver) or len(descriptors) != 2 or not _is_socket(descriptors[0]):
            self._seldom.warning("node", "a node handed no connection over")
            close_all(descriptors)
            node.close()
            return
        sock = socket.socket(fileno=descriptors[0])
        peer = f"node {message.pid}"
        self._enter(Visitor(f"s{next(self._numbers):06d}", sock, peer, descriptors[1], node))


def _is_socket(descriptor: int) -> bool:
    return stat.S_ISSOCK(os.fstat(descriptor).st_mode)
