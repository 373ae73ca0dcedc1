"""A stream on its way to the disk, without what could name a person; message for message, and as long as it was.

Nothing is decoded but what has to be looked at: bytes of readouts and images go through as they come, in pieces. So a
stream that breaks off, or that nobody can read, is recorded as far as it is understood.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Collection, Generator, Iterator
from math import prod

import numpy as np

from scanside.errors import HeaderError, MessageError
from scanside.mrd.decoding import CONFIG_FILE_BYTES
from scanside.mrd.dtypes import (
    ACQUISITION_HEADER,
    IMAGE_DTYPES,
    IMAGE_HEADER,
    SAMPLING_DESCRIPTION,
    WAVEFORM_HEADER,
    Headers,
)
from scanside.mrd.messages import MessageId
from scanside.mrd.reader import n_equal_readouts
from scanside.mrd.records import ReadoutShape
from scanside.mrd.source import Limits
from scanside.privacy import (
    Vocabulary,
    clean_attributes,
    clean_name,
    clean_settings,
    masked,
    without_identity,
)

__all__ = ["Cleaner"]

_LARGEST_OPENING = 64 << 20
_LARGEST_TEXT = 16 << 20
"""Longer texts are masked without being looked at, so that little is held in memory."""

_KNOWN_WAVEFORMS = 5
"""ECG, pulse, breathing and two triggers: the standard's first kinds. What others hold nobody knows."""

_READOUT_HEAD = 2 + ACQUISITION_HEADER.itemsize


class _Ended(Exception):
    """The stream has no more bytes."""


