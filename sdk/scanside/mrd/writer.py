"""Writes MRD messages to a stream."""

from __future__ import annotations

from threading import Lock
from typing import Literal

import numpy as np

from scanside.errors import MessageError
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
from scanside.mrd.streams import ByteStream

__all__ = ["MessageWriter", "Peer", "encode"]

Peer = Literal["mrd", "gadgetron"]
"""Who listens: any MRD host, or Gadgetron to its external node."""

_GADGETRON_TAKES = (Readouts, Waveform, ImageMessage, ImageArray, ReconData, Bucket, ErrorText, Close)


class MessageWriter:
    """Writes one message after the other; several threads may write, each message stays whole.

    Args:
        stream: where the bytes go.
        peer: who listens. A message that Gadgetron would answer by tearing down its chain is not sent to it.
    """

    def __init__(self, stream: ByteStream, peer: Peer = "mrd") -> None:
        self._stream = stream
        self._peer = peer
        self._lock = Lock()

    def write(self, *messages: Message, deadline: float | None = None) -> None:
        """Send messages, with nothing of another thread's between them.

        Args:
            messages: what to send.
            deadline: value of `time.monotonic` until which to wait, or None for the stream's own limit.

        Raises:
            MessageError: a message's parts do not agree, or the peer does not take it; nothing of that
                message was sent.
            PeerGone: the connection broke, or the peer took nothing in time.
        """
        with self._lock:
            for message in messages:
                if self._peer == "gadgetron":
                    _check_gadgetron_takes(message)
                parts = pieces(message)
                if isinstance(message, Readouts):
                    # Assembled a piece at a time: a large block is never in memory twice.
                    for part in parts:
                        self._stream.send(part, deadline=deadline)
                else:
                    self._stream.send(*parts, deadline=deadline)


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
