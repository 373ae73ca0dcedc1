"""A ring of receive buffers that lends out what it has received."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from scanside.mrd.streams import ByteStream

__all__ = ["ReceiveRing"]

_FIRST_PIECE = 16 << 20
"""What is allocated at most before any of a large piece has arrived."""


class ReceiveRing:
    """Bytes from a stream, in buffers that are used in turn.

    The unread bytes always lie in one piece of the current buffer, from `start` to `end`. What has been lent
    (`lend`) stays where it is until the ring has come round; what has only been copied (`drop`, `take`) makes
    room at once. So a message that is copied out moves the ring on by one buffer at most, whatever its size.

    Args:
        stream: where the bytes come from.
        block_bytes: size of one buffer.
        n_blocks: number of buffers, at least 2.

    Attributes:
        deadline: value of `time.monotonic` until which to wait for bytes, or None for the stream's own limit.
    """

    def __init__(self, stream: ByteStream, block_bytes: int, n_blocks: int) -> None:
        if n_blocks < 2:
            raise ValueError(
                f"a ring needs at least 2 buffers, got {n_blocks}: one is read while one is filled"
            )
        self._stream = stream
        # Memory that has not been touched costs nothing, so all buffers are made at once.
        self._blocks = [np.empty(block_bytes, np.uint8) for _ in range(n_blocks)]
        self._current = 0
        self._free = 0  # no byte of the current buffer from here on is lent
        self.block = self._blocks[0]
        self.start = 0
        self.end = 0
        self.deadline: float | None = None

    @property
    def n_unread(self) -> int:
        """Bytes that have arrived and have not been read."""
        return self.end - self.start

    def need(self, n: int) -> bool:
        """Wait until at least ``n`` unread bytes, at most one buffer's size, are there.

        Returns:
            False if the peer closed before.
        """
        half = len(self.block) // 2
        if self.start + n > len(self.block):
            self._make_room(n)
        elif self.n_unread < n and self._free > half:
            # What is left of this buffer would cut the next bytes into small blocks.
            self._make_room(half)
        while self.n_unread < n:
            received = self._stream.receive_into(self.block.data[self.end :], self.deadline)
            if not received:
                return False
            self.end += received
        return True

    def _make_room(self, n: int) -> None:
        """Move the unread bytes to where ``n`` bytes have room."""
        tail = self.block[self.start : self.end]
        if self._free + n > len(self.block):
            self._current = (self._current + 1) % len(self._blocks)
            self.block = self._blocks[self._current]
            self._free = 0
        self.start, self.end = self._free, self._free + len(tail)
        self.block[self.start : self.end] = tail

    def lend(self, n: int) -> None:
        """Count ``n`` bytes as read that somebody goes on using in place."""
        self.start += n
        self._free = self.start

    def drop(self, n: int) -> None:
        """Count ``n`` bytes as read that nobody uses in place."""
        self.start += n
        if self.start == self.end:
            self.start = self.end = self._free

    def take(self, n: int) -> npt.NDArray[np.uint8]:
        """The next ``n`` bytes in memory of their own, fewer if the peer closes before.

        Memory grows as bytes arrive, so a wrong length costs nothing but what the peer really sends.
        """
        taken = np.empty(min(n, max(_FIRST_PIECE, self.n_unread)), np.uint8)
        filled = min(n, self.n_unread)
        taken[:filled] = self.block[self.start : self.start + filled]
        self.drop(filled)
        while filled < n:
            if filled == len(taken):
                # No view of it is alive here; a large array is grown by remapping, not by copying.
                taken.resize(min(n, 2 * len(taken)), refcheck=False)
            received = self._receive_rest(taken, filled, n)
            if not received:
                return taken[:filled].copy()
            filled += received
        return taken

    def _receive_rest(self, taken: npt.NDArray[np.uint8], filled: int, n: int) -> int:
        """Receive what ``taken`` lacks of ``n`` bytes; of a small rest as much as there is, and put it by."""
        if n - filled >= len(self.block) - self.end:
            return self._stream.receive_into(taken.data[filled:], self.deadline)
        if not self.need(1):
            return 0
        piece = min(n - filled, self.n_unread)
        taken[filled : filled + piece] = self.block[self.start : self.start + piece]
        self.drop(piece)
        return piece
