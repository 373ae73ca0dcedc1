"""Hear a peer out without keeping what it says."""

from __future__ import annotations

import logging
import time

from scanside.errors import EndOfStream, IncompleteRead, MessageError, PeerSilent, StreamError
from scanside.mrd.encoding import pieces
from scanside.mrd.messages import Close
from scanside.mrd.reader import MessageReader

__all__ = ["drain"]

_log = logging.getLogger(__name__)

_CLOSE = b"".join(pieces(Close()))

_QUIET_SECONDS = 0.5
"""How long nothing must follow two bytes that look like CLOSE in a damaged stream."""


def drain(reader: MessageReader, deadline: float) -> bool:
    """Drop everything that comes until the peer's CLOSE.

    In a stream that cannot be told into messages any more, CLOSE is two bytes that look like it and silence.

    Args:
        reader: reads from the peer.
        deadline: value of `time.monotonic` at which to stop, whatever still comes.

    Returns:
        Whether the peer may still be listening: False if the connection broke.
    """
    try:
        try:
            closed = _drain_messages(reader, deadline)
        except MessageError:
            closed = _drain_bytes(reader, deadline)
    except (EndOfStream, IncompleteRead):
        # It will not say CLOSE any more, but whoever has only ended writing still reads.
        return True
    except PeerSilent:
        closed = False
    except StreamError as error:
        _log.info("the connection broke while the rest of the input was dropped: %s", error)
        return False
    if not closed:
        _log.warning("the peer has not closed its input in time")
    return True


def _drain_messages(reader: MessageReader, deadline: float) -> bool:
    """Drop messages; whether CLOSE came before the deadline."""
    while time.monotonic() < deadline:
        if isinstance(reader.read(deadline), Close):
            return True
    return False


def _drain_bytes(reader: MessageReader, deadline: float) -> bool:
    """Drop bytes; whether the end, or what looks like CLOSE, came before the deadline."""
    last = b""
    while (now := time.monotonic()) < deadline:
        may_be_close = last == _CLOSE
        try:
            dropped = reader.drop_bytes(min(deadline, now + _QUIET_SECONDS) if may_be_close else deadline)
        except PeerSilent:
            if may_be_close:
                return True
            raise
        if not dropped:
            return True
        last = (last + dropped)[-len(_CLOSE) :]
    return False
