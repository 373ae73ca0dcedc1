"""Where bytes come from and go to: sockets, files and pipes, memory.

Every stream blocks, and every end of one is told apart: ``receive_into`` gives 0 where the peer closed in
order, and raises `PeerGone` where the connection broke and `PeerSilent` where a time limit passed.
"""

from __future__ import annotations

import io
import select
import socket
import struct
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from itertools import repeat
from typing import Any, BinaryIO, Protocol, TypeAlias

from scanside.errors import PeerGone, PeerSilent, StreamError

__all__ = ["ByteStream", "BytesLike", "FileStream", "MemoryStream", "SocketStream", "reset_when_closed"]

BytesLike: TypeAlias = bytes | bytearray | memoryview
"""What can be sent; an array gives its memory as ``array.data``."""

_MAX_BUFFERS = 512
"""Buffers handed to the kernel at once; Linux takes at most 1024."""

_NO_LINGER = struct.pack("ii", 1, 0)


class ByteStream(Protocol):
    """What the MRD reader, writer and sessions ask of a transport.

    One thread may receive while another sends.
    """

    def receive_into(self, buffer: memoryview, deadline: float | None = None) -> int:
        """Wait for bytes and put what has arrived into ``buffer``.

        Args:
            buffer: where the bytes go; not empty.
            deadline: value of `time.monotonic` until which to wait, or None for the stream's own limit.

        Returns:
            How many bytes came, at least 1; 0 if the peer closed in order.

        Raises:
            PeerGone: the connection broke.
            PeerSilent: nothing came in time.
            StreamError: this side shut the stream down.
        """

    def send(self, *buffers: BytesLike, deadline: float | None = None) -> None:
        """Send all bytes of all buffers, in order.

        Args:
            buffers: contiguous blocks of memory.
            deadline: value of `time.monotonic` until which to wait, or None for the stream's own limit.

        Raises:
            PeerGone: the connection broke.
            PeerSilent: the peer took nothing in time.
        """

    def end_writing(self) -> None:
        """Tell the peer that nothing more will be sent; receiving goes on. Silent if the peer is gone."""

    def shutdown(self) -> None:
        """End both directions, also under a thread that waits in here. Silent if the peer is gone."""

    def reset(self) -> None:
        """As `shutdown`, and drop what the peer has not taken, so that it learns that the connection broke.

        A peer that takes nothing would not hear of an end in order either: that waits behind what was sent before.
        The connection must be closed next.
        """

    def broken(self) -> bool:
        """Whether the connection is known to have broken; sees that without receiving."""

    def close(self) -> None:
        """Release what the stream holds; other threads must have left it (`shutdown` makes them)."""


def _flat(buffers: Iterable[BytesLike]) -> list[memoryview]:
    """The buffers as views of bytes, without empty ones."""
    views = (memoryview(buffer) for buffer in buffers)
    return [view.cast("B") for view in views if view.nbytes]


def reset_when_closed(sock: socket.socket) -> None:
    """Have a connection's peer see that it broke, once its last holder has closed it; what is unsent is dropped."""
    with suppress(OSError):  # the peer may have been faster
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)


