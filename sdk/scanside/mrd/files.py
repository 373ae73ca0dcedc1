"""Recorded scans: ISMRMRD HDF5 files, ISMRMRD and MRD 2 streams, in files or pipes, known by their first bytes."""

from __future__ import annotations

import gzip
import io
import lzma
import sys
import zlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, cast

import h5py

from scanside.errors import FileFormatError, IncompleteRead, MessageError, PeerReported
from scanside.mrd.hdf5 import SIGNATURE, Hdf5Reader
from scanside.mrd.messages import (
    Close,
    ConfigFile,
    ConfigText,
    Data,
    ErrorText,
    HeaderXml,
    Message,
    MessageId,
    Readouts,
    Text,
)
from scanside.mrd.peers import reported_error
from scanside.mrd.reader import MessageReader
from scanside.mrd.streams import FileStream
from scanside.mrd.v2.reader import MAGIC, ItemReader
from scanside.mrd.v2.schemas import MrdSchema
from scanside.mrd.v2.writer import ItemWriter
from scanside.mrd.writer import MessageWriter

__all__ = ["Hdf5Recording", "Recording", "StreamRecording", "StreamWriter", "open_recording"]

_OPENINGS = (MessageId.CONFIG_FILE, MessageId.CONFIG, MessageId.HEADER)


class Recording(ABC):
    """A recorded scan; a context manager."""

    @property
    @abstractmethod
    def header_xml(self) -> bytes:
        """The scan's XML header.

        Raises:
            FileFormatError: an HDF5 file has none.
        """

    @property
    def config(self) -> ConfigFile | ConfigText | None:
        """The configuration that was recorded with the scan, where there is one."""
        return None

    @property
    def texts(self) -> list[str]:
        """TEXT messages that were recorded with the scan, as far as it has been read."""
        return []

    @property
    def n_readouts(self) -> int | None:
        """How many readouts there are, where that is known before they are read."""
        return None

    @abstractmethod
    def items(self, max_readouts: int = 256) -> Iterator[Data]:
        """The scan in the order in which it was sent, to be read once.

        Args:
            max_readouts: most readouts in a block.

        Yields:
            Blocks of readouts, waveforms, images, and what else a stream holds. The arrays of a block are valid
            until the next item is asked for; copy what is to be kept.

        Raises:
            FormatError: what is there is not what it should be.
            EndOfStream: a stream ends without CLOSE: whoever recorded it stopped early.
            IncompleteRead: a stream stops inside a message.
            PeerReported: the recorded session ended with an error.
        """

    @abstractmethod
    def close(self) -> None:
        """Close the file."""

    def __enter__(self) -> Recording:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def open_recording(path: str | Path, group: str | None = None) -> Recording:
    """Open a recorded scan, whatever its name ends in.

    Args:
        path: an ISMRMRD HDF5 file, or an ISMRMRD or MRD 2 stream, also compressed with xz or gzip; ``-`` is standard
            input, for streams.
        group: name of the group to read of an HDF5 file; by default ``dataset`` or the only one, see `Hdf5Reader`.

    Raises:
        FileFormatError: it is none of them; the message shows how it begins.
        MessageError: a stream holds data before a header.
        FileNotFoundError: there is no such file.
    """
    if str(path) == "-":
        # Whoever started this process owns its standard input: it stays open.
        return StreamRecording(io.FileIO(sys.stdin.fileno(), closefd=False), "standard input")
    path = Path(path)
    file = path.open("rb", buffering=0)
    # Opened a second time, a named pipe would wait for a second writer.
    if path.is_file() and h5py.is_hdf5(path):
        file.close()
        return Hdf5Recording(Hdf5Reader(path, group))
    return StreamRecording(file, str(path))


class Hdf5Recording(Recording):
    """A group of an ISMRMRD HDF5 file; blocks stay valid."""

    def __init__(self, reader: Hdf5Reader) -> None:
        self._reader = reader

    @property
    def group(self) -> str:
        """Name of the group."""
        return self._reader.group

    @property
    def header_xml(self) -> bytes:
        """See `Recording.header_xml`."""
        return self._reader.header_xml

    @property
    def n_readouts(self) -> int:
        """See `Recording.n_readouts`."""
        return self._reader.n_readouts

    def items(self, max_readouts: int = 256) -> Iterator[Data]:
        """See `Recording.items`; can be read more than once."""
        return self._reader.items(max_readouts)

    def close(self) -> None:
        """See `Recording.close`."""
        self._reader.close()


