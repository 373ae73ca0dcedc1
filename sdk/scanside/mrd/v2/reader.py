"""Reads MRD 2 streams as messages of an ISMRMRD session, acquisitions in blocks."""

from __future__ import annotations

import logging
import struct
from collections import Counter

import numpy as np
import numpy.typing as npt

from scanside.errors import EndOfStream, FileFormatError, MessageError, ScansideError
from scanside.mrd.messages import Close, HeaderXml, ImageMessage, Readouts, Waveform
from scanside.mrd.ring import ReceiveRing
from scanside.mrd.source import Limits
from scanside.mrd.streams import ByteStream
from scanside.mrd.v2.acquisitions import check_acquisitions, readouts_of
from scanside.mrd.v2.header import header_xml
from scanside.mrd.v2.images import IMAGE_TAGS, WAVEFORM_TAG, image_of, waveform_of
from scanside.mrd.v2.layout import Layout, columns_of, layout_of
from scanside.mrd.v2.schemas import VERSIONS, MrdSchema, mrd_schema
from scanside.mrd.v2.source import ItemSource
from scanside.mrd.v2.told import Told
from scanside.mrd.v2.types import Record, Type
from scanside.mrd.v2.values import read_value

__all__ = ["FORMAT_VERSION", "MAGIC", "ItemReader"]

MAGIC = b"yardl"
"""How every yardl stream begins."""

FORMAT_VERSION = 1
"""Of yardl's binary format; the number behind the magic, int32."""

_log = logging.getLogger(__name__)

_MOST_LAYOUTS = 32
_ACQUISITION = "acquisition"


