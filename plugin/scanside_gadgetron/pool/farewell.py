"""Telling a host that its scan will not be reconstructed, without a worker.

It never holds anyone up: each host is told by a task of its own, which ends with the host or with its time.
"""

from __future__ import annotations

import asyncio
import logging
import math
import socket
import ssl
from contextlib import suppress
from time import monotonic

from scanside.mrd.messages import Close
from scanside.mrd.peers import Peer, error_message, peer_by_first_bytes
from scanside.mrd.streams import reset_when_closed
from scanside.mrd.writer import encode
from scanside_gadgetron.pool.accept import Seldom

__all__ = ["cut_off", "told", "turned_away"]

_seldom = Seldom(logging.getLogger(__name__))

_CLOSE = encode(Close())
_QUIET_SECONDS = 0.5
"""How long nothing must follow two bytes that look like CLOSE."""

_OPENING_SECONDS = 2.0
"""How long to wait for what tells who is at the other end."""

_LINGER_SECONDS = 5.0
"""How long a host that was told may take to close."""


def cut_off(sock: socket.socket, *, shared: bool = False) -> None:
    """Reset a connection: its peer sees that it broke, and does not take what it got for the whole.

    Args:
        sock: the connection.
        shared: whether another process holds it too; then it ends without CLOSE, and is reset when that one closes.
    """
    reset_when_closed(sock)
    if shared:
        with suppress(OSError):
            sock.shutdown(socket.SHUT_RDWR)
    sock.close()


async def turned_away(
    sock: socket.socket, text: str, tls: ssl.SSLContext | None, drain_seconds: float
) -> bool:
    """Tell a host that has just connected, and close; gives whether it took the text.

    MRD hosts listen while they send, and are told at once. Gadgetron may lose what it is told in the middle of
    sending, so it is heard out first.
    """
    try:
        reader, writer = await _streams(sock, tls)
    except OSError as error:  # which ssl.SSLError is
        _seldom.info("not told", f"a host could not be told that {text}: {error}")
        cut_off(sock)
        return False
    peer, last = await _who(reader)
    return await _tell(reader, writer, text, last, peer, drain_seconds, hear_first=peer == "gadgetron")


async def told(
    sock: socket.socket,
    text: str,
    last: bytes,
    peer: Peer | None,
    drain_seconds: float,
    quiet_seconds: float = math.inf,
) -> bool:
    """Hear a host out whose worker is gone, tell it, and close; gives whether it took the text.

    Args:
        sock: the connection, at the edge between two messages on its way out.
        text: what to say.
        last: the last two bytes that the worker got.
        peer: who is at the other end; None where the worker had not learnt it.
        drain_seconds: how long the host may go on sending.
        quiet_seconds: how long it may send nothing meanwhile.
    """
    try:
        reader, writer = await _streams(sock, None)
    except OSError:
        cut_off(sock)
        return False
    if peer is None:
        peer, came = await _who(reader)
        last = (last + came)[-2:]
    return await _tell(
        reader, writer, text, last, peer, drain_seconds, hear_first=True, quiet_seconds=quiet_seconds
    )


async def _who(reader: asyncio.StreamReader) -> tuple[Peer, bytes]:
    """Who is at the other end, by the first bytes that come, and the last two of these."""
    first, deadline = b"", monotonic() + _OPENING_SECONDS
    with suppress(OSError, asyncio.TimeoutError):
        while peer_by_first_bytes(first) is None:
            piece = await asyncio.wait_for(reader.read(1 << 16), deadline - monotonic())
            if not piece:
                break
            first += piece
    return peer_by_first_bytes(first) or "mrd", first[-2:]


async def _streams(
    sock: socket.socket, tls: ssl.SSLContext | None
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader()
    protocol = asyncio.StreamReaderProtocol(reader)
    limit = None if tls is None else _LINGER_SECONDS
    transport, _ = await loop.connect_accepted_socket(
        lambda: protocol, sock, ssl=tls, ssl_handshake_timeout=limit
    )
    return reader, asyncio.StreamWriter(transport, protocol, reader, loop)


async def _tell(
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    text: str,
    last: bytes,
    peer: Peer,
    drain_seconds: float,
    *,
    hear_first: bool,
    quiet_seconds: float = math.inf,
) -> bool:
    try:
        if hear_first:
            last = await _hear_out(reader, last, drain_seconds, quiet_seconds)
        writer.write(encode(error_message(text, peer), Close()))
        await asyncio.wait_for(writer.drain(), _LINGER_SECONDS)
        if writer.can_write_eof():
            writer.write_eof()
        # Input that nobody has read would turn the end into a reset, which can cost the host the text.
        if not hear_first:
            await _hear_out(reader, last, drain_seconds)
        await _hear_out(reader, b"", _LINGER_SECONDS)
    except (OSError, asyncio.TimeoutError) as error:
        _seldom.info("went away", f"a host went away before it could be told: {error or 'it took nothing'}")
        return False
    finally:
        writer.close()
        rest_taken = await _rest_taken(writer)
    return rest_taken


async def _rest_taken(writer: asyncio.StreamWriter) -> bool:
    """Whether a host takes in time what is left for it; else that is dropped, and its descriptor freed."""
    try:
        await asyncio.wait_for(writer.wait_closed(), _LINGER_SECONDS)
    except asyncio.TimeoutError:
        _seldom.info("went away", "a host could not be told: it took nothing")
        reset_when_closed(writer.get_extra_info("socket"))
        writer.transport.abort()
        return False
    except OSError:  # it closed first, which it may once it was told
        pass
    return True


async def _hear_out(
    reader: asyncio.StreamReader, last: bytes, seconds: float, quiet_seconds: float = math.inf
) -> bytes:
    """Drop what comes until CLOSE, the end, or a time limit; gives the last two bytes.

    Nobody knows where a message begins, so CLOSE is two bytes that look like it and silence.
    """
    deadline = monotonic() + seconds
    while (left := deadline - monotonic()) > 0:
        try:
            patience = min(left, _QUIET_SECONDS if last == _CLOSE else quiet_seconds)
            piece = await asyncio.wait_for(reader.read(1 << 20), patience)
        except asyncio.TimeoutError:
            break
        if not piece:
            break
        last = (last + piece)[-2:]
    return last
