"""`scanside stream` between real pipes."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import Result

from scanside.mrd.files import open_recording
from scanside.mrd.messages import ImageMessage
from scanside.mrd.transfer import copy_scan
from scanside.replay import replay

Scanside = Callable[..., Result]
COMMAND = (sys.executable, "-c", "from scanside.cli import main; main()", "stream")


@pytest.fixture(scope="module")
def stream(small_scan: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("stream") / "scan.mrd"
    copy_scan(small_scan, path)
    return path


def piped(*arguments: str, data: bytes) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run([*COMMAND, *arguments], input=data, capture_output=True)


def images_of(path: Path) -> list[Any]:
    with open_recording(path) as recording:
        return [one.data for one in recording.items() if isinstance(one, ImageMessage)]


def test_from_standard_input_to_standard_output(stream: Path, small_scan: Path, tmp_path: Path) -> None:
    run = piped("grappa", "--device", "cpu", data=stream.read_bytes())
    assert run.returncode == 0, run.stderr
    assert run.stdout.startswith(b"yardl")
    (tmp_path / "images.mrd").write_bytes(run.stdout)
    for ours, theirs in zip(
        images_of(tmp_path / "images.mrd"), replay(small_scan, "grappa", device="cpu").images, strict=True
    ):
        np.testing.assert_array_equal(ours, theirs.data.numpy())
    assert b"60 readouts came, 2 images were written" in run.stderr


def test_a_stream_that_is_cut_off(stream: Path) -> None:
    run = piped("fft", "--device", "cpu", data=stream.read_bytes()[:-2000])
    assert run.returncode == 1
    assert run.stdout.startswith(b"yardl")
    assert b"error: the stream stopped inside item 6" in run.stderr
    assert b"59 readouts came, 1 images were written" in run.stderr
    assert b"Traceback" not in run.stderr


def test_images_that_nobody_takes(stream: Path) -> None:
    with (
        stream.open("rb") as file,
        subprocess.Popen(
            [*COMMAND, "fft", "--device", "cpu"], stdin=file, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        ) as process,
    ):
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        said = process.stderr.read()
    assert process.returncode == 1
    assert b"error: the pipe broke while writing" in said
    assert b"Traceback" not in said
    assert b"Exception ignored" not in said


def test_files_and_versions(scanside: Scanside, stream: Path, tmp_path: Path) -> None:
    output = tmp_path / "images"
    said = scanside("stream", "fft", "-i", stream, "-o", output, "--output-format", "1", "--device", "cpu")
    assert "2 images were written" in said.stderr
    assert said.stdout == ""
    assert output.read_bytes()[:2] == b"\x03\x00"
    scanside("stream", "fft", "-i", stream, "-o", output, "--set", "finish.kind=complex", "--device", "cpu")
    assert images_of(output)[0].dtype == np.complex64


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (("fft", "--output-format", "3"), 2, "possible are same, 1, 2, 2.1, 2.2"),
        (("no-such-pipeline", "-o", "x.mrd"), 1, "no-such-pipeline"),
        (("fft", "-o", "STREAM"), 2, "is named twice"),
    ],
)
def test_what_is_refused(
    scanside: Scanside, stream: Path, arguments: tuple[str, ...], status: int, said: str
) -> None:
    given = [str(stream) if one == "STREAM" else one for one in arguments]

    assert said in scanside("stream", "-i", stream, *given, status=status).stderr


def test_what_is_no_stream(scanside: Scanside, tmp_path: Path) -> None:
    output = tmp_path / "out.mrd"
    said = scanside("stream", "fft", "-i", __file__, "-o", output, "--device", "cpu", status=1).stderr
    assert "nor one of MRD 2: it begins with" in said
    assert not output.exists()