class StreamRecording(Recording):
    """An ISMRMRD stream: configuration (may be absent), header, data, CLOSE; or an MRD 2 stream, read as one.

    Args:
        file: where its bytes are read, from the first; closed with the recording.
        name: what to call it in errors.

    Raises:
        FileFormatError: it does not begin as a stream does.
        MessageError: data come before a header.
    """

    def __init__(self, file: BinaryIO | io.RawIOBase, name: str) -> None:
        self._name = name
        self._config: ConfigFile | ConfigText | None = None
        self._texts: list[str] = []
        plain, is_mrd2 = _plain(file, name)
        self._stream = FileStream(plain)
        self._reader = ItemReader(self._stream) if is_mrd2 else MessageReader(self._stream)
        self._ended = False
        try:
            self._header_xml = self._read_header()
        except BaseException:
            self.close()
            raise

    @property
    def header_xml(self) -> bytes:
        """See `Recording.header_xml`."""
        return self._header_xml

    @property
    def config(self) -> ConfigFile | ConfigText | None:
        """See `Recording.config`."""
        return self._config

    @property
    def schema(self) -> MrdSchema | None:
        """What an MRD 2 stream is written with; None for an ISMRMRD stream."""
        return self._reader.schema if isinstance(self._reader, ItemReader) else None

    @property
    def n_bytes(self) -> int:
        """How much of the stream, as it is when decompressed, has been read."""
        return self._reader.position

    @property
    def texts(self) -> list[str]:
        """See `Recording.texts`."""
        return self._texts

    def items(self, max_readouts: int = 256) -> Iterator[Data]:
        """See `Recording.items`."""
        while not self._ended:
            message = self._reader.read()
            if isinstance(message, Close):
                self._ended = True
            elif isinstance(message, (Text, ErrorText)):
                if (error := reported_error(message)) is not None:
                    raise PeerReported(f"{self._name} records a session that failed: {error}")
                self._texts.append(message.text)
            elif isinstance(message, (ConfigFile, ConfigText, HeaderXml)):
                raise self._out_of_place(message, "data or CLOSE")
            elif isinstance(message, Readouts):
                for first in range(0, len(message), max_readouts):
                    yield message.select(slice(first, first + max_readouts))
            else:
                yield message

    def close(self) -> None:
        """See `Recording.close`."""
        self._stream.close()

    def _read_header(self) -> bytes:
        while True:
            message = self._reader.read()
            if isinstance(message, HeaderXml):
                return message.xml
            if not isinstance(message, (ConfigFile, ConfigText)):
                raise self._out_of_place(message, "the scan's header")
            self._config = message

    def _out_of_place(self, message: Message, expected: str) -> MessageError:
        return MessageError(
            f"{self._name}: {type(message).__name__} as message {self._reader.n_messages} of the stream, where "
            f"{expected} was expected"
        )


class StreamWriter:
    """Saves a scan as an ISMRMRD or MRD 2 stream; a context manager.

    An error inside the ``with`` block leaves the stream without its CLOSE, so that readers see that it is not
    whole.

    Args:
        path: the file, compressed if its name ends in ``.xz`` or ``.gz``; ``-`` is standard output. Or a file that is
            open; it is closed with the stream.
        header_xml: the scan's header.
        config: a configuration to begin with; MRD 2 has none.
        schema: the version of MRD 2 to write; None for an ISMRMRD stream.
    """

    def __init__(
        self,
        path: str | Path | BinaryIO,
        header_xml: bytes,
        config: ConfigFile | ConfigText | None = None,
        schema: MrdSchema | None = None,
    ) -> None:
        self._stream = FileStream(None, _open_writer(path))
        self._writer = MessageWriter(self._stream) if schema is None else ItemWriter(self._stream, schema)
        self._writer.write(*([config] if config else []), HeaderXml(header_xml))
        self._open = True

    def __enter__(self) -> StreamWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self.close()
        else:
            self._stream.close()

    def write(self, item: Data) -> None:
        """Append an item.

        Raises:
            MessageError: the item's parts do not agree.
            PeerGone: the reader of a pipe has left.
        """
        self._writer.write(item)

    def close(self) -> None:
        """Write CLOSE and close the file."""
        if self._open:
            self._open = False
            self._writer.write(Close())
            self._stream.close()


