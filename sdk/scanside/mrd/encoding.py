"""From messages to bytes."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Iterator
from dataclasses import fields
from typing import Any

import numpy as np
import numpy.typing as npt

from scanside.errors import MessageError
from scanside.mrd.decoding import CONFIG_FILE_BYTES
from scanside.mrd.dtypes import (
    ACQUISITION_HEADER,
    IMAGE_DTYPES,
    IMAGE_HEADER,
    SAMPLING_DESCRIPTION,
    WAVEFORM_HEADER,
)
from scanside.mrd.messages import (
    Bucket,
    Close,
    ConfigFile,
    ConfigText,
    CounterSets,
    ErrorText,
    HeaderXml,
    ImageArray,
    ImageMessage,
    Message,
    MessageId,
    Readouts,
    ReconBuffer,
    ReconData,
    Text,
    Waveform,
)
from scanside.mrd.records import SHAPE_FIELDS, ReadoutShape, acquisition_record
from scanside.mrd.streams import BytesLike

__all__ = ["pieces"]

_PIECE_BYTES = 1 << 20
"""A large block of readouts is assembled and sent in pieces of about this size, which stay in the cache."""


def pieces(message: Message) -> Iterator[BytesLike]:
    """A message's bytes in order, in pieces; arrays that need no rearranging are not copied.

    All checks come before the first piece, so a message that cannot be written leaves the stream as it was.

    Raises:
        MessageError: the message's parts do not agree with one another.
    """
    encoder: Callable[[Any], Iterator[BytesLike]] = _ENCODERS[type(message)]
    return encoder(message)


def _id(kind: MessageId) -> bytes:
    return struct.pack("<H", kind)


def _uint64(*values: int) -> bytes:
    return struct.pack(f"<{len(values)}Q", *values)


def _raw(array: npt.NDArray[Any], dtype: npt.DTypeLike | None = None) -> memoryview:
    """An array's memory in C order, converted to ``dtype`` where it is given."""
    return np.ascontiguousarray(array, dtype).reshape(-1).view(np.uint8).data


def _utf8(text: str) -> bytes:
    return text.encode("utf-8", errors="backslashreplace")


def _short_text(kind: MessageId, text: bytes, nul: bool) -> Iterator[bytes]:
    text += b"\0" * nul
    if len(text) >= 1 << 32:
        raise MessageError(f"a {kind.name} message holds less than 4 GiB, got {len(text)} bytes")
    return iter([_id(kind) + struct.pack("<I", len(text)) + text])


def _config_file(message: ConfigFile) -> Iterator[bytes]:
    name = _utf8(message.name)
    if len(name) >= CONFIG_FILE_BYTES or b"\0" in name:
        raise MessageError(
            f"the name of a configuration has at most {CONFIG_FILE_BYTES - 1} bytes and no NUL, "
            f"got {len(name)} bytes: {message.name[:80]!r}"
        )
    return iter([_id(MessageId.CONFIG_FILE) + name.ljust(CONFIG_FILE_BYTES, b"\0")])


def _config(message: ConfigText) -> Iterator[bytes]:
    return _short_text(MessageId.CONFIG, message.xml, message.nul)


def _header(message: HeaderXml) -> Iterator[bytes]:
    return _short_text(MessageId.HEADER, message.xml, message.nul)


def _text(message: Text) -> Iterator[bytes]:
    return _short_text(MessageId.TEXT, _utf8(message.text), message.nul)


def _error(message: ErrorText) -> Iterator[bytes]:
    text = _utf8(message.text)
    return iter([_id(MessageId.ERROR) + _uint64(len(text)) + text])


def _close(message: Close) -> Iterator[bytes]:  # noqa: ARG001
    return iter([_id(MessageId.CLOSE)])


def _readouts(message: Readouts) -> Iterator[BytesLike]:
    shape = _checked_shape(message)
    if shape is None:
        return iter(())
    return _assembled(message, acquisition_record(shape))


