"""The bytes of one item of an MRD 2 stream, with an account of where in the stream they stand."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from scanside.mrd.source import MessageSource
from scanside.mrd.v2.varints import MOST_BYTES, read_varints

__all__ = ["ItemSource"]

_PIECE = 1 << 20


class ItemSource(MessageSource):
    """Takes one item's bytes out of a ring, part by part."""

    @property
    def where(self) -> str:
        """The item's number, kind and place, for errors."""
        return super().where.replace("message", "item", 1)

    def byte(self, what: str) -> int:
        """The next byte."""
        if not self._ring.n_unread and not self._ring.need(1):
            raise self.incomplete(what, 0, 1)
        value = int(self._ring.block[self._ring.start])
        self._ring.drop(1)
        self.size += 1
        return value

    def look(self, n: int, what: str, size: int | None = None) -> npt.NDArray[np.uint8]:
        """What has arrived of the item, at least ``n`` bytes, without taking it; valid until the next call.

        Args:
            n: how many bytes to wait for.
            what: what they are, for errors.
            size: how many bytes there should be in all, where that is known.
        """
        if self._ring.n_unread < n and not self._ring.need(n):
            raise self.incomplete(what, self._ring.n_unread, size or n)
        return self._ring.block[self._ring.start : self._ring.end]

    def varint(self, what: str, bits: int = 64) -> int:
        """A number from 0.

        Raises:
            MessageError: it has more than ``bits`` bits.
            IncompleteRead: the stream stops inside it.
        """
        value = 0
        for k in range(MOST_BYTES):
            byte = self.byte(what)
            value |= (byte & 127) << 7 * k
            if byte < 128:
                break
        if byte >= 128 or value >> bits:
            raise self.error(f"its {what} is a number of more than {bits} bits; the stream is damaged")
        return value

    def varints(self, n: int, what: str) -> npt.NDArray[np.uint64]:
        """``n`` numbers from 0; memory grows as they arrive."""
        self.check(n, what)
        taken: list[npt.NDArray[np.uint64]] = []
        left = n
        while left:
            data = self.look(1, what)[:_PIECE]
            values, used = self._read_varints(data, left, what)
            if not used:
                # One number, cut off where the buffer ends.
                values, used = self._read_varints(self.look(len(data) + 1, what)[: len(data) + 1], left, what)
            self.drop(used)
            taken.append(values)
            left -= len(values)
        return np.concatenate(taken) if taken else np.zeros(0, np.uint64)

    def _read_varints(
        self, data: npt.NDArray[np.uint8], most: int, what: str
    ) -> tuple[npt.NDArray[np.uint64], int]:
        try:
            return read_varints(data, most)
        except ValueError as error:
            raise self.error(f"its {what} hold {error}; the stream is damaged") from None

    def bytes_of(self, n: int, what: str) -> bytes:
        """The bytes of a text."""
        if n > self.limits.max_text_bytes:
            raise self.error(
                f"its {what} would be {n} bytes long, and at most {self.limits.max_text_bytes} are possible; "
                "the stream is damaged, or raise Limits.max_text_bytes"
            )
        return self.own_bytes(n, what).tobytes()