def _open_writer(path: str | Path | BinaryIO) -> BinaryIO:
    if not isinstance(path, (str, Path)):
        return path
    if str(path) == "-":
        return cast(BinaryIO, io.FileIO(sys.stdout.fileno(), "w", closefd=False))
    opener: Any = {".xz": lzma.open, ".gz": gzip.open}.get(Path(path).suffix, open)
    return cast(BinaryIO, opener(path, "wb"))


def _plain(file: BinaryIO | io.RawIOBase, name: str) -> tuple[io.RawIOBase, bool]:
    """The bytes of a stream from the first, decompressed if need be, and whether it is one of MRD 2.

    Raises:
        FileFormatError: they are not those of a stream.
        IncompleteRead: they are compressed and cut short.
    """
    opened: BinaryIO | io.RawIOBase = file
    try:
        first = _first(file)
        opened = plain = _Refilled(first, file)
        if unpack := _UNPACK.get(first[:2]):
            packed = _Unpacked(unpack(plain), plain, name)
            first = _first(packed)
            opened = plain = _Refilled(first, packed)
        is_mrd2 = first.startswith(MAGIC)
        if not is_mrd2 and (len(first) < 2 or int.from_bytes(first[:2], "little") not in _OPENINGS):
            hint = ""
            if first == SIGNATURE:
                hint = "; it is HDF5, which can be read neither from a pipe nor compressed: give a plain file"
            raise FileFormatError(
                f"{name} is neither an ISMRMRD HDF5 file nor an ISMRMRD stream, nor one of MRD 2: it begins with "
                f"{first!r}; expected {SIGNATURE!r}, as first two bytes the message id 1, 2 or 3 (little endian), or "
                f"{MAGIC!r}{hint}"
            )
    except BaseException:
        opened.close()
        raise
    return plain, is_mrd2


def _first(file: BinaryIO | io.RawIOBase) -> bytes:
    """The first bytes; fewer if there are not that many. A pipe may hand them over one by one."""
    first = b""
    while len(first) < len(SIGNATURE) and (more := file.read(len(SIGNATURE) - len(first))):
        first += more
    return first


class _Refilled(io.RawIOBase):
    """A file into which the first bytes were put back."""

    def __init__(self, first: bytes, file: BinaryIO | io.RawIOBase) -> None:
        self._first = first
        self._file: Any = file

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        if not self._first:
            return cast("int | None", self._file.readinto(buffer))
        n = min(len(buffer), len(self._first))
        buffer[:n], self._first = self._first[:n], self._first[n:]
        return n

    def close(self) -> None:
        self._file.close()
        super().close()


class _Unpacked(io.RawIOBase):
    """A decompressing file whose errors are ours, closed together with the file under it."""

    def __init__(self, unpacking: io.BufferedIOBase, packed: io.RawIOBase, name: str) -> None:
        self._unpacking = unpacking
        self._packed = packed
        self._name = name

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        try:
            # Plain `readinto` would wait until the buffer is full.
            return self._unpacking.readinto1(buffer)
        except (lzma.LZMAError, zlib.error, gzip.BadGzipFile) as error:
            raise FileFormatError(f"{self._name} is damaged: it cannot be decompressed ({error})") from error
        except EOFError as error:
            raise IncompleteRead(f"{self._name} is cut short: {error}") from error

    def close(self) -> None:
        self._unpacking.close()
        self._packed.close()
        super().close()


_UNPACK: dict[bytes, Callable[[Any], Any]] = {
    b"\xfd7": lzma.LZMAFile,
    b"\x1f\x8b": lambda packed: gzip.GzipFile(fileobj=packed),
}
"""How to decompress, by the first two bytes of the format."""