def _assembled(message: Readouts, record: np.dtype[Any]) -> Iterator[BytesLike]:
    """The block's messages, a piece at a time."""
    rows = max(1, _PIECE_BYTES // record.itemsize)
    for start in range(0, len(message), rows):
        part = message.select(slice(start, start + rows))
        records = np.empty(len(part), record)
        records["id"] = MessageId.ACQUISITION
        records["header"] = part.headers
        records["samples"] = part.samples
        if part.trajectory is not None and "trajectory" in (record.names or ()):
            records["trajectory"] = part.trajectory
        yield _raw(records)


def _checked_shape(block: Readouts) -> ReadoutShape | None:
    """The shape of a block's readouts, which its headers must announce too; None for an empty block."""
    if not len(block):
        return None
    if block.headers.dtype != ACQUISITION_HEADER:
        raise MessageError(f"a block's headers must be of ACQUISITION_HEADER, got {block.headers.dtype}")
    _, n_coils, n_samples = block.samples.shape
    n_dimensions = 0
    if block.trajectory is not None:
        if block.trajectory.ndim != 3 or block.trajectory.shape[1] != n_samples:
            raise MessageError(
                f"a trajectory for {n_samples} samples must be (n, sample, dimension), "
                f"got {block.trajectory.shape}"
            )
        n_dimensions = block.trajectory.shape[2]
    shape = ReadoutShape(n_samples, n_coils, n_dimensions)
    for name, value in zip(SHAPE_FIELDS, shape, strict=True):
        wrong = np.flatnonzero(block.headers[name] != value)
        if len(wrong):
            raise MessageError(
                f"the header of readout {wrong[0]} of {len(block)} says {name} = "
                f"{block.headers[name][wrong[0]]}, but its arrays have {value}"
            )
    return shape


def _waveform(message: Waveform) -> Iterator[BytesLike]:
    return iter([_id(MessageId.WAVEFORM), *_waveform_parts(message)])


def _waveform_parts(waveform: Waveform) -> tuple[bytes, memoryview]:
    announced = int(waveform.header["channels"]), int(waveform.header["number_of_samples"])
    if waveform.data.shape != announced:
        raise MessageError(
            f"a waveform's header announces data (channel, sample) = {announced}, "
            f"but they are {waveform.data.shape}"
        )
    return waveform.header.tobytes(), _raw(waveform.data, "<u4")


def _image(message: ImageMessage) -> Iterator[BytesLike]:
    header, data = message.header, message.data
    announced = IMAGE_DTYPES.get(int(header["data_type"]))
    shape = (int(header["channels"]), *(int(size) for size in header["matrix_size"][::-1]))
    if data.shape != shape or data.dtype != announced:
        raise MessageError(
            f"an image's header announces {announced} data (channel, z, y, x) = {shape}, "
            f"but they are {data.dtype} {data.shape}; ImageMessage.from_array makes them agree"
        )
    attributes = message.attributes + b"\0" * message.nul
    prefix = _id(MessageId.IMAGE) + header.tobytes() + _uint64(len(attributes)) + attributes
    return iter([prefix, _raw(data)])


def _array(array: npt.NDArray[Any], dtype: npt.DTypeLike, what: str) -> list[BytesLike]:
    """An array with its sizes in front, the fastest dimension first."""
    wanted = np.dtype(dtype)
    if wanted.names and array.dtype != wanted:
        raise MessageError(f"the {what} must be of type {wanted}, got {array.dtype}")
    return [_uint64(array.ndim, *array.shape[::-1]), _raw(array, wanted)]


def _image_array(message: ImageArray) -> Iterator[BytesLike]:
    parts: list[BytesLike] = [_id(MessageId.IMAGE_ARRAY)]
    parts += _array(message.data, "<c8", "images")
    parts += _array(message.headers, IMAGE_HEADER, "image headers")
    parts.append(_uint64(len(message.meta)))
    for attributes in message.meta:
        parts += [_uint64(len(attributes)), attributes]
    if message.waveforms is None:
        parts.append(b"\0")
    else:
        parts += [b"\1", _uint64(len(message.waveforms))]
        for waveform in message.waveforms:
            parts += _waveform_parts(waveform)
    if message.acquisition_headers is None:
        parts.append(b"\0")
    else:
        parts += [b"\1", *_array(message.acquisition_headers, ACQUISITION_HEADER, "acquisition headers")]
    return iter(parts)


def _recon_data(message: ReconData) -> Iterator[BytesLike]:
    parts: list[BytesLike] = [_id(MessageId.RECON_DATA), _uint64(len(message.bits))]
    for bit in message.bits:
        parts += _recon_buffer(bit.data)
        parts += [b"\0"] if bit.reference is None else [b"\1", *_recon_buffer(bit.reference)]
    return iter(parts)


def _recon_buffer(buffer: ReconBuffer) -> list[BytesLike]:
    if buffer.sampling.dtype != SAMPLING_DESCRIPTION:
        raise MessageError(
            f"a sampling description must be of SAMPLING_DESCRIPTION, got {buffer.sampling.dtype}"
        )
    parts = _array(buffer.data, "<c8", "k-space data")
    for array, what in ((buffer.trajectory, "trajectory"), (buffer.density, "density weights")):
        parts += [b"\0"] if array is None else [b"\1", *_array(array, "<f4", what)]
    parts += _array(buffer.headers, ACQUISITION_HEADER, "acquisition headers")
    parts.append(buffer.sampling.tobytes())
    return parts


def _bucket(message: Bucket) -> Iterator[BytesLike]:
    data_sizes, data = _bundle(message.data)
    reference_sizes, reference = _bundle(message.reference)
    data_stats = _stats(message.data_stats)
    reference_stats = _stats(message.reference_stats)
    waveforms = [_waveform_parts(waveform) for waveform in message.waveforms]
    waveform_sizes = (
        len(waveforms),
        len(waveforms) * WAVEFORM_HEADER.itemsize,
        sum(samples.nbytes for _, samples in waveforms),
    )
    table = _uint64(*data_sizes, *reference_sizes, len(data_stats), len(reference_stats), *waveform_sizes)
    headers = b"".join(header for header, _ in waveforms)
    samples = [samples for _, samples in waveforms]
    prefix = _id(MessageId.BUCKET) + table
    return iter([prefix, *data, data_stats, *reference, reference_stats, headers, *samples])


def _bundle(blocks: Iterable[Readouts]) -> tuple[tuple[int, int, int, int], list[BytesLike]]:
    """Readouts with all headers first, then all trajectories, then all samples; and the sizes of these."""
    full = [block for block in blocks if _checked_shape(block) is not None]
    headers = [_raw(block.headers) for block in full]
    trajectories = [_raw(block.trajectory, "<f4") for block in full if block.trajectory is not None]
    samples = [_raw(block.samples, "<c8") for block in full]
    n_bytes = [sum(part.nbytes for part in group) for group in (headers, samples, trajectories)]
    sizes = sum(len(block) for block in full), n_bytes[0], n_bytes[1], n_bytes[2]
    return sizes, [*headers, *trajectories, *samples]


def _stats(stats: Iterable[CounterSets]) -> bytes:
    sets = [[getattr(counters, counter.name) for counter in fields(CounterSets)] for counters in stats]
    packed = [
        _uint64(len(values)) + struct.pack(f"<{len(values)}H", *values) for row in sets for values in row
    ]
    return _uint64(len(sets)) + b"".join(packed)


_ENCODERS: dict[type, Callable[[Any], Iterator[BytesLike]]] = {
    ConfigFile: _config_file,
    ConfigText: _config,
    HeaderXml: _header,
    Text: _text,
    ErrorText: _error,
    Close: _close,
    Readouts: _readouts,
    Waveform: _waveform,
    ImageMessage: _image,
    ImageArray: _image_array,
    ReconData: _recon_data,
    Bucket: _bucket,
}