class Cleaner:
    """Cleans one stream.

    Args:
        vocabulary: what configurations, parameters and attributes may say.
        keep: names of header elements, parameters, settings and attributes that stay as they are.
        limits: what lengths on the wire may say.
    """

    def __init__(
        self, vocabulary: Vocabulary, keep: Collection[str] = (), limits: Limits | None = None
    ) -> None:
        self._vocabulary = vocabulary
        self._keep = keep
        self._limits = limits or Limits()
        self._pieces: Iterator[bytes] = iter(())
        self._held, self._at = b"", 0
        self._position = 0

    def clean(self, pieces: Iterator[bytes]) -> Iterator[bytes]:
        """What may be written of a stream that comes in pieces; nothing before its header is there.

        Raises:
            HeaderError: the header cannot be read, so that names may be anywhere in it, or none came before the data.
            MessageError: nobody can tell what comes next in the stream, so it ends here.
        """
        self._pieces = pieces
        opening: list[bytes] | None = []
        try:
            while True:
                kind = self._kind()
                if opening is None:
                    yield from self._message(kind)
                    continue
                opening += self._opening_message(kind)
                if kind == MessageId.HEADER:
                    yield b"".join(opening)
                    opening = None
                elif sum(map(len, opening)) > _LARGEST_OPENING:
                    raise MessageError(
                        f"no header came within the first {_LARGEST_OPENING} bytes of the stream"
                    )
        except _Ended:
            # What is left is numbers: of a head that did not come to its end.
            if opening is None:
                yield self._held[self._at :]

    # Messages

    def _opening_message(self, kind: int) -> Iterator[bytes]:
        if kind not in (MessageId.CONFIG_FILE, MessageId.CONFIG, MessageId.HEADER, MessageId.TEXT):
            raise HeaderError(f"a message of kind {kind} came before the header")
        if kind == MessageId.HEADER:
            return self._text("<I", self._header)
        return self._message(kind)

    def _message(self, kind: int) -> Iterator[bytes]:
        if kind == MessageId.CONFIG_FILE:
            yield self._take(2)
            yield from self._cleaned(CONFIG_FILE_BYTES, self._name)
        elif kind == MessageId.HEADER:
            yield from self._text("<I", self._later_header)
        elif kind in (MessageId.CONFIG, MessageId.TEXT):
            yield from self._text("<I", self._settings)
        elif kind == MessageId.ERROR:
            yield from self._text("<Q", masked)
        elif kind == MessageId.CLOSE:
            yield self._take(2)
        elif kind == MessageId.ACQUISITION:
            yield from self._readouts()
        elif kind == MessageId.WAVEFORM:
            yield self._take(2)
            yield from self._waveform()
        elif kind == MessageId.IMAGE:
            yield from self._image()
        elif kind == MessageId.IMAGE_ARRAY:
            yield from self._image_array()
        elif kind == MessageId.RECON_DATA:
            yield from self._recon_data()
        elif kind == MessageId.BUCKET:
            yield from self._bucket()
        else:
            yield self._take(2)
            raise self._stop(f"nobody knows messages of kind {kind}")

    def _name(self, name: bytes) -> bytes:
        return clean_name(name, self._vocabulary)

    def _header(self, xml: bytes) -> bytes:
        return without_identity(xml, self._keep)

    def _later_header(self, xml: bytes) -> bytes:
        try:
            return self._header(xml)
        except HeaderError:
            return masked(xml)

    def _settings(self, text: bytes) -> bytes:
        return clean_settings(text, self._vocabulary, self._keep)

    def _attributes(self, text: bytes) -> bytes:
        return clean_attributes(text, self._vocabulary, self._keep)

    def _readouts(self) -> Iterator[bytes]:
        """A readout, and all behind it of the same shape that are there already."""
        self._need(_READOUT_HEAD)
        shape = ReadoutShape.of(np.frombuffer(self._held, ACQUISITION_HEADER, 1, self._at + 2)[0])
        size = shape.message_bytes
        if size > self._limits.max_message_bytes:
            yield self._take(_READOUT_HEAD)
            raise self._stop(f"a readout would take {size} bytes")
        n = (len(self._held) - self._at) // size
        if n > 1:
            n = n_equal_readouts(np.frombuffer(self._held, np.uint8), self._at, n, shape)
        yield from self._copy(max(n, 1) * size)

    def _waveform(self) -> Iterator[bytes]:
        """A waveform behind its id. What may hold text is zero: padding, and samples of unknown kinds."""
        header = np.frombuffer(self._take(WAVEFORM_HEADER.itemsize), WAVEFORM_HEADER)
        yield _without_padding(header)
        yield from self._waveform_samples(header[0])

    def _waveform_samples(self, header: np.void) -> Iterator[bytes]:
        size = 4 * int(header["channels"]) * int(header["number_of_samples"])
        for piece in self._copy(size):
            yield piece if header["waveform_id"] < _KNOWN_WAVEFORMS else bytes(len(piece))

    def _image(self) -> Iterator[bytes]:
        head = self._take(2 + IMAGE_HEADER.itemsize)
        yield head
        header = np.frombuffer(head, IMAGE_HEADER, offset=2)[0]
        dtype = IMAGE_DTYPES.get(int(header["data_type"]))
        if dtype is None:
            raise self._stop(f"an image has the unknown data type {int(header['data_type'])}")
        yield from self._text("<Q", self._attributes, 0)
        yield from self._copy(
            prod(header["matrix_size"].tolist(), start=dtype.itemsize * int(header["channels"]))
        )

    def _image_array(self) -> Iterator[bytes]:
        yield self._take(2)
        yield from self._array(8)
        yield from self._array(IMAGE_HEADER.itemsize)
        for _ in (yield from self._count()):
            yield from self._text("<Q", self._attributes, 0)
        if (yield from self._flag()):
            for _ in (yield from self._count()):
                # Some peers put a message id before each, and others do not.
                if self._kind() == MessageId.WAVEFORM:
                    yield self._take(2)
                yield from self._waveform()
        if (yield from self._flag()):
            yield from self._array(ACQUISITION_HEADER.itemsize)

    def _recon_data(self) -> Iterator[bytes]:
        yield self._take(2)
        for _ in (yield from self._count()):
            yield from self._recon_buffer()
            if (yield from self._flag()):
                yield from self._recon_buffer()

    def _recon_buffer(self) -> Iterator[bytes]:
        yield from self._array(8)
        if (yield from self._flag()):
            yield from self._array(4)
        if (yield from self._flag()):
            yield from self._array(4)
        yield from self._array(ACQUISITION_HEADER.itemsize)
        # Its last two bytes are padding.
        yield self._take(SAMPLING_DESCRIPTION.itemsize)[:-2] + b"\0\0"

    def _bucket(self) -> Iterator[bytes]:
        yield self._take(2)
        table = self._take(13 * 8)
        yield table
        sizes = struct.unpack("<13Q", table)
        for n_bytes in (sum(sizes[1:4]), sizes[8], sum(sizes[5:8]), sizes[9]):
            yield from self._copy(n_bytes)
        headers = np.frombuffer(self._take(sizes[10] * WAVEFORM_HEADER.itemsize), WAVEFORM_HEADER)
        yield _without_padding(headers)
        for header in headers:
            yield from self._waveform_samples(header)

    # Parts of messages

    def _text(self, length_code: str, clean: Callable[[bytes], bytes], n_before: int = 2) -> Iterator[bytes]:
        """A text behind other bytes and its length."""
        head = self._take(n_before + struct.calcsize(length_code))
        yield head
        (n,) = struct.unpack_from(length_code, head, n_before)
        if n <= _LARGEST_TEXT:
            yield from self._cleaned(n, clean)
        else:
            for piece in self._copy(n):
                yield masked(piece)

    def _cleaned(self, n: int, clean: Callable[[bytes], bytes]) -> Iterator[bytes]:
        """The next bytes, cleaned as a whole; masked where they do not all come."""
        try:
            yield clean(self._take(n))
        except _Ended:
            yield masked(self._held)
            self._held = b""
            raise

    def _array(self, item_bytes: int) -> Iterator[bytes]:
        n_dimensions = self._take(8)
        yield n_dimensions
        (n,) = struct.unpack("<Q", n_dimensions)
        if n > self._limits.max_ndim:
            raise self._stop(f"an array would have {n} dimensions")
        sizes = self._take(8 * n)
        yield sizes
        yield from self._copy(prod(struct.unpack(f"<{n}Q", sizes), start=item_bytes) if n else 0)

    def _flag(self) -> Generator[bytes, None, bool]:
        """The mark of an optional part; whether that follows."""
        mark = self._take(1)
        yield mark
        if mark[0] > 1:
            raise self._stop(f"the mark of an optional part is {mark[0]}")
        return mark[0] == 1

    def _count(self) -> Generator[bytes, None, range]:
        """How many items follow."""
        number = self._take(8)
        yield number
        return range(int.from_bytes(number, "little"))

    def _stop(self, why: str) -> MessageError:
        return MessageError(
            f"nothing is recorded from byte {self._position} on, as names could be anywhere in it: {why}"
        )

    # Bytes

    def _kind(self) -> int:
        self._need(2)
        return int.from_bytes(self._held[self._at : self._at + 2], "little")

    def _need(self, n: int) -> None:
        """Have ``n`` bytes at hand."""
        here = len(self._held) - self._at
        if here >= n:
            return
        parts = [self._held[self._at :]]
        try:
            while here < n:
                parts.append(next(self._pieces))
                here += len(parts[-1])
        except StopIteration:
            raise _Ended from None
        finally:
            self._held, self._at = b"".join(parts), 0

    def _take(self, n: int) -> bytes:
        """The next bytes, which are few."""
        if n > _LARGEST_TEXT:
            raise self._stop(f"a head would take {n} bytes")
        self._need(n)
        taken = self._held[self._at : self._at + n]
        self._at += n
        self._position += n
        return taken

    def _copy(self, n: int) -> Iterator[bytes]:
        """The next bytes, which may be many, as they come."""
        if n > self._limits.max_message_bytes:
            raise self._stop(f"a message would take {n} bytes")
        while n:
            self._need(1)
            piece = self._held[self._at : self._at + n]
            self._at += len(piece)
            self._position += len(piece)
            n -= len(piece)
            yield piece


def _without_padding(headers: Headers) -> bytes:
    """Waveforms' headers with nothing between their fields."""
    cleaned = np.zeros(
        len(headers), WAVEFORM_HEADER
    )  # zeros_like would leave what was in memory between them
    for name in headers.dtype.names or ():
        cleaned[name] = headers[name]
    return cleaned.tobytes()
