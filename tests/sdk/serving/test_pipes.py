"""A scan between two streams: the same pixels from both versions, at once, and told where it was cut off."""

from __future__ import annotations

import io
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from scanside.context import Context
from scanside.errors import EndOfStream, IncompleteRead, PeerGone, ScansideError
from scanside.items import Readouts
from scanside.mrd.files import StreamRecording, StreamWriter, open_recording
from scanside.mrd.messages import Close, ConfigFile, HeaderXml, ImageMessage
from scanside.mrd.streams import FileStream
from scanside.mrd.v2.reader import ItemReader
from scanside.mrd.v2.schemas import VERSIONS, known_schema
from scanside.mrd.v2.writer import ItemWriter
from scanside.pipeline import Pipeline
from scanside.serving.pipes import StreamFormat, reconstruct_stream
from scanside.testing.small import small_readouts, small_scan, small_waveform

INPUTS = ("1", *VERSIONS)


@pytest.fixture
def scan(tmp_path: Path) -> Any:
    """Writes the small scan in a version."""

    def write(version: str) -> Path:
        path = tmp_path / f"scan-{version}"
        schema = None if version == "1" else known_schema(version)
        config = ConfigFile("default") if version == "1" else None
        with StreamWriter(path, small_scan().header.xml, config, schema) as writer:
            for item in (*small_readouts(), small_waveform()):
                writer.write(item)
        return path

    return write


def images_of(path: Path) -> tuple[list[ImageMessage], str]:
    with open_recording(path) as recording:
        assert isinstance(recording, StreamRecording)
        version = "1" if recording.schema is None else str(recording.schema.version)
        images = list(recording.items())
    assert all(isinstance(one, ImageMessage) for one in images)
    return images, version  # type: ignore[return-value]


@pytest.mark.parametrize("pipeline", ["fft", "grappa"])
def test_the_same_pixels_from_every_version(pipeline: str, scan: Any, tmp_path: Path) -> None:
    found = {}
    for version in INPUTS:
        output = tmp_path / f"images-{version}"
        streamed = reconstruct_stream(scan(version), output, Pipeline.load(pipeline), Context("cpu"))
        images, written = images_of(output)
        assert written == version
        assert (streamed.n_readouts, streamed.n_images) == (24, len(images))
        found[version] = images
    assert len(found["1"]) == 1
    for version in VERSIONS:
        for ours, theirs in zip(found[version], found["1"], strict=True):
            np.testing.assert_array_equal(ours.data, theirs.data)
            for name in ("position", "read_dir", "field_of_view", "acquisition_time_stamp", "image_type"):
                np.testing.assert_array_equal(ours.header[name], theirs.header[name], name)


@pytest.mark.parametrize(
    ("came", "asked", "written"),
    [
        ("1", "2", "2.2"),
        ("1", "2.1", "2.1"),
        ("2.1", "1", "1"),
        ("2.1", "2.2", "2.2"),
        ("2.2", "same", "2.2"),
    ],
)
def test_the_version_that_is_asked_for(
    came: str, asked: StreamFormat, written: str, scan: Any, tmp_path: Path
) -> None:
    reconstruct_stream(scan(came), tmp_path / "out", Pipeline.load("fft"), Context("cpu"), asked)
    assert images_of(tmp_path / "out")[1] == written


def test_what_makes_no_images_goes_through(scan: Any, tmp_path: Path) -> None:
    pipeline = Pipeline.from_config({"name": "thin", "stages": ["oversampling"]})
    reconstruct_stream(scan("2.2"), tmp_path / "out", pipeline, Context("cpu"))
    with open_recording(tmp_path / "out") as recording:
        items = list(recording.items())
    assert {type(one).__name__ for one in items} == {"Readouts", "Waveform"}
    assert items[-2].samples.shape[-1] == 24  # type: ignore[union-attr]


