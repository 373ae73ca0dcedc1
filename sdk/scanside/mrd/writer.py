"""Writes MRD messages to a stream."""

from __future__ import annotations

import time
from threading import Lock

import numpy as np

from scanside.errors import MessageError, PeerSilent, StreamError
from scanside.mrd.encoding import pieces
from scanside.mrd.messages import (
    Bucket,
    Close,
    ErrorText,
    ImageArray,
    ImageMessage,
    Message,
    Readouts,
    ReconData,
    Waveform,
)
from scanside.mrd.peers import Peer
from scanside.mrd.streams import ByteStream

__all__ = ["MessageWriter", "encode"]

_GADGETRON_TAKES = (Readouts, Waveform, ImageMessage, ImageArray, ReconData, Bucket, ErrorText, Close)


class MessageWriter:
    """Writes one message after the other; several threads may write, each message stays whole.

    Args:
        stream: where the bytes go.
        peer: who listens. A message that Gadgetron would answer by tearing down its chain is not sent to it.

    Attributes:
        peer: as given; may change as long as nothing was written.
    """

    def __init__(self, stream: ByteStream, peer: Peer = "mrd") -> None:
        self._stream = stream
        self.peer = peer
        self._lock = Lock()
        self._cut_short = False

    def write(self, *messages: Message, deadline: float | None = None) -> None:
        """Send messages, with nothing of another thread's between them.

        Args:
            messages: what to send.
            deadline: value of `time.monotonic` until which to wait, or None for the stream's own limit.

        Raises:
            MessageError: a message's parts do not agree, or the peer does not take it; nothing of that
                message was sent.
            PeerGone: the connection broke.
            PeerSilent: the peer took nothing in time.
            StreamError: an earlier message was cut short, so the peer would not understand this one.
        """
        patience = -1 if deadline is None else max(0.0, deadline - time.monotonic())
        if not self._lock.acquire(timeout=patience):
            raise PeerSilent("the peer does not take the message that another thread is sending")
        try:
            for message in messages:
                self._write(message, deadline)
        finally:
            self._lock.release()

    def _write(self, message: Message, deadline: float | None) -> None:
        if self.peer == "gadgetron":
            _check_gadgetron_takes(message)
        if self._cut_short:
            raise StreamError("cannot send: an earlier message was cut short")
        parts = pieces(message)
        # A block of readouts is assembled a piece at a time, so that a large one is not in memory twice.
        batches = ([part] for part in parts) if isinstance(message, Readouts) else [list(parts)]
        self._cut_short = True
        for batch in batches:
            self._stream.send(*batch, deadline=deadline)
        self._cut_short = False


def _check_gadgetron_takes(message: Message) -> None:
    if not isinstance(message, _GADGETRON_TAKES):
        raise MessageError(
            f"Gadgetron ends its chain when a node sends {type(message).__name__}; it takes "
            + ", ".join(kind.__name__ for kind in _GADGETRON_TAKES)
        )
    if isinstance(message, ImageMessage) and message.data.dtype == np.int16:
        raise MessageError(
            "Gadgetron takes no images of int16 samples from a node; convert them to uint16, int32 or float32"
        )


def encode(*messages: Message) -> bytes:
    """The bytes of messages, one after the other.

    Raises:
        MessageError: the parts of a message do not agree.
    """
    return b"".join(part for message in messages for part in pieces(message))
