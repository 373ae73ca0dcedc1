"""What a session tells, as a real worker of a server with a live page tells it."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from scanside.context import Context
from scanside.items import Image, Readouts
from scanside.mrd.messages import Close, ConfigFile, ConfigText, HeaderXml
from scanside.mrd.streams import MemoryStream
from scanside.mrd.writer import encode
from scanside.noise_store import NoiseStore
from scanside.pipeline import Pipeline
from scanside.scan import Scan
from scanside.serving import PipelinePool, serve_stream
from scanside.stage import Stage
from scanside.testing.small import small_image, small_readouts, small_scan
from scanside_gadgetron.pool.channel import Channel, Idle, Reported
from scanside_gadgetron.pool.events import Progress, SessionEnded, StageRan, Warned
from scanside_gadgetron.pool.observer import EventObserver, LiveTrace, Outbox, Pictures

HEADER = small_scan().header.xml
NOTHING: dict[str, str] = {}


class Told:
    """Takes the place of an outbox."""

    def __init__(self) -> None:
        self.events: list[Any] = []

    def tell(self, event: Any) -> None:
        self.events.append(event)

    def of(self, kind: str) -> list[Any]:
        return [event for event in self.events if event.kind == kind]


def serve(
    pipelines: PipelinePool, sent: bytes, folder: Path | None, pictures: Pictures | None = None
) -> Told:
    told = Told()
    observer = EventObserver(
        "s1",
        told,  # type: ignore[arg-type]
        pictures or Pictures(64),
        folder,
        pipelines.context.noise_store,
    )
    serve_stream(MemoryStream(sent), pipelines, observer=observer, drain_seconds=1)
    return told


def whole(config: str = "sense", header: bytes = HEADER, settings: Mapping[str, str] = NOTHING) -> bytes:
    properties = "".join(f'<property name="{name}" value="{value}"/>' for name, value in settings.items())
    asked = f"<configuration><pipeline>{config}</pipeline>{properties}</configuration>"
    return encode(ConfigText(asked.encode()), HeaderXml(header), *small_readouts(), Close())


def test_a_scan_in_pictures(tmp_path: Path) -> None:
    # A header that names somebody: none of it may leave.
    person = b"<patientName>Nemo^Nobody</patientName><patientID>7Q7</patientID>"
    subject = b"<subjectInformation>" + person + b"</subjectInformation>"
    header = HEADER.replace(b"<measurementInformation>", subject + b"<measurementInformation>")
    pool = PipelinePool(Context("cpu", NoiseStore()))
    settings = {"coil-maps.kernel": "4"}  # its few calibration lines hold no larger one
    told = serve(pool, whole("sense", header, settings), tmp_path / "s1")
    assert "Nemo" not in str(told.events)
    assert "7Q7" not in str(told.events)
    (opened,) = told.of("session-opened")
    assert opened.pipeline == "sense"
    assert "coil-maps" in opened.stages
    assert opened.scan["matrix"] == [24, 24, 1]
    assert opened.scan["n_coils"] == 4

    (made,) = told.of("image")
    picture = np.load(tmp_path / "s1" / made.file)
    assert picture.shape == (1, 24, 24)
    assert picture.dtype == np.float32
    with pool.lend("sense", settings) as pipeline, pipeline.open(small_scan()) as run:
        images = [item for block in small_readouts() for item in run.push(block) if isinstance(item, Image)]
    np.testing.assert_array_equal(picture, images[0].data[0].abs().numpy())
    assert made.facts["slice"] == 0
    assert made.facts["read_dir"] == [float(value) for value in images[0].header["read_dir"]]
    assert made.facts["field_of_view"] == [240.0, 240.0, 5.0]
    assert made.fallback is None
    assert made.latency_ms > 0

    kept = {event.what: np.load(tmp_path / "s1" / event.file) for event in told.of("observation")}
    assert kept["sampling"].shape == (1, 24)
    # Every second line, and calibration lines 8 to 15, which here are lines of the image too.
    sampled = [k for k in range(24) if k % 2 == 0 or 8 <= k < 16]
    assert np.flatnonzero(kept["sampling"][0]).tolist() == sampled
    assert kept["coils"].shape == (4, 1, 24, 24)
    assert np.iscomplexobj(kept["coils"])
    record = pool.context.noise_store.get("small_1")
    assert record is not None
    np.testing.assert_array_equal(kept["noise"], record.covariance)

    times = {}
    for event in told.of("stage"):
        times[event.stage] = times.get(event.stage, 0.0) + event.duration_ms
    assert set(times) == set(opened.stages)
    (ended,) = told.of("session-ended")
    assert (ended.outcome, ended.n_readouts, ended.n_images) == ("done", 24, 1)
    assert sum(times.values()) <= 1e3 * ended.seconds
    assert told.events[-1] is ended


@pytest.mark.parametrize(("last", "announced"), [(b"23", 24), (b"15", None)])
def test_progress_is_told_as_part_of_what_was_announced(
    tmp_path: Path, last: bytes, announced: int | None
) -> None:
    full = HEADER.replace(b"<kspace_encoding_step_1>2<", b"<kspace_encoding_step_1>1<")
    header = full.replace(b"<maximum>23</maximum>", b"<maximum>" + last + b"</maximum>")
    told = serve(PipelinePool(Context("cpu")), whole("fft", header), None)
    # Where more came than was announced, nobody knows how much is still to come.
    assert told.of("progress")[-1].n_readouts == 24
    assert told.of("progress")[-1].expected_readouts == announced


def test_without_a_page_no_file_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    told = serve(PipelinePool(Context("cpu")), whole("fft"), None)
    assert [event.file for event in told.of("image")] == [""]
    assert told.of("observation") == []
    assert list(tmp_path.iterdir()) == []


class Falling(Stage[Readouts, Image]):
    """An image that a classical reconstruction stood in for, and a warning."""

    def open(self, scan: Scan) -> None:
        self.scan = scan

    def process(self, item: Readouts) -> Iterator[Image]:
        self.scan.warn("the patient moved")
        image = small_image()
        image.meta["ScansideFallback"] = ["sense", "size", "no engine"]
        yield image


def falling() -> PipelinePool:
    return PipelinePool(Context("cpu"), load=lambda name, settings: Pipeline([Falling()]))


def test_fallbacks_and_warnings(tmp_path: Path) -> None:
    told = serve(falling(), whole(), tmp_path)
    assert {event.fallback for event in told.of("image")} == {"size: no engine"}
    assert [event.text for event in told.of("warning")] == ["the patient moved"]


def test_full_disk_costs_pictures_only(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "file").touch()
    told = serve(falling(), whole(), tmp_path / "file" / "s1")
    (ended,) = told.of("session-ended")
    assert ended.outcome == "done"
    assert ended.n_images == len(told.of("image")) > 0
    assert {event.file for event in told.of("image")} == {""}
    assert "could not be kept" in caplog.text


def test_slow_disk_costs_pictures_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save = np.save

    def slow(*arguments: Any, **options: Any) -> None:
        time.sleep(0.3)
        save(*arguments, **options)

    monkeypatch.setattr(np, "save", slow)
    told = serve(
        falling(),
        encode(ConfigFile("x"), HeaderXml(HEADER), *8 * small_readouts(), Close()),
        tmp_path,
        Pictures(1),
    )
    (ended,) = told.of("session-ended")
    assert ended.seconds < 0.3 * ended.n_images
    assert sorted(event.index for event in told.of("image")) == list(range(ended.n_images))


@pytest.mark.parametrize(
    ("sent", "outcome"),
    [
        (b"", "query"),
        (whole(), "done"),
        (whole()[:-2], "failed"),
        (encode(HeaderXml(HEADER)), "failed"),
    ],
)
def test_outcomes(sent: bytes, outcome: str) -> None:
    (ended,) = serve(falling(), sent, None).of("session-ended")
    assert ended.outcome == outcome
    assert bool(ended.error) is (outcome == "failed")


def test_short_items_are_joined() -> None:
    ran: list[tuple[str, float, float, int]] = []
    trace = LiveTrace(lambda *one: ran.append(one))
    trace.begin(["a", "b"])
    for _ in range(1000):
        trace.add("a", 1000)
    trace.flush()
    assert len(ran) < 5
    assert sum(n for *_, n in ran) == 1000
    assert sum(ms for _, _, ms, _ in ran) == pytest.approx(1.0)


@pytest.mark.torch_free
def test_outbox_drops_what_only_the_page_wants() -> None:
    ours, theirs = Channel.pair()
    theirs.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    outbox = Outbox(ours, lambda: None)
    began = time.monotonic()
    for i in range(20_000):
        outbox.tell(Progress(time=0, session="s1", n_readouts=i, n_images=0))
    ended = SessionEnded(time=0, session="s1", outcome="done")
    outbox.tell(Warned(time=0, session="s1", text="x"))
    outbox.tell(ended)
    outbox.put(Idle(session="s1", memory=1))
    assert time.monotonic() - began < 100
    came: list[Any] = []
    while not (came and isinstance(came[-1], Idle)):
        received = theirs.receive()
        assert received is not None
        came.append(received[0])
    events = [one.event for one in came if isinstance(one, Reported)]
    assert events[-2:] == [Warned(time=0, session="s1", text="x"), ended]
    assert len(events) < 20_000
    assert not any(isinstance(event, StageRan) for event in events)
    theirs.close()
    ours.close()


def test_worker_makes_the_pictures_of_a_page(tmp_path: Path) -> None:
    """The whole way: server, page, a worker with torch, and what the page then has."""
    pytest.importorskip("starlette")
    from scanside_gadgetron.monitor.config import MonitorConfig
    from scanside_gadgetron.server import Server
    from scanside_gadgetron.settings import ServerConfig

    config = ServerConfig(
        port=0,
        workers=1,
        pipeline="fft",
        devices=("cpu",),
        handover="off",
        monitor=MonitorConfig(port=0, folder=tmp_path),
        record={"folder": tmp_path / "recordings", "keep": ("all",)},
    )
    events: list[Any] = []
    with Server(config) as server:
        server.subscribe(events.append)
        assert server.monitor_url is not None
        with socket.create_connection(("127.0.0.1", server.port), 30) as sock:
            sock.sendall(whole("fft"))
            while sock.recv(1 << 16):
                pass
        deadline = time.monotonic() + 300
        while not any(event.kind == "session-ended" for event in events) and time.monotonic() < deadline:
            time.sleep(0.02)
        (made,) = [event for event in events if event.kind == "image"]
        (session,) = list(tmp_path.rglob("s000001"))
        assert np.load(session / made.file).shape == (1, 24, 24)
    assert len(list((tmp_path / "recordings").glob("*.json"))) == 1