@pytest.mark.parametrize("version", INPUTS)
def test_a_scan_that_is_cut_off_says_what_came(version: str, scan: Any, tmp_path: Path) -> None:
    whole = scan(version).read_bytes()
    for cut, error in ((whole[:-9000], IncompleteRead), (whole[: -1 if version != "1" else -2], EndOfStream)):
        (tmp_path / "cut").write_bytes(cut)
        with pytest.raises(error, match=r"; \d+ readouts came, [01] images were written") as raised:
            reconstruct_stream(tmp_path / "cut", tmp_path / "out", Pipeline.load("fft"), Context("cpu"))
        n_came = int(str(raised.value).split("; ")[-1].split()[0])
        assert n_came == 24 or (n_came < 24 and error is IncompleteRead)
        with pytest.raises(EndOfStream), open_recording(tmp_path / "out") as recording:
            list(recording.items())  # the images that were made, and no end


@pytest.fixture
def pipes() -> Iterator[tuple[Any, Path, Path, Any]]:
    """A pipe in and a pipe out: what to write to, both ends for Scanside, what to read from."""
    ends = [*os.pipe(), *os.pipe()]
    files = [io.FileIO(ends[1], "w"), io.FileIO(ends[2], "r")]
    yield files[0], Path(f"/dev/fd/{ends[0]}"), Path(f"/dev/fd/{ends[3]}"), files[1]
    for end in (ends[0], ends[3]):
        try:
            os.close(end)
        except OSError:
            continue
    for file in files:
        file.close()


def run(source: Path, output: Path, failures: list[Exception]) -> threading.Thread:
    def reconstruct() -> None:
        try:
            reconstruct_stream(source, output, Pipeline.load("fft"), Context("cpu"))
        except ScansideError as error:
            failures.append(error)

    thread = threading.Thread(target=reconstruct, daemon=True)
    thread.start()
    return thread


def test_images_leave_before_the_scan_has_ended(pipes: tuple[Any, Path, Path, Any]) -> None:
    sending, source, output, receiving = pipes
    failures: list[Exception] = []
    thread = run(source, output, failures)
    writer = ItemWriter(FileStream(None, sending), known_schema("2.2"))
    writer.write(HeaderXml(small_scan().header.xml), *small_readouts())
    reader = ItemReader(FileStream(receiving))
    assert isinstance(reader.read(), HeaderXml)
    # Nothing has ended the scan yet: neither CLOSE nor the end of the pipe.
    assert isinstance(reader.read(), ImageMessage)
    writer.write(Close())
    assert isinstance(reader.read(), Close)
    thread.join(30)
    assert not thread.is_alive()
    assert failures == []


def test_a_reader_that_leaves_is_told(pipes: tuple[Any, Path, Path, Any]) -> None:
    sending, source, output, receiving = pipes
    failures: list[Exception] = []
    thread = run(source, output, failures)
    writer = ItemWriter(FileStream(None, sending), known_schema("2.2"))
    writer.write(HeaderXml(small_scan().header.xml))
    reader = ItemReader(FileStream(receiving), block_bytes=1000)
    assert isinstance(reader.read(), HeaderXml)
    receiving.close()
    writer.write(*small_readouts(), Close())
    thread.join(30)
    assert not thread.is_alive()
    (error,) = failures
    assert isinstance(error, PeerGone)
    assert "the pipe broke while writing" in str(error)
    assert "24 readouts came, 0 images were written" in str(error)


def test_another_number_of_coils_is_told(tmp_path: Path) -> None:
    with StreamWriter(tmp_path / "scan", small_scan().header.xml, schema=known_schema("2.2")) as writer:
        for block in small_readouts():
            writer.write(block)
        fewer = small_readouts()[-1]
        writer.write(Readouts.with_samples(fewer, fewer.samples[:, :3].copy()))
    with pytest.raises(ScansideError, match=r"3 .*4|4 .*3"):
        reconstruct_stream(tmp_path / "scan", tmp_path / "out", Pipeline.load("fft"), Context("cpu"))
