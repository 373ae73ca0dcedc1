"""What the server must know of a connection when its worker has died: a page of memory that both see.

An error may only follow a whole message, and hosts are told in other ways than Gadgetron. Whether a worker was killed
in the middle of a message, whether the peer had said CLOSE by then, and who it is cannot be asked any more; so it is
noted before and after, where a killed process leaves it.
"""

from __future__ import annotations

import mmap
import os
from time import monotonic

from scanside.errors import ScanError
from scanside.mrd.peers import Peer
from scanside.mrd.streams import BytesLike, ByteStream

__all__ = ["Note", "NotedStream"]

_SENDING, _LAST, _PEER = 0, slice(1, 3), 3
_PEERS: tuple[Peer | None, ...] = (None, "mrd", "gadgetron")


_LEAST_BYTES = 1024
"""Fewer bytes than a readout has: whoever sends one now and then counts as silent."""

_AWAY_SECONDS = 1.0


class Note:
    """The page.

    Args:
        descriptor: of a file in memory; None makes one.
    """

    def __init__(self, descriptor: int | None = None) -> None:
        if descriptor is None:
            descriptor = os.memfd_create("scanside-note")
            os.truncate(descriptor, mmap.PAGESIZE)
        self.descriptor = descriptor
        self._page = mmap.mmap(descriptor, mmap.PAGESIZE)

    def clear(self) -> None:
        """A new connection."""
        self._page[_SENDING] = 0
        self._page[_LAST] = b"\0\0"
        self._page[_PEER] = 0

    @property
    def sending(self) -> bool:
        """Whether a message may have gone out in part."""
        return bool(self._page[_SENDING])

    @sending.setter
    def sending(self, value: bool) -> None:
        self._page[_SENDING] = value

    @property
    def last(self) -> bytes:
        """The last two bytes that came."""
        return bytes(self._page[_LAST])

    @property
    def peer(self) -> Peer | None:
        """Who is at the other end, once its opening has told."""
        return _PEERS[self._page[_PEER]]

    @peer.setter
    def peer(self, value: Peer) -> None:
        self._page[_PEER] = _PEERS.index(value)

    def received(self, data: memoryview) -> None:
        """Note the end of what came."""
        self._page[_LAST] = (self.last + bytes(data[-2:]))[-2:]

    def close(self) -> None:
        """Give the page back."""
        self._page.close()
        os.close(self.descriptor)


class NotedStream:
    """A stream that keeps a note, and takes no more than it may.

    Args:
        stream: the connection.
        note: where to keep it.
        most_bytes: how much may come.
    """

    def __init__(self, stream: ByteStream, note: Note, most_bytes: int) -> None:
        self._stream = stream
        self._note = note
        self._most_bytes = most_bytes
        self._n_bytes = 0
        self._told = False
        self._waits = False
        self._left = self._heard_at = monotonic()
        self._n_heard = 0

    @property
    def silent_seconds(self) -> float:
        """How long the peer has sent next to nothing while it was waited for."""
        return monotonic() - self._heard_at if self._waits else 0.0

    def receive_into(self, buffer: memoryview, deadline: float | None = None) -> int:
        """See `ByteStream.receive_into`.

        Raises:
            ScanError: more came than may come. Only once: what still comes must be heard out.
        """
        if self._n_bytes > self._most_bytes and not self._told:
            self._told = True
            raise ScanError(
                f"the scan has more than {self._most_bytes / 2**30:.3g} GiB, which is the most that this server "
                "takes (limits.scan_gib)"
            )
        if not self._told:
            # One byte too many is taken and no more, so that the messages before the limit are heard.
            buffer = buffer[: self._most_bytes + 1 - self._n_bytes]
        now = monotonic()
        if now - self._left > _AWAY_SECONDS:
            self._heard_at = now  # this side was busy with something else
        self._waits = True
        try:
            n = self._stream.receive_into(buffer, deadline)
        finally:
            self._waits = False
            self._left = monotonic()
        self._n_bytes += n
        if self._n_bytes - self._n_heard >= _LEAST_BYTES:
            self._heard_at, self._n_heard = self._left, self._n_bytes
        if n:
            self._note.received(buffer[:n])
        return n

    def send(self, *buffers: BytesLike, deadline: float | None = None) -> None:
        """See `ByteStream.send`."""
        self._note.sending = True
        self._stream.send(*buffers, deadline=deadline)
        self._note.sending = False

    def end_writing(self) -> None:
        """See `ByteStream.end_writing`."""
        self._stream.end_writing()

    def shutdown(self) -> None:
        """See `ByteStream.shutdown`."""
        self._stream.shutdown()

    def reset(self) -> None:
        """See `ByteStream.reset`."""
        self._stream.reset()

    def broken(self) -> bool:
        """See `ByteStream.broken`."""
        return self._stream.broken()

    def close(self) -> None:
        """See `ByteStream.close`."""
        self._stream.close()
