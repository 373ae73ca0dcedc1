"""A stream that is recorded while it is received."""

from __future__ import annotations

from scanside.mrd.streams import BytesLike, ByteStream
from scanside.recording.tape import Tape

__all__ = ["RecordingStream"]


class RecordingStream:
    """Another stream, of which everything that is received also goes onto a tape.

    Args:
        stream: the other one.
        tape: takes copies of what comes, and never waits.
    """

    def __init__(self, stream: ByteStream, tape: Tape) -> None:
        self._stream = stream
        self._tape = tape

    def receive_into(self, buffer: memoryview, deadline: float | None = None) -> int:
        """See `ByteStream.receive_into`."""
        n = self._stream.receive_into(buffer, deadline)
        if n:
            self._tape.put(bytes(buffer[:n]))
        return n

    def send(self, *buffers: BytesLike, deadline: float | None = None) -> None:
        """See `ByteStream.send`."""
        self._stream.send(*buffers, deadline=deadline)

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
        """See `ByteStream.close`; the recording is finished by its `SessionRecording`."""
        self._stream.close()
