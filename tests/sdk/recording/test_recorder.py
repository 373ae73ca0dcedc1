"""Sessions are recorded beside the scan, which never waits for them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from scanside.errors import ConfigError, EndOfStream, PeerGone
from scanside.mrd.files import open_recording
from scanside.mrd.messages import Close, ConfigFile, ConfigText, HeaderXml, Text
from scanside.mrd.readouts import Readouts
from scanside.mrd.streams import MemoryStream
from scanside.mrd.writer import encode
from scanside.privacy import without_identity
from scanside.recording import Recorder, RecordingConfig, RecordingEntry, RecordingRing, SessionRecording
from scanside.recording import tape as tape_module
from scanside.testing.small import small_readouts, small_scan, small_waveform

pytestmark = pytest.mark.torch_free

HEADER = small_scan().header.xml.replace(
    b"<measurementInformation>",
    b"<subjectInformation><patientName>Doe^Jane</patientName></subjectInformation><measurementInformation>",
    1,
)
BODY = encode(*small_readouts(), small_waveform(), Close())


def wire(header: bytes = HEADER) -> bytes:
    opening = encode(ConfigFile("grappa"), HeaderXml(header, nul=True), Text('{"parameters": 1}'))
    return opening + BODY


STREAM = wire()


def recorder(folder: Path, **settings: Any) -> Recorder:
    return Recorder(RecordingConfig(**{"folder": folder, "keep": ("all",), "spare_gigabytes": 0, **settings}))


def received(stream: Any, size: int = 1000) -> bytes:
    """All that a session gets, in pieces."""
    buffer, got = bytearray(size), b""
    while n := stream.receive_into(memoryview(buffer)):
        got += bytes(buffer[:n])
    return got


def record(
    own: Recorder, data: bytes = STREAM, session: str = "s1", outcome: Any = "done", **known: Any
) -> SessionRecording:
    stream, recording = own.begin(session, MemoryStream(data))
    assert received(stream) == data
    recording.finish(outcome, **known)
    assert recording.wait(300)
    return recording


def files(folder: Path) -> set[str]:
    return {path.suffix for path in folder.iterdir() if not path.name.startswith(".")}


def the_one(folder: Path) -> tuple[RecordingEntry, bytes]:
    ring = RecordingRing(folder)
    (entry,) = ring.entries()
    return entry, ring.path(entry).read_bytes()


# What is written


@pytest.mark.parametrize("piece", [1, 7, 333, 1 << 20])
def test_recording_is_the_stream_without_the_name(tmp_path: Path, piece: int) -> None:
    stream, recording = recorder(tmp_path).begin("s1", MemoryStream(STREAM, piece))
    assert received(stream) == STREAM
    recording.finish("done")
    assert recording.wait(300)
    entry, written = the_one(tmp_path)
    assert written == wire(without_identity(HEADER))
    assert b"Jane" not in written
    assert "samples of readouts, images and known waveforms" in entry.kept
    assert (entry.patient, entry.complete, entry.size) == ("removed", True, len(STREAM))


def test_site_may_keep_the_name(tmp_path: Path) -> None:
    record(recorder(tmp_path, keep_patient=True))
    entry, written = the_one(tmp_path)
    assert written == STREAM
    assert (entry.patient, entry.kept) == ("kept", ("everything",))


def test_site_may_keep_some_fields(tmp_path: Path) -> None:
    text = encode(Text('{"parameters": {"ward": "Jane", "config": "fft"}}'))
    data = encode(ConfigFile("grappa")) + text + encode(HeaderXml(HEADER)) + BODY
    record(recorder(tmp_path, keep_fields=("ward", "patientName")), data)
    entry, written = the_one(tmp_path)
    assert text in written
    assert b"Doe" not in written  # an element in one that goes as a whole
    assert entry.patient == "removed"
    assert entry.kept[-2:] == ("ward", "patientName")


def test_error_of_the_entry_names_nobody(tmp_path: Path) -> None:
    error = "the scan's header: user parameter 'Jane Doe' is b'Jane', expected one of 'fft' and 'grappa'"
    record(recorder(tmp_path), outcome="failed", error=error)
    entry, _ = the_one(tmp_path)
    assert (
        entry.error
        == "the scan's header: user parameter 'xxxx xxx' is b'xxxx', expected one of 'fft' and 'grappa'"
    )
    record(recorder(tmp_path / "kept", keep_patient=True), outcome="failed", error=error)
    assert the_one(tmp_path / "kept")[0].error == error


def test_stream_that_nobody_understands_is_cut_off_there(tmp_path: Path) -> None:
    data = STREAM[:-2] + b"\x4d\0Jane" * 1000
    recording = record(recorder(tmp_path), data, outcome="failed")
    assert "nobody knows messages of kind 77" in recording.problem
    entry, written = the_one(tmp_path)
    assert not entry.complete
    assert written == wire(without_identity(HEADER))[:-2] + b"\x4d\0"


def test_recording_can_be_read(tmp_path: Path) -> None:
    record(recorder(tmp_path))
    ring = RecordingRing(tmp_path)
    with open_recording(ring.path(ring.entries()[0])) as recording:
        assert recording.config == ConfigFile("grappa")
        samples = [item.samples.copy() for item in recording.items() if isinstance(item, Readouts)]
    expected = [block.samples for block in small_readouts()]
    assert sum(map(len, samples)) == sum(map(len, expected))
    assert b"".join(block.tobytes() for block in samples) == b"".join(block.tobytes() for block in expected)


def test_opening_that_somebody_else_read(tmp_path: Path) -> None:
    opening = (ConfigText(b"<configuration/>"), HeaderXml(HEADER))
    stream, recording = recorder(tmp_path).begin("s1", MemoryStream(BODY), opening)
    assert received(stream) == BODY
    recording.finish("done")
    assert recording.wait(300)
    assert the_one(tmp_path)[1] == encode(opening[0], HeaderXml(without_identity(HEADER))) + BODY


def test_only_the_owner_can_read(tmp_path: Path) -> None:
    folder = tmp_path / "new" / "recordings"
    record(recorder(folder, every=2))
    RecordingRing(folder).pin("s1")
    assert folder.stat().st_mode & 0o077 == 0
    assert {path.suffix for path in folder.iterdir()} >= {".mrd", ".json"}
    assert [path.name for path in folder.iterdir() if path.stat().st_mode & 0o077] == []


def test_the_other_calls_go_through(tmp_path: Path) -> None:
    inner = MemoryStream(b"")
    stream, recording = recorder(tmp_path).begin("s1", inner)
    stream.send(b"ab", b"c")
    assert inner.sent == b"abc"
    stream.end_writing()
    assert not inner.writing
    stream.shutdown()
    stream.close()
    recording.finish("query")
    assert recording.wait(300)
    assert files(tmp_path) == set()


def test_header_that_cannot_be_cleaned_is_not_recorded(tmp_path: Path) -> None:
    recording = record(recorder(tmp_path), wire(b"<a><patientName>Jane</a>"), outcome="failed")
    assert "not well-formed" in recording.problem
    assert files(tmp_path) == set()


@pytest.mark.parametrize("data", [BODY, b"GET / HTTP/1.1\r\n\r\n", encode(Close())])
def test_what_is_no_session_is_not_recorded(tmp_path: Path, data: bytes) -> None:
    recording = record(recorder(tmp_path), data, outcome="failed")
    assert "before the header" in recording.problem
    assert files(tmp_path) == set()


# Which sessions are kept


@pytest.mark.parametrize(
    ("settings", "outcome", "fallbacks", "kept_for"),
    [
        ({"keep": ("errors",)}, "done", 0, None),
        ({"keep": ("errors",)}, "failed", 0, ("errors",)),
        ({"keep": ("errors",)}, "lost", 3, ("errors",)),
        ({"keep": ("errors", "fallbacks")}, "done", 2, ("fallbacks",)),
        ({"keep": ("errors", "fallbacks")}, "failed", 2, ("errors", "fallbacks")),
        ({"keep": ()}, "failed", 1, None),
        ({"keep": ("all",)}, "done", 0, ("all",)),
        ({"keep": ("all",)}, "query", 0, None),
    ],
)
def test_rules(tmp_path: Path, settings: Any, outcome: str, fallbacks: int, kept_for: Any) -> None:
    known = {"pipeline": "student", "error": "no", "n_readouts": 9, "n_images": 2}
    record(recorder(tmp_path, **settings), outcome=outcome, fallbacks=fallbacks, **known)
    if kept_for is None:
        assert files(tmp_path) == set()
        return
    entry, _ = the_one(tmp_path)
    assert (entry.kept_for, entry.outcome, entry.fallbacks) == (kept_for, outcome, fallbacks)
    assert (entry.session, entry.pipeline, entry.error) == ("s1", "student", "no")
    assert (entry.n_readouts, entry.n_images) == (9, 2)
    assert abs(entry.begun - datetime.now(timezone.utc)) < timedelta(minutes=5)
    assert files(tmp_path) == {".mrd", ".json"}


def test_every_third_is_counted_over_processes(tmp_path: Path) -> None:
    for i in range(7):
        record(recorder(tmp_path, keep=(), every=3), session=f"s{i}")
    assert [entry.session for entry in RecordingRing(tmp_path).entries()] == ["s2", "s5"]


def test_unknown_rule_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValidationError, match="errors"):
        RecordingConfig(folder=tmp_path, keep=("error",))  # type: ignore[arg-type]


def test_two_sessions_of_one_name(tmp_path: Path) -> None:
    own = recorder(tmp_path)
    record(own, session="a/b c")
    record(own, session="a/b c")
    first, second = RecordingRing(tmp_path).entries()
    assert first.id != second.id
    assert first.session == "a/b c"


# A ring


def test_the_oldest_goes_first(tmp_path: Path) -> None:
    own = recorder(tmp_path, gigabytes=2.5 * len(STREAM) / 1e9)
    for i in range(4):
        record(own, session=f"s{i}")
    assert [entry.session for entry in own.ring.entries()] == ["s2", "s3"]
    assert len(list(tmp_path.glob("*.mrd"))) == 2


def test_pinned_stays(tmp_path: Path) -> None:
    own = recorder(tmp_path, gigabytes=2.5 * len(STREAM) / 1e9)
    record(own, session="s0")
    own.ring.pin("s0")
    for i in range(1, 4):
        record(own, session=f"s{i}")
    assert [entry.session for entry in own.ring.entries()] == ["s0", "s3"]
    own.ring.pin("s0", pinned=False)
    record(own, session="s4")
    assert [entry.session for entry in own.ring.entries()] == ["s3", "s4"]


def test_too_old_goes(tmp_path: Path) -> None:
    own = recorder(tmp_path)
    record(own, session="old")
    entry, _ = the_one(tmp_path)
    path = tmp_path / f"{entry.id}.json"
    text = json.loads(path.read_text())
    text["begun"] = (datetime.now(timezone.utc) - timedelta(days=31)).isoformat()
    path.write_text(json.dumps(text))
    record(own, session="new")
    assert [entry.session for entry in own.ring.entries()] == ["new"]


def test_larger_than_the_ring_is_cut_off(tmp_path: Path) -> None:
    own = recorder(tmp_path, gigabytes=(len(STREAM) - 1) / 1e9)
    recording = record(own)
    assert "larger than" in recording.problem
    entry, written = the_one(tmp_path)
    assert not entry.complete
    assert 0 < len(written) < len(STREAM)
    assert wire(without_identity(HEADER)).startswith(written)
    ring = RecordingRing(tmp_path)
    with open_recording(ring.path(entry)) as found, pytest.raises(EOFError):
        list(found.items())


def test_find(tmp_path: Path) -> None:
    own = recorder(tmp_path)
    for session in ("s1", "s10", "t1"):
        record(own, session=session)
    ring = own.ring
    assert ring.find("s1").session == "s1"
    assert ring.find("t").session == "t1"
    with pytest.raises(ConfigError, match="may be any of"):
        ring.find("s")
    with pytest.raises(ConfigError, match="there is no recording 'x'"):
        ring.find("x")


def test_foreign_files_are_no_recordings(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "notes.json").write_text("{}")
    assert RecordingRing(tmp_path).entries() == []
    assert "tells of no recording" in caplog.text


# When the disk does not play along


def test_full_disk_ends_the_recording_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    left = 5000

    def write(file: int, data: Any, real: Callable[[int, Any], int] = os.write) -> int:
        nonlocal left
        if not left:
            raise OSError(28, "No space left on device")
        n = real(file, data[:left])
        left -= n
        return n

    monkeypatch.setattr(tape_module.os, "write", write)
    recording = record(recorder(tmp_path))  # which asserts that the session got all
    assert "No space left" in recording.problem
    entry, written = the_one(tmp_path)
    assert (entry.complete, entry.size, len(written)) == (False, 5000, 5000)
    assert "No space left" in entry.problem


def test_recording_that_cannot_be_kept_leaves_nothing_and_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(path: Path, text: str, **_: Any) -> int:
        path.write_bytes(text[:10].encode())
        raise OSError(28, "No space left on device")

    own = recorder(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_text", full)
        record(own)
        assert {path.name for path in tmp_path.iterdir()} == {".lock"}
        assert "recording of session s1 could not be kept" in own.trouble
        assert "No space left" in own.trouble
        assert own.trouble in caplog.text
    record(own, session="s2")
    assert [entry.session for entry in own.ring.entries()] == ["s2"]
    assert own.trouble == ""


def test_what_a_dead_process_left_waits_for_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    part = tmp_path / "20260101T000000.000000Z-dead.mrd.part"
    part.write_bytes(STREAM)
    os.utime(part, (1e9, 1e9))
    own = recorder(tmp_path, days=None)

    def full(path: Path, text: str, **_: Any) -> int:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_text", full)
        assert own.recover() == []
        assert "could not be taken in" in own.trouble
    record(own, session="s2")
    assert [entry.session for entry in own.ring.entries()] == ["dead", "s2"]


def test_room_is_left_on_the_disk(tmp_path: Path) -> None:
    recording = record(recorder(tmp_path, spare_gigabytes=1e9))
    assert "stay free" in recording.problem
    assert files(tmp_path) == set()


def test_slow_disk_never_holds_the_scan_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    go_on = threading.Event()

    def write(file: int, data: Any, real: Callable[[int, Any], int] = os.write) -> int:
        assert go_on.wait(300)
        return real(file, data)

    monkeypatch.setattr(tape_module.os, "write", write)
    stream, recording = recorder(tmp_path, queue_megabytes=0.01).begin("s1", MemoryStream(STREAM))
    assert received(stream) == STREAM  # nothing was written yet
    recording.finish("done")
    assert "slower than the scan" in recording.problem
    go_on.set()
    assert recording.wait(300)
    entry, _ = the_one(tmp_path)
    assert not entry.complete


def test_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    recording = record(recorder(tmp_path / "file"))
    assert "file" in recording.problem


def test_broken_connection_is_passed_on(tmp_path: Path) -> None:
    class Gone(MemoryStream):
        def receive_into(self, buffer: memoryview, deadline: float | None = None) -> int:
            return super().receive_into(buffer, deadline) or self._break()

        def _break(self) -> int:
            raise PeerGone("gone")

    stream, recording = recorder(tmp_path, keep=("errors",)).begin("s1", Gone(STREAM[:3000]))
    with pytest.raises(PeerGone):
        received(stream)
    recording.finish("lost")
    assert recording.wait(300)
    entry, written = the_one(tmp_path)
    assert len(written) == 3000
    assert entry.complete  # all that came is there
    with (
        open_recording(RecordingRing(tmp_path).path(entry)) as found,
        pytest.raises((EndOfStream, EOFError)),
    ):
        list(found.items())


DIES = """
import os, signal, sys
from pathlib import Path
from scanside.mrd.streams import MemoryStream
from scanside.recording import Recorder, RecordingConfig

data = sys.stdin.buffer.read()
recorder = Recorder(RecordingConfig(folder=Path(sys.argv[1]), spare_gigabytes=0))
stream, recording = recorder.begin("dead", MemoryStream(data))
stream.receive_into(memoryview(bytearray(len(data))))
while recording.tape.size < len(data):
    pass
print("ready", flush=True)
os.kill(os.getpid(), signal.SIGSTOP)
"""


def test_session_of_a_killed_worker_is_recovered(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", DIES, tmp_path], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    with process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(STREAM)
        process.stdin.close()
        assert process.stdout.readline() == b"ready\n"
        (part,) = tmp_path.glob("*.part")
        long_ago = time.time() - 60
        os.utime(part, (long_ago, long_ago))
        own = recorder(tmp_path, keep=("errors",))
        assert own.recover() == []  # it is still being written
        process.send_signal(signal.SIGKILL)
    (entry,) = own.recover()
    assert (entry.session, entry.outcome, entry.complete) == ("dead", "lost", False)
    assert "died" in entry.problem
    assert the_one(tmp_path)[1] == wire(without_identity(HEADER))
    assert own.recover() == []