class SocketStream:
    """A connected TCP or Unix socket.

    Args:
        sock: the socket; the stream owns it and closes it.
        timeout: seconds without a byte, in either direction, after which the peer counts as gone; None
            waits for ever.
        send_timeout: the same for sending alone: a scanner may pause for long, but it always takes images.
    """

    def __init__(
        self, sock: socket.socket, timeout: float | None = None, send_timeout: float | None = None
    ) -> None:
        # Waiting is done with poll, so that each direction has its own limit: the time-out of a Python
        # socket belongs to both. The socket itself stays in blocking mode.
        sock.settimeout(None)
        if sock.family in (socket.AF_INET, socket.AF_INET6):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket = sock
        self.timeout = timeout
        self.send_timeout = timeout if send_timeout is None else send_timeout
        self._shut_down = False

    def receive_into(self, buffer: memoryview, deadline: float | None = None) -> int:
        """See `ByteStream.receive_into`."""
        started = time.monotonic()
        while True:
            try:
                received = self.socket.recv_into(buffer, 0, socket.MSG_DONTWAIT)
            except BlockingIOError:
                self._wait(select.POLLIN, started, self.timeout, deadline, "nothing came")
            except OSError as error:
                raise PeerGone(f"the connection broke while receiving: {error}") from error
            else:
                if received == 0 and self._shut_down:
                    raise StreamError("the connection was shut down on this side while receiving")
                return received + self._receive_more(buffer[received:] if received else buffer[:0])

    def _receive_more(self, buffer: memoryview) -> int:
        """What came while the bytes before were copied: fewer and larger blocks cost less than many small ones."""
        filled = 0
        while filled < len(buffer):
            try:
                received = self.socket.recv_into(buffer[filled:], 0, socket.MSG_DONTWAIT)
            except BlockingIOError:
                break
            except OSError as error:
                raise PeerGone(f"the connection broke while receiving: {error}") from error
            if not received:
                break  # the end; the next call finds it again
            filled += received
        return filled

    def send(self, *buffers: BytesLike, deadline: float | None = None) -> None:
        """See `ByteStream.send`."""
        waiting = _flat(buffers)
        started = time.monotonic()
        while waiting:
            try:
                sent = self.socket.sendmsg(
                    waiting[:_MAX_BUFFERS], [], socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL
                )
            except BlockingIOError:
                self._wait(select.POLLOUT, started, self.send_timeout, deadline, "the peer took no data")
            except OSError as error:
                raise PeerGone(f"the connection broke while sending: {error}") from error
            else:
                waiting = _after(waiting, sent)
                started = time.monotonic()

    def _wait(
        self, event: int, started: float, timeout: float | None, deadline: float | None, what: str
    ) -> None:
        """Wait until the socket is ready for ``event`` (or broken, which the next call finds out)."""
        limits = [] if timeout is None else [started + timeout]
        if deadline is not None:
            limits.append(deadline)
        left = min(limits) - time.monotonic() if limits else None
        poll = select.poll()
        try:
            poll.register(self.socket, event)
        except ValueError as error:
            raise StreamError("the connection was closed on this side") from error
        if not poll.poll(None if left is None else max(0.0, left) * 1000):
            raise PeerSilent(f"{what} for {time.monotonic() - started:.1f} s: the peer stopped or hangs")

    def end_writing(self) -> None:
        """See `ByteStream.end_writing`."""
        self._shutdown(socket.SHUT_WR)

    def shutdown(self) -> None:
        """See `ByteStream.shutdown`."""
        self._shut_down = True
        self._shutdown(socket.SHUT_RDWR)

    def reset(self) -> None:
        """See `ByteStream.reset`."""
        reset_when_closed(self.socket)
        self.shutdown()

    def broken(self) -> bool:
        """See `ByteStream.broken`."""
        poll = select.poll()
        poll.register(self.socket, 0)  # what broke is told unasked
        return bool(poll.poll(0))

    def _shutdown(self, how: int) -> None:
        try:
            self.socket.shutdown(how)
        except OSError:
            # The peer was faster: there is nothing left to end.
            return

    def close(self) -> None:
        """See `ByteStream.close`."""
        self.socket.close()


def _after(views: list[memoryview], n: int) -> list[memoryview]:
    """What is left of ``views`` behind their first ``n`` bytes."""
    first = 0
    while first < len(views) and n >= views[first].nbytes:
        n -= views[first].nbytes
        first += 1
    rest = views[first:]
    if n:
        rest[0] = rest[0][n:]
    return rest