class ItemReader:
    """Reads one item after the other, and consecutive acquisitions that are laid out alike as one block.

    The first message is the header, the last CLOSE, as in an ISMRMRD session. The arrays of a block are valid as
    `scanside.mrd.reader.MessageReader` says. Items that pipelines do not take (buckets, arrays, Pulseq sequences …)
    are counted, told once by their kind, and left out.

    Args:
        stream: where the bytes come from, from the first.
        block_bytes: size of one receive buffer; a block of readouts is at most that large. A single readout that is
            larger comes alone, in memory of its own.
        n_blocks: number of receive buffers.
        max_block_readouts: most readouts in one block, or None for as many as have arrived.
        limits: what lengths on the wire may say.

    Attributes:
        schema: what the stream is written with, once the header has been read.
        told: what the two versions of MRD cannot say of each other.
        left_out: how many items of which kind were left out.
        position: bytes read so far.
        n_messages: items read so far, the header included; every readout counts.
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
        self._ring = ReceiveRing(stream, block_bytes, n_blocks)
        self._block_bytes = block_bytes
        self._max_block_readouts = max_block_readouts
        self.limits = limits or Limits()
        self.schema: MrdSchema | None = None
        self.told = Told()
        self.left_out: Counter[str] = Counter()
        self.position = 0
        self.n_messages = 0
        self._layouts: list[Layout] = []
        self._in_block = 0
        self._broken: ScansideError | None = None
        self._ended = False

    def read(self, deadline: float | None = None) -> HeaderXml | Readouts | Waveform | ImageMessage | Close:
        """Wait for the next item that a pipeline can take.

        Returns as soon as one whole item is there; a block is what has arrived, it is never waited for.

        Args:
            deadline: value of `time.monotonic` until which to wait, or None for the stream's own limit.

        Raises:
            EndOfStream: the peer closed between two items without the mark that ends a stream, or after it.
            IncompleteRead: the peer closed inside an item.
            FileFormatError: this is no stream of MRD 2, or one of a version that cannot be read.
            MessageError: impossible lengths or numbers, or no header; every later call raises it again.
            PeerGone: the connection broke.
            PeerSilent: nothing came in time.
        """
        if self._broken is not None:
            raise self._broken
        self._ring.deadline = deadline
        while True:
            source = ItemSource(self._ring, self.limits, self.position, self.n_messages + 1)
            if self._ended or not self._ring.need(1):
                raise EndOfStream(
                    f"the peer closed the stream after {self.n_messages} items ({self.position} bytes); "
                    + ("nothing follows its end" if self._ended else "the mark of its end was expected")
                )
            try:
                found = self._read_header(source) if self.schema is None else self._read(source, self.schema)
            except (MessageError, FileFormatError) as error:
                self._broken = error
                raise
            except (ArithmeticError, LookupError, MemoryError, TypeError, ValueError) as error:
                # Sizes that no limit has caught and NumPy or the memory does, fields that a schema has not: the
                # stream says them all the same.
                if isinstance(error, ScansideError):
                    raise
                self._broken = source.error(f"it cannot be read ({type(error).__name__}: {error})")
                raise self._broken from error
            if found is not None:
                return found

    def _read_header(self, source: ItemSource) -> HeaderXml:
        source.kind = "the stream's beginning"
        magic = source.own_bytes(len(MAGIC), "magic").tobytes()
        if magic != MAGIC:
            raise FileFormatError(f"no stream of MRD 2: it begins with {magic!r}, expected {MAGIC!r}")
        (version,) = struct.unpack("<i", source.own_bytes(4, "format's version").tobytes())
        if version != FORMAT_VERSION:
            raise FileFormatError(
                f"the stream is written in version {version} of yardl's binary format, and version {FORMAT_VERSION} "
                "is known: write it with an older mrd-python, or update Scanside"
            )
        schema = mrd_schema(source.bytes_of(source.varint("schema's length"), "schema"))
        if schema.version is None:
            self.told.once(
                f"the MRD 2 stream has another schema than MRD {' and '.join(VERSIONS)}: it is read by its own"
            )
        kind = schema.items.cases[schema.tags.get(_ACQUISITION, 0)][1]
        if _ACQUISITION not in schema.tags or not isinstance(kind, Record):
            raise FileFormatError(
                f"the schema of the MRD 2 stream has no acquisitions among its items ({', '.join(schema.tags)}); "
                f"expected MRD {' or '.join(VERSIONS)}"
            )
        check_acquisitions(kind, self.told)
        source.kind = "header"
        mark = source.byte("header's mark")
        if mark != 1:
            raise source.error(
                "the stream has no header: matrix and field of view are unknown; have the converter write one"
                if mark == 0
                else f"the mark that says whether a header follows must be 0 or 1, found {mark}"
            )
        value = read_value(schema.header, source, "header")
        self.schema = schema
        self._account(1, source.size)
        return HeaderXml(header_xml(value, schema.header, self.told))

    def _account(self, n: int, n_bytes: int) -> None:
        self.n_messages += n
        self.position += n_bytes

    def _read(
        self, source: ItemSource, schema: MrdSchema
    ) -> Readouts | Waveform | ImageMessage | Close | None:
        """The next item; None for one that is left out."""
        if not self._in_block:
            self._in_block = source.varint("number of items")
            if not self._in_block:
                self._account(0, source.size)
                self._ended = True
                self._tell_left_out()
                return Close()
        number = source.byte("kind")
        if number >= len(schema.items.cases):
            raise source.error(
                f"it is of kind {number}, and {schema.name} has {len(schema.items.cases)} (numbered from 0); "
                "the stream is damaged"
            )
        tag, kind = schema.items.cases[number]
        source.kind = tag
        assert kind is not None
        if tag.lower() == _ACQUISITION:
            assert isinstance(kind, Record)
            return self._read_acquisitions(source, number, kind)
        value = read_value(kind, source, tag)
        self._in_block -= 1
        self._account(1, source.size)
        if tag.lower() == WAVEFORM_TAG:
            return waveform_of(value, self.told)
        if tag.lower() in IMAGE_TAGS.values():
            return image_of(value, self.told)
        if not self.left_out[tag]:
            self.told.once(
                f"the MRD 2 stream holds items that pipelines do not take, and they are left out: {tag}"
            )
        self.left_out[tag] += 1
        return None

    def _tell_left_out(self) -> None:
        if self.left_out:
            _log.warning(
                "of the MRD 2 stream were left out: %s",
                ", ".join(f"{n} {tag}" for tag, n in self.left_out.items()),
            )

    def _read_acquisitions(self, source: ItemSource, number: int, kind: Record) -> Readouts:
        prefix_bytes = source.size
        layout = self._known_layout(source) or self._new_layout(source, kind)
        if layout is None:
            value = read_value(kind, source, "readout")
            self._in_block -= 1
            self._account(1, source.size)
            return readouts_of(columns_of(kind, value), self.told)
        self._check_size(source, layout.size)
        arrived = len(source.look(layout.size, "readout"))
        # Between two items stands the second one's kind, and before it a number of items where a block begins.
        between = [number] if self._in_block > 1 else [1, number]
        stride = layout.size + len(between)
        n = min(1 + (arrived - layout.size) // stride, self._max_block_readouts or arrived)
        n = min(n, self._in_block) if self._in_block > 1 else n
        if n > 1:
            rows = np.ndarray(
                (n - 1, stride), np.uint8, self._ring.block.data, self._ring.start + layout.size, (stride, 1)
            )
            n = 1 + _n_like(rows, between, layout)
        columns = layout.columns(self._ring.block, self._ring.start, n, stride)
        n_bytes = layout.size + (n - 1) * stride
        self._ring.lend(n_bytes)
        # Blocks of one item each are all begun and ended; of a longer one, what was taken is.
        self._in_block = self._in_block - n if self._in_block > 1 else 0
        self._account(n, prefix_bytes + n_bytes)
        return readouts_of(columns, self.told)

    def _known_layout(self, source: ItemSource) -> Layout | None:
        """The layout, if it is one of the last ones."""
        for i, layout in enumerate(self._layouts):
            data = source.look(1, "readout")
            while layout.begins(data):
                if len(data) >= layout.size:
                    self._layouts.insert(0, self._layouts.pop(i))
                    return layout
                # So far it is: then it goes on, and one more byte can be waited for.
                data = source.look(len(data) + 1, "readout", layout.size)
        return None

    def _new_layout(self, source: ItemSource, kind: Type) -> Layout | None:
        layout = layout_of(kind, source, self._block_bytes)
        if layout is not None:
            self._layouts.insert(0, layout)
            del self._layouts[_MOST_LAYOUTS:]
        return layout

    def _check_size(self, source: ItemSource, size: int) -> None:
        if size > self.limits.max_readout_bytes:
            raise source.error(
                f"it would take {size} bytes, but a readout has at most {self.limits.max_readout_bytes}; the stream "
                "is damaged, or raise Limits.max_readout_bytes"
            )


def _n_like(rows: npt.NDArray[np.uint8], between: list[int], layout: Layout) -> int:
    """How many rows, of what stands between two items and the second item, are like the first item."""
    begun = (rows[:, : len(between)] == np.array(between, np.uint8)).all(axis=1)
    n = len(rows) if begun.all() else int(begun.argmin())
    return layout.n_equal(rows[:n, len(between) :])
