"""The bytes of one message, with an account of where in the stream they stand."""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from scanside.errors import IncompleteRead, MessageError
from scanside.mrd.ring import ReceiveRing

__all__ = ["Limits", "MessageSource"]


@dataclass(frozen=True, slots=True)
class Limits:
    """What a length on the wire may say before it counts as wrong.

    Attributes:
        max_message_bytes: size of one message.
        max_readout_bytes: size of one readout; of more than 2 GiB NumPy makes no record.
        max_text_bytes: size of one text: a configuration, a header, an image's attributes, an error.
        max_ndim: number of dimensions of an array.
    """

    max_message_bytes: int = 8 << 30
    max_readout_bytes: int = 1 << 30
    max_text_bytes: int = 64 << 20
    max_ndim: int = 16


class MessageSource:
    """Takes one message's bytes out of a ring, part by part.

    Args:
        ring: where the bytes are.
        limits: what lengths may say.
        offset: position of the message in the stream, in bytes.
        number: how many messages came before it, plus one.

    Attributes:
        kind: name of the message once its id is known.
        size: bytes taken so far.
    """

    def __init__(self, ring: ReceiveRing, limits: Limits, offset: int, number: int) -> None:
        self._ring = ring
        self.limits = limits
        self._offset = offset
        self._number = number
        self.kind = ""
        self.size = 0

    @property
    def where(self) -> str:
        """The message's number, kind and place, for errors."""
        kind = f"{self.kind}, " if self.kind else ""
        return f"message {self._number} ({kind}at byte {self._offset} of the stream)"

    def error(self, text: str) -> MessageError:
        """An error about this message."""
        return MessageError(f"{self.where}: {text}")

    def incomplete(self, what: str, got: int, expected: int) -> IncompleteRead:
        """The error for a stream that stopped inside this message."""
        return IncompleteRead(
            f"the stream stopped inside {self.where}: {got} of {expected} bytes of its {what} came; "
            "the sender died or the stream was cut off"
        )

    def check(self, n: int, what: str) -> None:
        """Make sure that the message may go on for ``n`` bytes.

        Raises:
            MessageError: it would grow beyond the limit.
        """
        most = self.limits.max_message_bytes
        if self.size + n > most:
            raise self.error(
                f"its {what} would take {n} bytes, but a whole message has at most {most}; "
                "the stream is damaged, or raise Limits.max_message_bytes"
            )

    def peek(self, n: int, what: str) -> memoryview:
        """The next ``n`` bytes (few) without taking them; valid until the next call."""
        if not self._ring.need(n):
            raise self.incomplete(what, self._ring.n_unread, n)
        return self._ring.block.data[self._ring.start : self._ring.start + n]

    def drop(self, n: int) -> None:
        """Take ``n`` bytes that were peeked at."""
        self.size += n
        self._ring.drop(n)

    def unpack(self, code: str, what: str) -> int:
        """One number; ``code`` as in `struct`."""
        n = struct.calcsize("<" + code)
        (value,) = struct.unpack("<" + code, self.peek(n, what))
        self.drop(n)
        return int(value)

    def own_bytes(self, n: int, what: str) -> npt.NDArray[np.uint8]:
        """The next ``n`` bytes in memory of their own."""
        self.check(n, what)
        taken = self._ring.take(n)
        if len(taken) < n:
            raise self.incomplete(what, len(taken), n)
        self.size += n
        return taken

    def text(self, length_code: str, what: str) -> bytes:
        """A text that its length precedes."""
        n = self.unpack(length_code, f"{what}'s length")
        if n > self.limits.max_text_bytes:
            raise self.error(
                f"its {what} would be {n} bytes long, and at most {self.limits.max_text_bytes} are possible; "
                "the stream is damaged, or raise Limits.max_text_bytes"
            )
        return self.own_bytes(n, what).tobytes()

    def count(self, what: str, item_bytes: int) -> int:
        """How many items of at least ``item_bytes`` follow."""
        n = self.unpack("Q", f"number of {what}")
        self.check(n * item_bytes, what)
        return n

    def flag(self, what: str) -> bool:
        """Whether an optional part follows."""
        value = self.unpack("B", f"mark of {what}")
        if value > 1:
            raise self.error(f"the mark that says whether {what} follow must be 0 or 1, found {value}")
        return bool(value)

    def scalar(self, dtype: np.dtype[Any], what: str) -> np.void:
        """One structured value, padding and all."""
        value: np.void = self.own_bytes(dtype.itemsize, what).view(dtype)[0]
        return value

    def vector(self, dtype: np.dtype[Any], n: int, what: str) -> npt.NDArray[Any]:
        """``n`` values."""
        self.check(n * dtype.itemsize, what)
        return self.own_bytes(n * dtype.itemsize, what).view(dtype)

    def array(self, dtype: np.dtype[Any], what: str) -> npt.NDArray[Any]:
        """An array that its number of dimensions and its sizes precede, with the dimensions reversed.

        An array without dimensions is Gadgetron's empty array.
        """
        ndim = self.unpack("Q", f"number of dimensions of its {what}")
        if ndim > self.limits.max_ndim:
            raise self.error(
                f"its {what} would have {ndim} dimensions, and at most {self.limits.max_ndim} are possible; "
                "the stream is damaged, or raise Limits.max_ndim"
            )
        sizes = self.vector(np.dtype("<u8"), ndim, f"sizes of its {what}").tolist() or [0]
        # NumPy refuses an empty array whose other dimensions are too large, so they are checked as well.
        self.check(math.prod(max(size, 1) for size in sizes) * dtype.itemsize, what)
        return self.vector(dtype, math.prod(sizes), what).reshape(sizes[::-1])
