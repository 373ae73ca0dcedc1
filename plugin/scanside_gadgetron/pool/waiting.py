"""Telling somebody that a scan waits for a worker."""

from __future__ import annotations

import socket
import struct
from contextlib import suppress

from scanside.errors import StreamError
from scanside.mrd.messages import MessageId, Text
from scanside.mrd.writer import encode
from scanside_gadgetron.pool.channel import Waits
from scanside_gadgetron.pool.visitor import Visitor

__all__ = ["tell_place"]

_CONFIG_FILE = struct.pack("<H", MessageId.CONFIG_FILE)


def tell_place(visitor: Visitor, n_before: int, *, encrypted: bool) -> None:
    """Say how many scans are before a new one, to those who can hear it.

    A node hears it through its channel. An MRD host, which one knows by its configuration's being a name, hears it
    as text. Who sends a configuration of its own may be Gadgetron, whose chains end at the first text; and where the
    connection is encrypted, only a worker can speak.

    Args:
        visitor: of whom nothing but the first bytes has been looked at, and to whom nothing was said.
        n_before: scans that wait as well.
        encrypted: whether the server takes encrypted connections only.
    """
    if visitor.node is not None:
        with suppress(StreamError):  # a node that is gone is found elsewhere
            visitor.node.send(Waits(before=n_before), wait=False)
    elif not encrypted and _begins_with_a_name(visitor.socket):
        text = f"Scanside: all workers are busy, this scan waits for one of them, {n_before} before it"
        with suppress(OSError):  # likewise
            # Nothing has been sent yet, so there is room for all of it.
            visitor.socket.send(encode(Text(text)), socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)


def _begins_with_a_name(sock: socket.socket) -> bool:
    try:
        return sock.recv(2, socket.MSG_PEEK | socket.MSG_DONTWAIT) == _CONFIG_FILE
    except OSError:
        return False
