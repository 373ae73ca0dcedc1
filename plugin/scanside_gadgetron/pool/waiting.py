"""Telling somebody that a scan waits for a worker."""

from __future__ import annotations

import socket
from contextlib import suppress

from scanside.errors import StreamError
from scanside.mrd.messages import Text
from scanside.mrd.peers import peer_by_first_bytes
from scanside.mrd.writer import encode
from scanside_gadgetron.pool.channel import Waits
from scanside_gadgetron.pool.visitor import Visitor

__all__ = ["tell_place"]

_MOST_BYTES = 16 << 10  # of a configuration; whose it is, longer ones tell to workers only


def tell_place(visitor: Visitor, n_before: int, *, encrypted: bool) -> None:
    """Say how many scans are before a new one, to those who can hear it.

    A node hears it through its channel, an MRD host as text, once it has sent its configuration: Gadgetron's chains
    end at the first text. Where the connection is encrypted, only a worker can speak.

    Args:
        visitor: of whom nothing but the first bytes has been looked at, and to whom nothing was said.
        n_before: scans that wait as well.
        encrypted: whether the server takes encrypted connections only.
    """
    if visitor.node is not None:
        with suppress(StreamError):  # a node that is gone is found elsewhere
            visitor.node.send(Waits(before=n_before), wait=False)
    elif not encrypted and _is_host(visitor.socket):
        text = f"Scanside: all workers are busy, this scan waits for one of them, {n_before} before it"
        with suppress(OSError):  # likewise
            # Nothing has been sent yet, so there is room for all of it.
            visitor.socket.send(encode(Text(text)), socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)


def _is_host(sock: socket.socket) -> bool:
    try:
        first = sock.recv(_MOST_BYTES, socket.MSG_PEEK | socket.MSG_DONTWAIT)
        return bool(first) and peer_by_first_bytes(first) == "mrd"
    except OSError:
        return False
