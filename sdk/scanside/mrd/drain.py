"""Hear a peer out without keeping what it says."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable

from scanside.errors import EndOfStream, IncompleteRead, PeerSilent, StreamError
from scanside.mrd.encoding import pieces
from scanside.mrd.messages import Close
from scanside.mrd.reader import MessageReader

__all__ = ["drain"]

_log = logging.getLogger(__name__)

_CLOSE = b"".join(pieces(Close()))

_QUIET_SECONDS = 0.5
"""How long nothing must follow two bytes that look like CLOSE in a damaged stream."""

_LEAST_BYTES = 1 << 16
"""What has to come for a peer not to count as quiet: whoever sends a byte now and then sends no scan."""


def drain(reader: MessageReader, deadline: float, quiet_seconds: float = math.inf) -> bool:
    """Drop everything that comes until the peer's CLOSE. It never raises because of what comes.

    In a stream that cannot be told into messages any more, CLOSE is two bytes that look like it and silence.

    Args:
        reader: reads from the peer.
        deadline: value of `time.monotonic` at which to stop, whatever still comes.
        quiet_seconds: how long next to nothing may come: whoever waits for an answer is not waited for.

    Returns:
        Whether the peer may still be listening: False if the connection broke.
    """
    patience = _Patience(reader, deadline, quiet_seconds)
    closed = False
    # What limits a stream says so once, perhaps only now: then the bytes after it are dropped like those before.
    for drop in (_drain_messages, _drain_bytes, _drain_bytes):
        try:
            closed = drop(reader, patience.until)
            break
        except (EndOfStream, IncompleteRead):
            # It will not say CLOSE any more, but whoever has only ended writing still reads.
            return True
        except PeerSilent:
            break
        except StreamError as error:
            _log.info("the connection broke while the rest of the input was dropped: %s", error)
            return False
        except Exception as error:  # noqa: BLE001 — damaged or too much: whatever it is, the peer is heard out
            _log.debug("the rest of the input is not looked at: %s", error)
    if not closed:
        _log.warning("the peer has not closed its input in time")
    return True


class _Patience:
    """How long a peer is waited for."""

    def __init__(self, reader: MessageReader, deadline: float, quiet_seconds: float) -> None:
        self._reader = reader
        self._deadline = deadline
        self._quiet_seconds = quiet_seconds
        self._position = reader.position
        self._quiet_at = time.monotonic() + quiet_seconds

    def until(self) -> float:
        """Value of `time.monotonic` until which to wait for the next bytes."""
        if self._reader.position >= self._position + _LEAST_BYTES:
            self._position = self._reader.position
            self._quiet_at = time.monotonic() + self._quiet_seconds
        return min(self._deadline, self._quiet_at)


def _drain_messages(reader: MessageReader, until: Callable[[], float]) -> bool:
    """Drop messages; whether CLOSE came in time."""
    while time.monotonic() < (deadline := until()):
        if isinstance(reader.read(deadline), Close):
            return True
    return False


def _drain_bytes(reader: MessageReader, until: Callable[[], float]) -> bool:
    """Drop bytes; whether the end, or what looks like CLOSE, came in time."""
    last = b""
    while (now := time.monotonic()) < (deadline := until()):
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
