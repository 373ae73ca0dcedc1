"""From bytes to messages: every kind but acquisitions, which the reader takes in blocks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields

import numpy as np
import numpy.typing as npt

from scanside.mrd.dtypes import (
    ACQUISITION_HEADER,
    IMAGE_DTYPES,
    IMAGE_HEADER,
    SAMPLING_DESCRIPTION,
    WAVEFORM_HEADER,
    Headers,
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
    ReconBit,
    ReconBuffer,
    ReconData,
    Text,
    Waveform,
)
from scanside.mrd.records import ReadoutShape, equal_runs
from scanside.mrd.source import MessageSource

__all__ = ["CONFIG_FILE_BYTES", "DECODERS"]

CONFIG_FILE_BYTES = 1024
"""Size of the field that holds the name of a configuration."""

_UINT16 = np.dtype("<u2")
_UINT32 = np.dtype("<u4")
_UINT64 = np.dtype("<u8")
_FLOAT = np.dtype("<f4")
_COMPLEX = np.dtype("<c8")


def _readable(text: bytes) -> str:
    return text.decode("utf-8", errors="backslashreplace")


def _without_nul(text: bytes) -> tuple[bytes, bool]:
    return (text[:-1], True) if text.endswith(b"\0") else (text, False)


def _config_file(source: MessageSource) -> ConfigFile:
    name, _, _ = source.own_bytes(CONFIG_FILE_BYTES, "configuration name").tobytes().partition(b"\0")
    return ConfigFile(_readable(name))


def _config(source: MessageSource) -> ConfigText:
    return ConfigText(*_without_nul(source.text("I", "configuration")))


def _header(source: MessageSource) -> HeaderXml:
    return HeaderXml(*_without_nul(source.text("I", "header")))


def _text(source: MessageSource) -> Text:
    text, nul = _without_nul(source.text("I", "text"))
    return Text(_readable(text), nul)


def _error(source: MessageSource) -> ErrorText:
    return ErrorText(_readable(source.text("Q", "text")))


def _close(source: MessageSource) -> Close:  # noqa: ARG001
    return Close()


def _waveform(source: MessageSource) -> Waveform:
    header = source.scalar(WAVEFORM_HEADER, "waveform header")
    return Waveform(header, _waveform_data(source, header))


def _waveform_data(source: MessageSource, header: np.void) -> npt.NDArray[np.uint32]:
    shape = int(header["channels"]), int(header["number_of_samples"])
    return source.vector(_UINT32, shape[0] * shape[1], "waveform samples").reshape(shape)


def _image(source: MessageSource) -> ImageMessage:
    header = source.scalar(IMAGE_HEADER, "image header")
    dtype = IMAGE_DTYPES.get(int(header["data_type"]))
    if dtype is None:
        known = ", ".join(f"{number} {known.name}" for number, known in IMAGE_DTYPES.items())
        raise source.error(f"its header announces data type {int(header['data_type'])}; known are {known}")
    attributes, nul = _without_nul(source.text("Q", "attributes"))
    shape = (int(header["channels"]), *(int(size) for size in header["matrix_size"][::-1]))
    n = shape[0] * shape[1] * shape[2] * shape[3]
    return ImageMessage(header, attributes, source.vector(dtype, n, "image data").reshape(shape), nul)


def _image_array(source: MessageSource) -> ImageArray:
    return ImageArray(
        data=source.array(_COMPLEX, "image data"),
        headers=source.array(IMAGE_HEADER, "image headers"),
        meta=[source.text("Q", "attributes") for _ in range(source.count("attributes", _UINT64.itemsize))],
        waveforms=_inner_waveforms(source) if source.flag("waveforms") else None,
        acquisition_headers=(
            source.array(ACQUISITION_HEADER, "acquisition headers")
            if source.flag("acquisition headers")
            else None
        ),
    )


def _inner_waveforms(source: MessageSource) -> list[Waveform]:
    waveforms = []
    for _ in range(source.count("waveforms", WAVEFORM_HEADER.itemsize)):
        # gadgetron-python puts a message id before each; a header starts with its version, which is 1.
        if int.from_bytes(source.peek(2, "waveform header"), "little") == MessageId.WAVEFORM:
            source.drop(2)
        waveforms.append(_waveform(source))
    return waveforms


def _recon_data(source: MessageSource) -> ReconData:
    return ReconData(
        [_recon_bit(source) for _ in range(source.count("recon bits", SAMPLING_DESCRIPTION.itemsize))]
    )


def _recon_bit(source: MessageSource) -> ReconBit:
    return ReconBit(_recon_buffer(source), _recon_buffer(source) if source.flag("reference data") else None)


def _recon_buffer(source: MessageSource) -> ReconBuffer:
    data = source.array(_COMPLEX, "k-space data")
    trajectory = source.array(_FLOAT, "trajectory") if source.flag("trajectories") else None
    density = source.array(_FLOAT, "density weights") if source.flag("density weights") else None
    headers = source.array(ACQUISITION_HEADER, "acquisition headers")
    sampling = source.scalar(SAMPLING_DESCRIPTION, "sampling description")
    return ReconBuffer(data, headers, sampling, trajectory, density)


def _bucket(source: MessageSource) -> Bucket:
    # A table of sizes stands in front: of both bundles of readouts, both statistics, and the waveforms.
    sizes = source.vector(_UINT64, 13, "table of sizes").tolist()
    data = _bundle(source, "readouts", *sizes[0:4])
    data_stats = _stats(source, sizes[8])
    reference = _bundle(source, "reference readouts", *sizes[4:8])
    reference_stats = _stats(source, sizes[9])
    return Bucket(data, data_stats, reference, reference_stats, _waveform_bundle(source, *sizes[10:13]))


def _expect(source: MessageSource, what: str, announced: int, found: int) -> None:
    if announced != found:
        raise source.error(f"its table announces {announced} bytes of {what}, but they take {found}")


def _bundle(
    source: MessageSource, what: str, n: int, header_bytes: int, data_bytes: int, trajectory_bytes: int
) -> list[Readouts]:
    """Readouts whose headers come first, then all trajectories, then all samples."""
    _expect(source, f"headers of {what}", header_bytes, n * ACQUISITION_HEADER.itemsize)
    headers = source.vector(ACQUISITION_HEADER, n, f"headers of {what}")
    runs = [(headers[run], ReadoutShape.of(headers[run.start])) for run in equal_runs(headers)]
    in_trajectories = sum(len(part) * shape.trajectory_bytes for part, shape in runs)
    in_samples = sum(len(part) * shape.sample_bytes for part, shape in runs)
    _expect(source, f"trajectories of {what}", trajectory_bytes, in_trajectories)
    _expect(source, f"samples of {what}", data_bytes, in_samples)
    trajectories = source.vector(_FLOAT, in_trajectories // _FLOAT.itemsize, f"trajectories of {what}")
    samples = source.vector(_COMPLEX, in_samples // _COMPLEX.itemsize, f"samples of {what}")
    return _blocks(runs, trajectories, samples)


def _blocks(
    runs: list[tuple[Headers, ReadoutShape]],
    trajectories: npt.NDArray[np.float32],
    samples: npt.NDArray[np.complex64],
) -> list[Readouts]:
    """Cut flat trajectories and samples into one block for each run of headers."""
    blocks = []
    for headers, (n_samples, n_coils, n_dimensions) in runs:
        n = len(headers)
        trajectory = None
        if n_dimensions:
            trajectory, trajectories = np.split(trajectories, [n * n_samples * n_dimensions])
            trajectory = trajectory.reshape(n, n_samples, n_dimensions)
        own, samples = np.split(samples, [n * n_coils * n_samples])
        blocks.append(Readouts(headers, own.reshape(n, n_coils, n_samples), trajectory))
    return blocks


def _stats(source: MessageSource, announced: int) -> list[CounterSets]:
    before = source.size
    n_sets = len(fields(CounterSets))
    stats = [
        CounterSets(*(_counter_set(source) for _ in range(n_sets)))
        for _ in range(source.count("statistics", n_sets * _UINT64.itemsize))
    ]
    _expect(source, "statistics", announced, source.size - before)
    return stats


def _counter_set(source: MessageSource) -> tuple[int, ...]:
    return tuple(source.vector(_UINT16, source.count("counters", _UINT16.itemsize), "counters").tolist())


def _waveform_bundle(source: MessageSource, n: int, header_bytes: int, data_bytes: int) -> list[Waveform]:
    """Waveforms whose headers come first."""
    _expect(source, "waveform headers", header_bytes, n * WAVEFORM_HEADER.itemsize)
    headers = source.vector(WAVEFORM_HEADER, n, "waveform headers")
    before = source.size
    waveforms = [Waveform(header, _waveform_data(source, header)) for header in headers]
    _expect(source, "waveform samples", data_bytes, source.size - before)
    return waveforms


DECODERS: dict[MessageId, Callable[[MessageSource], Message]] = {
    MessageId.CONFIG_FILE: _config_file,
    MessageId.CONFIG: _config,
    MessageId.HEADER: _header,
    MessageId.CLOSE: _close,
    MessageId.TEXT: _text,
    MessageId.ERROR: _error,
    MessageId.IMAGE: _image,
    MessageId.RECON_DATA: _recon_data,
    MessageId.IMAGE_ARRAY: _image_array,
    MessageId.WAVEFORM: _waveform,
    MessageId.BUCKET: _bucket,
}
"""What reads each kind of message once its id has been taken."""
