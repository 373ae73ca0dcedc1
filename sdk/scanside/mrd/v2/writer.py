"""Writes messages of an ISMRMRD session as an MRD 2 stream."""

from __future__ import annotations

import struct
from collections.abc import Iterator

from scanside.errors import MessageError
from scanside.mrd.messages import Close, HeaderXml, ImageMessage, Message, Readouts, Waveform
from scanside.mrd.streams import ByteStream
from scanside.mrd.v2.acquisitions import acquisitions_of
from scanside.mrd.v2.header import header_value
from scanside.mrd.v2.images import WAVEFORM_TAG, image_value, waveform_value
from scanside.mrd.v2.reader import FORMAT_VERSION, MAGIC
from scanside.mrd.v2.schemas import MrdSchema
from scanside.mrd.v2.told import Told
from scanside.mrd.v2.types import Record
from scanside.mrd.v2.values import write_value
from scanside.mrd.v2.varints import varint

__all__ = ["ItemWriter"]

_PIECE_BYTES = 1 << 20


class ItemWriter:
    """Writes one message after the other; each goes out at once, as a block of one item.

    The first message has to be the header, the last CLOSE.

    Args:
        stream: where the bytes go.
        schema: the version to write.

    Attributes:
        told: what the two versions of MRD cannot say of each other.
    """

    def __init__(self, stream: ByteStream, schema: MrdSchema) -> None:
        self._stream = stream
        self._schema = schema
        self.told = Told()

    def write(self, *messages: Message) -> None:
        """Send messages.

        Raises:
            MessageError: MRD 2 has no such message, or no room for one of its numbers; nothing of it was sent.
            PeerGone: the connection broke.
        """
        for message in messages:
            for piece in self._pieces(message):
                self._stream.send(piece)

    def _pieces(self, message: Message) -> Iterator[bytearray]:
        if isinstance(message, HeaderXml):
            yield self._opening(message.xml)
        elif isinstance(message, Readouts):
            yield from self._readouts(message)
        elif isinstance(message, Waveform):
            kind = self._schema.item(WAVEFORM_TAG)[1]
            assert isinstance(kind, Record)
            yield self._item(WAVEFORM_TAG, waveform_value(message, kind.fields, self.told))
        elif isinstance(message, ImageMessage):
            tag, value = image_value(message, self.told)
            yield self._item(tag, value)
        elif isinstance(message, Close):
            yield bytearray(b"\0")
        else:
            raise MessageError(
                f"a stream of MRD 2 takes no {type(message).__name__} from Scanside; it takes readouts, waveforms "
                "and images: choose a pipeline that ends with images, or write an ISMRMRD stream"
            )

    def _opening(self, xml: bytes) -> bytearray:
        out = bytearray(MAGIC + struct.pack("<i", FORMAT_VERSION))
        out += varint(len(self._schema.text)) + self._schema.text
        out.append(1)
        write_value(self._schema.header, header_value(xml, self._schema.header, self.told), out, "header")
        return out

    def _readouts(self, block: Readouts) -> Iterator[bytearray]:
        number, kind = self._schema.item("acquisition")
        assert isinstance(kind, Record)
        out = bytearray()
        for item in acquisitions_of(kind, block, self.told):
            out += bytes((1, number))
            out += item
            if len(out) >= _PIECE_BYTES:
                yield out
                out = bytearray()
        if out:
            yield out

    def _item(self, tag: str, value: object) -> bytearray:
        number, kind = self._schema.item(tag)
        out = bytearray((1, number))
        write_value(kind, value, out, tag)
        return out
