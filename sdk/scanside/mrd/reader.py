"""Reads MRD messages from a stream, acquisitions in blocks."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from scanside.errors import EndOfStream, MessageError, ScansideError
from scanside.mrd.decoding import DECODERS
from scanside.mrd.dtypes import ACQUISITION_HEADER
from scanside.mrd.messages import Message, MessageId, Readouts
from scanside.mrd.records import SHAPE_FIELDS, ReadoutShape, acquisition_record, view_readouts
from scanside.mrd.ring import ReceiveRing
from scanside.mrd.source import Limits, MessageSource
from scanside.mrd.streams import ByteStream, MemoryStream

__all__ = ["Limits", "MessageReader", "decode", "n_equal_readouts"]

_ID_BYTES = 2
_HEADER_BYTES = _ID_BYTES + ACQUISITION_HEADER.itemsize

# The id and the fields of the shape are uint16 at even offsets, so they are columns of a view of uint16.
_SHAPE_WORDS = [
    0,
    *((_ID_BYTES + dict(ACQUISITION_HEADER.fields or ())[name][1]) // 2 for name in SHAPE_FIELDS),
]


class MessageReader:
    """Reads one message after the other, and consecutive acquisitions of equal shape as one block.

    The arrays of a block are views of one of ``n_blocks`` receive buffers. They stay as they are during the
    next ``n_blocks - 1`` calls of `read`, whatever those read; a later call may overwrite them. So with one
    thread that reads and one that works on what it read, a queue of ``n_blocks - 2`` messages between them is
    safe: one block is being worked on, ``n_blocks - 2`` wait, and the reader holds one until there is room.

    The samples start 342 bytes into each message, so the views are neither contiguous nor aligned; NumPy
    copes, other libraries need a copy. Every other message owns its memory.

    Args:
        stream: where the bytes come from.
        block_bytes: size of one receive buffer; a block of readouts is at most that large. A single readout
            that is larger comes alone, in memory of its own.
        n_blocks: number of receive buffers.
        max_block_readouts: most readouts in one block, or None for as many as have arrived.
        limits: what lengths on the wire may say.
    """

    def __init__(
        self,
        stream: ByteStream,
        *,
        block_bytes: int = 4 << 20,
        n_blocks: int = 4,
        max_block_readouts: int | None = None,
        limits: Limits | None = None,
    ) -> None:
        if block_bytes < 2 * _HEADER_BYTES:
            raise ValueError(f"a receive buffer needs at least {2 * _HEADER_BYTES} bytes, got {block_bytes}")
        if max_block_readouts is not None and max_block_readouts < 1:
            raise ValueError(f"a block holds at least 1 readout, got max_block_readouts={max_block_readouts}")
        self._ring = ReceiveRing(stream, block_bytes, n_blocks)
        self._block_bytes = block_bytes
        self._max_block_readouts = max_block_readouts
        self.limits = limits or Limits()
        self._previous = "the start of the stream"
        self._broken: MessageError | None = None
        self.position = 0
        """Bytes read so far: the position of the next message in the stream."""
        self.n_messages = 0
        """Messages read so far; every readout counts."""

    def read(self, deadline: float | None = None) -> Message:
        """Wait for the next message.

        Returns as soon as one whole message is there; a block is what has arrived, it is never waited for.

        Args:
            deadline: value of `time.monotonic` until which to wait, or None for the stream's own limit.

        Raises:
            EndOfStream: the peer closed between two messages (without CLOSE, or after it).
            IncompleteRead: the peer closed inside a message.
            MessageError: unknown id or impossible length; every later call raises it again.
            PeerGone: the connection broke.
            PeerSilent: nothing came in time.
        """
        if self._broken is not None:
            raise self._broken
        self._ring.deadline = deadline
        source = MessageSource(self._ring, self.limits, self.position, self.n_messages + 1)
        if not self._ring.need(1):
            raise EndOfStream(
                f"the peer closed the stream after {self.n_messages} messages ({self.position} bytes), "
                f"the last of them {self._previous}; CLOSE was expected"
            )
        try:
            return self._read(source)
        except MessageError as error:
            self._broken = error
            raise
        except (ArithmeticError, MemoryError, TypeError, ValueError) as error:
            # Sizes that no limit above has caught and NumPy or the memory does: the stream says them all the same.
            if isinstance(error, ScansideError):
                raise
            self._broken = source.error(f"it cannot be read ({type(error).__name__}: {error})")
            raise self._broken from error

    def drop_bytes(self, deadline: float | None = None) -> bytes:
        """Drop whatever has arrived, waiting for it if need be, without looking for messages.

        For a peer that is to be heard out after a `MessageError`.

        Args:
            deadline: value of `time.monotonic` until which to wait, or None for the stream's own limit.

        Returns:
            The last two bytes that were dropped, or the last one if it was one; nothing if the peer closed.

        Raises:
            PeerGone: the connection broke.
            PeerSilent: nothing came in time.
        """
        self._ring.deadline = deadline
        if not self._ring.need(1):
            return b""
        last = self._ring.block[max(self._ring.start, self._ring.end - 2) : self._ring.end].tobytes()
        self.position += self._ring.n_unread
        self._ring.drop(self._ring.n_unread)
        return last

    def _read(self, source: MessageSource) -> Message:
        number = int.from_bytes(source.peek(_ID_BYTES, "id"), "little")
        try:
            kind = MessageId(number)
        except ValueError:
            raise source.error(
                f"unknown id {number} after {self._previous}; "
                "the stream is damaged, or the peer speaks a newer protocol"
            ) from None
        source.kind = kind.name
        if kind is MessageId.ACQUISITION:
            return self._read_acquisitions(source)
        source.drop(_ID_BYTES)
        message = DECODERS[kind](source)
        self._account(kind, 1, source.size)
        return message

    def _account(self, kind: MessageId, n: int, n_bytes: int) -> None:
        self.position += n_bytes
        self.n_messages += n
        self._previous = kind.name

    def _read_acquisitions(self, source: MessageSource) -> Readouts:
        head = source.peek(_HEADER_BYTES, "id and header")
        shape = ReadoutShape.of(np.frombuffer(head, ACQUISITION_HEADER, offset=_ID_BYTES)[0])
        size = shape.message_bytes
        source.check(size, "readout")
        if size > source.limits.max_readout_bytes:
            raise source.error(
                f"its header announces {shape.n_samples} samples of {shape.n_coils} channels with "
                f"{shape.n_dimensions} trajectory dimensions, {size} bytes, but a readout has at most "
                f"{source.limits.max_readout_bytes}; "
                "the stream is damaged, or raise Limits.max_readout_bytes"
            )
        record = acquisition_record(shape)
        if size > self._block_bytes:
            readouts = view_readouts(source.own_bytes(size, "readout").view(record))
        else:
            source.peek(size, "readout")
            n = min(self._ring.n_unread // size, self._max_block_readouts or self._ring.n_unread)
            n = n_equal_readouts(self._ring.block, self._ring.start, n, shape)
            records = np.ndarray(n, record, self._ring.block.data, self._ring.start)
            self._ring.lend(n * size)
            readouts = view_readouts(records)
        self._account(MessageId.ACQUISITION, len(readouts), len(readouts) * size)
        return readouts


def n_equal_readouts(block: npt.NDArray[np.uint8], start: int, n: int, shape: ReadoutShape) -> int:
    """How many of ``n`` would-be messages of equal size really are acquisitions of this shape.

    Behind the first that is not, what stands in the fields means nothing.

    Args:
        block: ``(bytes,)``.
        start: where in it the first begins.
        n: how many whole ones of the shape's size there is room for.
        shape: of the first.
    """
    fields = np.ndarray((n, shape.message_bytes // 2), "<u2", block.data, start, (shape.message_bytes, 2))
    equal = (fields[:, _SHAPE_WORDS] == (MessageId.ACQUISITION, *shape)).all(axis=1)
    return n if equal.all() else int(equal.argmin())


def decode(data: bytes | bytearray | memoryview, limits: Limits | None = None) -> list[Message]:
    """All messages in ``data``, in memory of their own.

    Raises:
        IncompleteRead: the data stop inside a message.
        MessageError: unknown id or impossible length.
    """
    reader = MessageReader(MemoryStream(data), limits=limits)
    messages: list[Message] = []
    while reader.position < memoryview(data).nbytes:
        message = reader.read()
        messages.append(message.copy() if isinstance(message, Readouts) else message)
    return messages
