"""The beginning of a stream, held back until its header has come and names nobody."""

from __future__ import annotations

import struct

from scanside.errors import HeaderError, MessageError
from scanside.mrd.messages import MessageId
from scanside.privacy import without_identity

__all__ = ["Opening"]

_CONFIG_FILE_BYTES = 1024
_LARGEST = 64 << 20


class Opening:
    """Lets a stream through from its header on, which has lost what identifies a person.

    Configuration and texts before the header go through as they are.
    """

    def __init__(self) -> None:
        self._held = bytearray()
        self._ended = False

    def feed(self, data: bytes) -> bytes:
        """The next bytes of the stream; gives what may be written, which is nothing until the header is there.

        Raises:
            HeaderError: the header cannot be read, so that names may be anywhere in it.
            MessageError: the stream does not begin as one.
        """
        if self._ended:
            return data
        self._held += data
        if len(self._held) > _LARGEST:
            raise MessageError(f"no header came within the first {_LARGEST} bytes of the stream")
        place = 0
        while (head := self._message(place)) is not None:
            kind, text, end = head
            if kind == MessageId.HEADER:
                self._held[text:end] = without_identity(bytes(self._held[text:end]))
                self._ended = True
                whole, self._held = bytes(self._held), bytearray()
                return whole
            place = end
        return b""

    def _message(self, place: int) -> tuple[int, int, int] | None:
        """Kind of the message at a place, where its text begins and where it ends; None while it is not all there."""
        if len(self._held) < place + 2:
            return None
        (kind,) = struct.unpack_from("<H", self._held, place)
        if kind == MessageId.CONFIG_FILE:
            text, size = place + 2, _CONFIG_FILE_BYTES
        elif kind in (MessageId.CONFIG, MessageId.HEADER, MessageId.TEXT):
            if len(self._held) < place + 6:
                return None
            text, size = place + 6, struct.unpack_from("<I", self._held, place + 2)[0]
        else:
            raise HeaderError(f"a message of kind {kind} came before the header")
        return (kind, text, text + size) if len(self._held) >= text + size else None
