"""``scanside record``."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from scanside.mrd.files import StreamWriter
from scanside.mrd.hdf5 import Hdf5Reader
from scanside.mrd.messages import Close, ConfigFile, HeaderXml
from scanside.mrd.streams import MemoryStream
from scanside.mrd.writer import encode
from scanside.recording import Recorder, RecordingConfig
from scanside.testing.small import small_readouts, small_scan


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two recordings."""
    folder = tmp_path / "recordings"
    recorder = Recorder(RecordingConfig(folder=folder, keep=("all",), spare_gigabytes=0))
    header = HeaderXml(small_scan().header.xml)
    data = encode(ConfigFile("grappa"), header, *small_readouts(), Close())
    for session in ("one", "two"):
        stream, recording = recorder.begin(session, MemoryStream(data))
        while stream.receive_into(memoryview(bytearray(4096))):
            pass
        recording.finish("failed", pipeline="grappa", error="no lines")
        assert recording.wait(300)
    monkeypatch.setenv("SCANSIDE_RECORDINGS", str(folder))
    return folder


def test_list_and_show(folder: Path, scanside: Callable[..., Any], as_json: Callable[..., Any]) -> None:
    found = as_json("record", "list")["recordings"]
    assert [one["session"] for one in found] == ["one", "two"]
    text = scanside("record", "list").stdout
    assert found[0]["id"] in text
    assert "2 recordings" in text
    one = as_json("record", "show", found[0]["id"])
    assert one == found[0]
    assert (one["outcome"], one["kept_for"], one["patient"]) == ("failed", ["all"], "removed")
    assert "no lines" in scanside("record", "show", one["id"]).stdout


def test_recording_can_be_replayed(
    folder: Path, tmp_path: Path, scanside: Callable[..., Any], as_json: Callable[..., Any]
) -> None:
    """The images of a recording are those of the stream that was recorded, byte for byte."""
    played = as_json("record", "list")["recordings"][0]["file"]
    scanside("replay", played, "-p", "grappa", "-o", tmp_path / "again.h5", "--set", "grappa.kernel_k1=2")
    with StreamWriter(tmp_path / "sent.mrd", small_scan().header.xml) as writer:
        for block in small_readouts():
            writer.write(block)
    scanside(
        "replay",
        tmp_path / "sent.mrd",
        "-p",
        "grappa",
        "-o",
        tmp_path / "first.h5",
        "--set",
        "grappa.kernel_k1=2",
    )
    images = []
    for name in ("again.h5", "first.h5"):
        with Hdf5Reader(tmp_path / name) as reader:
            images.append([image.data for series in reader.image_series() for image in reader.images(series)])
    assert len(images[0]) == len(images[1]) == 1
    assert images[0][0].tobytes() == images[1][0].tobytes()


def test_keep_and_prune(folder: Path, scanside: Callable[..., Any], as_json: Callable[..., Any]) -> None:
    assert (
        "until it is released"
        in scanside("record", "keep", as_json("record", "list")["recordings"][0]["id"]).stdout
    )
    assert "removed" in scanside("record", "prune", "--gigabytes", 0).stdout
    assert [one["session"] for one in as_json("record", "list")["recordings"]] == ["one"]
    assert "nothing" in scanside("record", "prune", "--days", 1).stdout
    scanside("record", "keep", "--release", as_json("record", "list")["recordings"][0]["id"])
    scanside("record", "prune", "--gigabytes", 0)
    assert as_json("record", "list")["recordings"] == []
    assert list(folder.glob("*.mrd")) == []


def test_what_it_refuses(folder: Path, tmp_path: Path, scanside: Callable[..., Any]) -> None:
    assert "--gigabytes" in scanside("record", "prune", status=2).stderr
    assert "no recording 'x'" in scanside("record", "show", "x", status=1).stderr
    assert "no folder" in scanside("record", "list", "--folder", tmp_path / "none", status=1).stderr
