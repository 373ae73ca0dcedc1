"""One scan from a stream through a pipeline to another stream: what ``scanside stream`` does between two pipes."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from time import perf_counter
from typing import BinaryIO, Literal, TypeAlias, get_args

from scanside.context import Context
from scanside.convert import Outlet, items_of
from scanside.errors import StreamError
from scanside.execution import execute
from scanside.items import Image, Item, Readouts
from scanside.mrd.files import Recording, StreamRecording, StreamWriter, open_recording
from scanside.mrd.v2.schemas import NEWEST, MrdSchema, known_schema
from scanside.pipeline import Pipeline
from scanside.scan import Scan
from scanside.serving.session import without_images
from scanside.threads import one_blas_thread

__all__ = ["FORMATS", "StreamFormat", "Streamed", "reconstruct_stream"]

logger = logging.getLogger(__name__)

StreamFormat: TypeAlias = Literal["same", "1", "2", "2.1", "2.2"]
"""In which version of MRD images go out: that in which the scan came, or a given one; 2 is the newest known."""

FORMATS: tuple[StreamFormat, ...] = get_args(StreamFormat)

_DRAIN_SECONDS = 5.0
"""After a failure: a pipe's other end learns of it when this process ends, so it is not heard out for long."""


@dataclass(slots=True)
class Streamed:
    """What came and went.

    Attributes:
        scan: the scan.
        n_readouts: readouts that came.
        n_images: images that were written.
        seconds: from the header to the end.
    """

    scan: Scan
    n_readouts: int = 0
    n_images: int = 0
    seconds: float = 0.0

    def __str__(self) -> str:
        return f"{self.n_readouts} readouts came, {self.n_images} images were written"


def reconstruct_stream(
    source: str | Path,
    output: str | Path | BinaryIO,
    pipeline: Pipeline,
    context: Context | None = None,
    output_format: StreamFormat = "same",
) -> Streamed:
    """Read a scan from a stream, and write its images to another as they come.

    The header goes out as soon as it has come. Where a pipeline makes images, only these go out; otherwise all that
    it gives does.

    Args:
        source: ISMRMRD or MRD 2 stream, or ISMRMRD HDF5 file; ``-`` is standard input.
        output: file or pipe to write to; ``-`` is standard output.
        pipeline: is prepared here.
        context: device and noise store.
        output_format: see `StreamFormat`; an HDF5 file counts as version 1.

    Raises:
        StreamError: the scan was cut off, or nobody takes the images any more; the message says what came before.
            What could be made of it has been written, without the mark of a whole stream.
        ScansideError: anything else that is wrong with stream, pipeline or scan.
    """
    context = context or Context()
    pipeline.prepare(replace(context, builds_engines=False))
    with open_recording(source) as recording:
        scan = Scan.from_xml(recording.header_xml)
        streamed = Streamed(scan)
        pipeline.expect(scan.header)
        schema = _schema(recording, output_format)
        started = perf_counter()
        try:
            with StreamWriter(output, recording.header_xml, schema=schema) as writer:
                _run(
                    pipeline,
                    recording,
                    writer,
                    Outlet(None if schema is None else "image"),
                    context,
                    streamed,
                )
        except StreamError as error:
            raise type(error)(f"{error}; {streamed}") from error
        streamed.seconds = perf_counter() - started
    if Image in pipeline.output and not streamed.n_images:
        scan.warn(without_images(streamed.n_readouts))
    return streamed


def _schema(recording: Recording, output_format: StreamFormat) -> MrdSchema | None:
    """The version of MRD 2 to write; None for version 1."""
    if output_format == "same":
        return recording.schema if isinstance(recording, StreamRecording) else None
    if output_format == "1":
        return None
    return known_schema(NEWEST if output_format == "2" else output_format)


def _run(
    pipeline: Pipeline,
    recording: Recording,
    writer: StreamWriter,
    outlet: Outlet,
    context: Context,
    streamed: Streamed,
) -> None:
    only_images = Image in pipeline.output

    def items() -> Iterator[Item]:
        for message in recording.items():
            outlet.came(message)
            for item in items_of(message, streamed.scan, context):
                streamed.n_readouts += len(item) if isinstance(item, Readouts) else 0
                yield item

    def write(item: Item) -> None:
        if only_images and not isinstance(item, Image):
            return
        for message in outlet.messages(item):
            writer.write(message)
        streamed.n_images += isinstance(item, Image)

    with one_blas_thread(), pipeline.open(streamed.scan) as run:
        execute(run, items(), write, threads=True, drain_seconds=_DRAIN_SECONDS)
        for message in outlet.finish():
            writer.write(message)