class FileStream:
    """Binary files or pipes, one for each direction.

    Args:
        reader: where messages are read, or None if nothing is read.
        writer: where messages are written, or None if nothing is written.

    Deadlines for receiving hold for unbuffered readers that have a file descriptor
    (``open(path, "rb", buffering=0)``); any other reader waits as long as its file does.
    """

    def __init__(
        self, reader: BinaryIO | io.RawIOBase | None, writer: BinaryIO | io.RawIOBase | None = None
    ) -> None:
        self.reader = reader
        self.writer = writer

    def receive_into(self, buffer: memoryview, deadline: float | None = None) -> int:
        """See `ByteStream.receive_into`."""
        if self.reader is None:
            return 0
        if deadline is not None and isinstance(self.reader, io.FileIO):
            self._wait(self.reader, deadline)
        # `readinto` of a buffered reader waits until the buffer is full; `readinto1` takes what is there.
        receive: Any = getattr(self.reader, "readinto1", None) or getattr(self.reader, "readinto")  # noqa: B009
        received = receive(buffer)
        if received is None:
            raise StreamError(
                "the file to read from is in non-blocking mode; MRD streams need a blocking one"
            )
        return int(received)

    @staticmethod
    def _wait(reader: io.FileIO, deadline: float) -> None:
        poll = select.poll()
        poll.register(reader, select.POLLIN)
        started = time.monotonic()
        if not poll.poll(max(0.0, deadline - started) * 1000):
            raise PeerSilent(
                f"nothing came for {time.monotonic() - started:.1f} s: the peer stopped or hangs"
            )

    def send(self, *buffers: BytesLike, deadline: float | None = None) -> None:
        """See `ByteStream.send`; a pipe waits for its reader without a limit.

        Raises:
            StreamError: the stream was made without a writer.
        """
        if self.writer is None:
            raise StreamError("this stream has no file to write to")
        try:
            for view in _flat(buffers):
                rest = view
                while rest:
                    # A raw file may take only a part.
                    rest = rest[self.writer.write(rest) :]
            self.writer.flush()
        except BrokenPipeError as error:
            raise PeerGone(f"the pipe broke while writing: {error}") from error

    def end_writing(self) -> None:
        """See `ByteStream.end_writing`: closes the writer."""
        if self.writer is None:
            return
        try:
            self.writer.close()
        except BrokenPipeError:
            # Closing flushes; the reader at the other end has left.
            return

    def shutdown(self) -> None:
        """End writing; a thread that waits for a pipe's next byte stays until the other end closes."""
        self.end_writing()

    def reset(self) -> None:
        """As `shutdown`: a pipe knows one end only."""
        self.shutdown()

    def broken(self) -> bool:
        """Never known before the next call."""
        return False

    def close(self) -> None:
        """See `ByteStream.close`."""
        self.end_writing()
        if self.reader is not None:
            self.reader.close()


class MemoryStream:
    """Bytes that are there already, for tests and for decoding what is in memory.

    Args:
        data: what the peer "sends", and then closes.
        chunks: sizes of the pieces in which it arrives: one for all, or one after the other (then whatever
            is left comes at once). None gives as much as is asked for.

    Attributes:
        sent: everything that was sent.
        writing: whether `end_writing` or `shutdown` has not been called yet.
    """

    def __init__(self, data: BytesLike = b"", chunks: int | Iterable[int] | None = None) -> None:
        self._data = memoryview(data).cast("B")
        sizes: Iterable[int] = () if chunks is None else repeat(chunks) if isinstance(chunks, int) else chunks
        self._sizes: Iterator[int] = iter(sizes)
        self.sent = bytearray()
        self.writing = True

    def receive_into(self, buffer: memoryview, deadline: float | None = None) -> int:
        """See `ByteStream.receive_into`."""
        size = min(len(buffer), max(1, next(self._sizes, len(self._data))), len(self._data))
        buffer[:size] = self._data[:size]
        self._data = self._data[size:]
        return size

    def send(self, *buffers: BytesLike, deadline: float | None = None) -> None:
        """See `ByteStream.send`."""
        if not self.writing:
            raise StreamError("writing to this stream has ended")
        for view in _flat(buffers):
            self.sent += view

    def end_writing(self) -> None:
        """See `ByteStream.end_writing`."""
        self.writing = False

    def shutdown(self) -> None:
        """See `ByteStream.shutdown`; what has not been received is gone."""
        self.writing = False
        self._data = self._data[:0]

    def reset(self) -> None:
        """As `shutdown`."""
        self.shutdown()

    def broken(self) -> bool:
        """Memory does not break."""
        return False

    def close(self) -> None:
        """See `ByteStream.close`."""
        self.shutdown()
