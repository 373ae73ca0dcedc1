"""What a session may ask for, pipelines that are reused, and how a session ends."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal, get_args, get_origin

import numpy as np
import pytest
from pydantic import BaseModel

from scanside.context import Context
from scanside.convert import items_of
from scanside.errors import (
    ConfigError,
    MissingExtra,
    PeerGone,
    PipelineError,
    ScanError,
    StageConfigError,
    StageError,
)
from scanside.items import Image, Readouts
from scanside.mrd.messages import (
    Close,
    ConfigFile,
    ConfigText,
    ErrorText,
    HeaderXml,
    ImageArray,
    ImageMessage,
    Text,
)
from scanside.mrd.peers import reported_error
from scanside.mrd.reader import decode
from scanside.mrd.session import Opening, ServerSession
from scanside.mrd.streams import MemoryStream, SocketStream
from scanside.mrd.writer import encode
from scanside.pipeline import Pipeline, pipeline_names, pipeline_path
from scanside.registry import load_stage, stage_names
from scanside.scan import Scan
from scanside.serving import Outcome, PipelinePool, Request, node_reader, run_session, serve_stream
from scanside.stage import Stage, StageConfig
from scanside.testing.small import small_image, small_readouts, small_scan, small_waveform

HEADER = small_scan().header.xml


def opening_of(config: ConfigFile | ConfigText) -> Opening:
    stream = MemoryStream(encode(config, HeaderXml(HEADER)))
    opening = ServerSession(stream).open()
    assert opening is not None
    return opening


def request_of(xml: str) -> Request:
    return Request.of(opening_of(ConfigText(xml.encode())))


LAUGHS = "".join(
    f"{b}: &{b} [{', '.join([f'*{a}'] * 9)}]\n" for a, b in zip("abcdefgh", "bcdefghi", strict=True)
)


@pytest.mark.parametrize(
    "value", ["a: &a [x, x]\n" + LAUGHS, "[" * 5000, "9" * 5000, "x" * 10**6, "\x1b[2J\nforged"]
)
@pytest.mark.parametrize("setting", ["grappa.kernel_k1", "grappa." + "x" * 10**6, "a\nb", "nothing.here"])
def test_what_a_property_says_is_never_repeated_at_length(setting: str, value: str) -> None:
    with (
        pytest.raises(StageConfigError) as caught,
        PipelinePool(Context("cpu")).lend("grappa", {setting: value}),
    ):
        pass
    assert len(str(caught.value)) < 2000
    assert str(caught.value).isprintable()


@pytest.mark.torch_free
class TestRequest:
    def test_everything(self) -> None:
        request = request_of(
            """<?xml version="1.0"?>
            <configuration>
                <pipeline> grappa </pipeline>
                <property name="grappa.kernel_k1" value="4" />
                <property><name>finish.kind</name><value>complex</value></property>
                <output>image_array</output>
            </configuration>"""
        )
        settings = {"grappa.kernel_k1": "4", "finish.kind": "complex"}
        assert request == Request("grappa", settings, "image_array", "gadgetron")

    @pytest.mark.parametrize(
        "xml", ['<?xml version="1.0"?>\n', "<configuration />", "<configuration>\n</configuration>"]
    )
    def test_nothing(self, xml: str) -> None:
        assert request_of(xml) == Request(peer="gadgetron")

    @pytest.mark.parametrize("xml", ["", "\0"])
    def test_less_than_gadgetron_says(self, xml: str) -> None:
        assert request_of(xml) == Request(peer="mrd")

    @pytest.mark.parametrize("name", ["grappa", "grappa.xml", "grappa.yaml", " grappa.yml "])
    def test_by_name(self, name: str) -> None:
        assert Request.of(opening_of(ConfigFile(name))) == Request("grappa", peer="mrd")

    @pytest.mark.parametrize("name", ["", "default", "default.xml"])
    def test_default_by_name(self, name: str) -> None:
        # gadgetron_ismrmrd_client asks for default.xml unless told otherwise.
        assert Request.of(opening_of(ConfigFile(name))).pipeline is None

    @pytest.mark.parametrize(
        ("xml", "says"),
        [
            ("<configuration><pipelin>grappa</pipelin></configuration>", "<pipelin>.*<pipeline>"),
            ("<configuration><output>images</output></configuration>", "'images'.*image_array"),
            ("<configuration><property name='a'/></configuration>", "name and value"),
            ("<configuration><property value='a'/></configuration>", "name and value"),
            ("<configuration><version>2</version><stream/></configuration>", "whole Gadgetron chain"),
            ("<gadgetronStreamConfiguration/>", "<gadgetronStreamConfiguration>"),
            ("<configuration><pipeline>", "not well-formed"),
            ('{"pipeline": "grappa"}', "not well-formed"),
        ],
    )
    def test_what_cannot_be_read_is_no_default(self, xml: str, says: str) -> None:
        with pytest.raises(ConfigError, match=says):
            request_of(xml)


class Counting(Stage[Readouts, Readouts]):
    """Counts how often it is prepared."""

    prepared = 0

    def prepare(self, context: Context) -> None:
        self.prepared += 1

    def process(self, item: Readouts) -> Iterator[Readouts]:
        yield item


class Guarded(Counting):
    """Has a setting that names a folder."""

    class Config(StageConfig):
        RESERVED = frozenset({"folder"})

        folder: str = ""


@pytest.mark.torch_free
class TestPool:
    def test_prepared_once_and_used_again(self) -> None:
        pool = PipelinePool(load=lambda name, settings: Pipeline([Counting()], name=name))
        with pool.lend("a") as first:
            pass
        with pool.lend("a") as again, pool.lend("a") as beside, pool.lend("b") as other:
            assert again is first
            assert len({id(one) for one in (first, beside, other)}) == 3
        with pool.lend("a", {"counting.x": "1"}) as changed:
            assert changed not in (first, beside, other)
        assert [stage.prepared for stage in first.stages] == [1]

    def test_not_used_again_after_a_failure(self) -> None:
        pool = PipelinePool(load=lambda name, settings: Pipeline([Counting()]))
        with pytest.raises(ScanError), pool.lend() as first:
            raise ScanError("broken")
        with pool.lend() as second:
            assert second is not first

    def test_forgets_what_is_long_unused(self) -> None:
        pool = PipelinePool(load=lambda name, settings: Pipeline([Counting()]))
        with pool.lend("0") as first:
            pass
        for i in range(1, 9):
            with pool.lend(str(i)):
                pass
        with pool.lend("0") as again:
            assert again is not first

    @pytest.mark.parametrize("name", ["x" * 300, "x" * 1_000_000, "頭" * 150, "a\0b", "a\nb", "\ud83d"])
    def test_names_that_no_file_can_have(self, tmp_path: Path, name: str) -> None:
        """The system's own errors would name the folders of this machine."""
        with pytest.raises(PipelineError) as caught, PipelinePool(folder=tmp_path).lend(name):
            pass
        assert str(tmp_path) not in str(caught.value)
        assert len(str(caught.value)) < 1000
        assert str(caught.value).isprintable()

    @pytest.mark.parametrize("name", ["../secret", "/etc/passwd", "secret", "sub/own", "own.yaml", ".."])
    def test_names_do_not_leave_the_folder(self, tmp_path: Path, name: str) -> None:
        (tmp_path / "pipelines" / "sub").mkdir(parents=True)
        for path in (tmp_path / "secret.yaml", tmp_path / "pipelines" / "sub" / "own.yaml"):
            path.write_text("name: a\nstages: [accumulate]\n")
        (tmp_path / "pipelines" / "own.yaml").write_text("name: a\nstages: [accumulate]\n")
        pool = PipelinePool(folder=tmp_path / "pipelines")
        with pytest.raises(PipelineError, match=r"known are .*grappa.*own"), pool.lend(name):
            pass

    def test_unknown_name(self) -> None:
        with pytest.raises(PipelineError, match=r"'grapa'.*known are .*grappa"), PipelinePool().lend("grapa"):
            pass

    def test_several_are_made_ready_beforehand(self) -> None:
        pool = PipelinePool(load=lambda name, settings: Pipeline([Counting()], name=name))
        prepared = pool.warm_up("a", "b")
        assert sorted(prepared) == [".", "a", "b"]
        with pool.lend("b") as pipeline:
            assert pipeline is prepared["b"]
            assert [stage.prepared for stage in pipeline.stages] == [1]

    def test_names_are_checked_without_loading(self, tmp_path: Path) -> None:
        (tmp_path / "own.yaml").write_text("no pipeline at all")
        PipelinePool(folder=tmp_path).check("own", "sense")
        for pool, names in ((PipelinePool(default="grapa"), ()), (PipelinePool(), ("own",))):
            with pytest.raises(PipelineError, match="there is no pipeline"):
                pool.check(*names)

    def test_a_chain_may_name_any_file_and_shares_what_is_ready(self, tmp_path: Path) -> None:
        own = tmp_path / "own.yaml"
        own.write_text("name: a\nstages: [accumulate]\n")
        pool = PipelinePool()
        pool.for_chain().check(str(own))
        with pytest.raises(PipelineError):
            pool.check(str(own))
        pool = PipelinePool(load=lambda name, settings: Pipeline([Counting()], name=name))
        with pool.lend("a") as first:
            pass
        with pool.for_chain().lend("a") as again:
            assert again is first

    def test_default_that_is_asked_for_by_its_name_is_ready(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        Path("own.yaml").write_text("name: own\nstages: [accumulate]\n")
        monkeypatch.setattr(PipelinePool, "_make", lambda self, path, settings: Pipeline([Counting()]))
        pool = PipelinePool(default="./own.yaml", folder=tmp_path)
        prepared = list(pool.warm_up("own").values())
        for name in (None, "own"):
            with pool.lend(name) as pipeline:
                assert [pipeline] == prepared

    def test_what_has_changed_on_the_disk_is_loaded_anew(self) -> None:
        pool = PipelinePool(load=lambda name, settings: Pipeline([Counting()], name=name))
        with pool.lend("a") as first:
            pass
        vars(first.stages[0])["outdated"] = lambda: ["the bundle was replaced"]
        with pool.lend("a") as second:
            assert second is not first
            assert [stage.prepared for stage in second.stages] == [1]

    def test_reserved_settings_cannot_be_set_from_the_network(self) -> None:
        pool = PipelinePool(load=lambda name, settings: Pipeline([Guarded()], name=name))
        asked = {"guarded.folder": "/etc"}
        with pool.for_chain().lend("a", asked) as own:
            assert [stage.prepared for stage in own.stages] == [1]
        # Nor by asking for what a chain has left behind.
        with pytest.raises(StageConfigError, match=r"'guarded.folder' cannot be set"), pool.lend("a", asked):
            pass
        with pool.lend("a", {"guarded.folders": "2"}):
            pass

    def test_settings_that_hold_a_path_are_reserved_by_their_type(self) -> None:
        class Kept(Counting):
            class Config(StageConfig):
                here: Path | None = None
                there: tuple[Path, ...] = ()
                n: int = 0

        assert Kept.Config.reserved() == {"here", "there"}

    def test_says_what_to_install(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(
            "scanside.serving.pipelines.find_spec", lambda name: None if name == "torch" else object()
        )
        with (
            pytest.raises(MissingExtra, match=r"pip install 'scanside\[torch\]'"),
            PipelinePool().lend("grappa"),
        ):
            pass


HARMLESS = {
    ("accumulate", "keep_out"),  # names of flags
    ("engine", "backend"),  # name of a registered backend
    ("noncartesian-engine", "backend"),
    ("side-by-side", "names"),  # words for the attributes of images
}
"""Settings of shipped stages that hold text and name neither file nor folder, archive, host or bundle."""


def texts_in(annotation: object) -> bool:
    """Whether a setting of a type may hold any text or path, at any depth."""
    if annotation in (str, Any) or (isinstance(annotation, type) and issubclass(annotation, Path)):
        return True
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return any(texts_in(one.annotation) for one in annotation.model_fields.values())
    return get_origin(annotation) is not Literal and any(texts_in(part) for part in get_args(annotation))


def test_hosts_name_no_file_or_folder_in_any_shipped_stage() -> None:
    """A new setting that holds text is reserved, names installed bundles, or is put down as harmless here."""
    found = set()
    for name in stage_names():
        config = load_stage(name).Config
        texts = {one for one, setting in config.model_fields.items() if texts_in(setting.annotation)}
        assert config.reserved() | config.BUNDLES <= set(config.model_fields), name
        found |= {(name, one) for one in texts - config.reserved() - config.BUNDLES}
    assert found == HARMLESS


@pytest.mark.parametrize(
    "bundle",
    ["/", "/etc", "..", ".", "./brain-student", "../x", "brain-student/../x", "x" * 1000, "[/etc]"],
)
def test_hosts_name_installed_bundles_only(bundle: str) -> None:
    with (
        pytest.raises(StageConfigError, match="names of installed bundles only") as caught,
        PipelinePool(Context("cpu")).lend("student", {"engine.bundle": bundle}),
    ):
        pass
    assert len(str(caught.value)) < 1000


def test_own_pipelines_and_their_changes(tmp_path: Path) -> None:
    own = tmp_path / "own.yaml"
    own.write_text("name: first\nstages: [accumulate]\n")
    pool = PipelinePool(Context("cpu"), folder=tmp_path)
    with pool.lend("own") as pipeline:
        assert pipeline.name == "first"
    own.write_text("name: second version\nstages: [accumulate]\n")
    with pool.lend("own") as pipeline:
        assert pipeline.name == "second version"
    with PipelinePool(Context("cpu"), any_file=True).lend(str(own)) as pipeline:
        assert pipeline.name == "second version"


def test_shipped_pipelines_can_be_lent() -> None:
    """But for learned ones, which build and accept engines first, for minutes: see tests/integration."""
    classical = {name for name in pipeline_names() if "engine" not in pipeline_path(name).read_text("utf-8")}
    assert len(classical) < len(pipeline_names())
    pool = PipelinePool(Context("cpu"))
    for name in classical:
        with pool.lend(name) as pipeline:
            assert pipeline.name == name


class Session:
    """A server's session over a pair of sockets, with one pipeline."""

    def __init__(self, make: Callable[[], Pipeline]) -> None:
        self.asked: list[tuple[str, dict[str, str]]] = []
        self._make = make
        self.pool = PipelinePool(Context("cpu"), load=self._load)

    def _load(self, name: str, settings: Mapping[str, str]) -> Pipeline:
        self.asked.append((name, dict(settings)))
        return self._make()

    def talk(self, sent: bytes) -> tuple[list[object], Outcome]:
        """Send bytes, end writing, and decode everything that comes."""
        ours, theirs = socket.socketpair()
        stream = SocketStream(theirs, send_timeout=300)
        outcomes: list[Outcome] = []
        thread = threading.Thread(
            target=lambda: outcomes.append(serve_stream(stream, self.pool, drain_seconds=20)), daemon=True
        )
        thread.start()
        with ours:
            sender = threading.Thread(target=self._send, args=(ours, sent), daemon=True)
            sender.start()
            answer = bytearray()
            while piece := ours.recv(1 << 16):
                answer += piece
            sender.join(300)
            thread.join(300)
        stream.close()
        return list(decode(answer)), outcomes[0]

    @staticmethod
    def _send(sock: socket.socket, sent: bytes) -> None:
        sock.sendall(sent)
        sock.shutdown(socket.SHUT_WR)


class Finished(Stage[Readouts, Image]):
    """One known image at the end."""

    def open(self, scan: Scan) -> None:
        self.scan = scan
        scan.warn("the patient moved")

    def process(self, item: Readouts) -> Iterator[Image]:
        return iter(())

    def finish(self, end: object) -> Iterator[Image]:
        image = small_image()
        for name, value in self.scan.parameters.items():
            image.meta[name] = value
        yield image


def conversation(config: ConfigFile | ConfigText, *texts: str) -> bytes:
    return encode(
        config,
        HeaderXml(HEADER),
        *(Text(text) for text in texts),
        *small_readouts(),
        small_waveform(),
        Close(),
    )


def test_mrd_host_gets_images_and_warnings() -> None:
    session = Session(lambda: Pipeline([Finished()]))
    came, outcome = session.talk(conversation(ConfigFile("test")))
    assert [type(one) for one in came] == [ImageMessage, Text, Close]
    assert came[1] == Text("WARNING the patient moved")
    assert session.asked == [("test", {})]
    assert outcome.error is None
    assert (outcome.n_readouts, outcome.n_images) == (24, 1)


def test_chain_gets_what_passes_by_and_never_a_text() -> None:
    session = Session(lambda: Pipeline([Finished()]))
    config = ConfigText(b'<configuration><property name="finished.x" value="1"/></configuration>')
    came, _ = session.talk(conversation(config))
    assert sorted(type(one).__name__ for one in came) == ["Close", "ImageMessage", "Waveform"]
    assert session.asked == [(".", {"finished.x": "1"})]


def test_output_in_the_form_asked_for() -> None:
    session = Session(lambda: Pipeline([Finished()]))
    config = ConfigText(b"<configuration><output>image_array</output></configuration>")
    came, outcome = session.talk(conversation(config))
    assert [type(one) for one in came if not isinstance(one, Close)][-1] is ImageArray
    assert outcome.n_images == 1


def test_recon_data_cannot_be_had_from_images() -> None:
    config = ConfigText(b"<configuration><output>recon_data</output></configuration>")
    came, _ = Session(lambda: Pipeline([Finished()])).talk(conversation(config))
    assert [type(one) for one in came] == [ErrorText, Close]
    assert "makes images" in came[0].text  # type: ignore[attr-defined]


def test_parameters_of_the_host() -> None:
    session = Session(lambda: Pipeline([Finished()]))
    texts = ('{"parameters": {"denoise": true, "strength": 0.5}, "list": ["a", 2]}', "plain words")
    came, _ = session.talk(conversation(ConfigFile("test"), *texts))
    image = came[0]
    assert isinstance(image, ImageMessage)
    meta = items_of(image, small_scan())
    (item,) = meta
    assert isinstance(item, Image)
    assert dict(item.meta) == {
        "parameters.denoise": ["true"],
        "parameters.strength": ["0.5"],
        "list.0": ["a"],
        "list.1": ["2"],
        "text2": ["plain words"],
    }


@pytest.mark.torch_free
@pytest.mark.parametrize("sent", [b"", encode(ConfigFile("test")), encode(Close())])
def test_asking_whether_somebody_is_there_is_no_error(sent: bytes) -> None:
    session = Session(lambda: Pipeline([Counting()]))
    came, outcome = session.talk(sent)
    assert [one for one in came if not isinstance(one, Close)] == []
    assert outcome.error is None
    assert session.asked == []


@pytest.mark.torch_free
@pytest.mark.parametrize(
    ("sent", "says"),
    [
        (encode(HeaderXml(HEADER)), "a configuration was expected"),
        (encode(ConfigFile("test"), HeaderXml(b"<ismrmrdHeader>")), "not well-formed"),
        (encode(ConfigFile("test"), HeaderXml(b"<ismrmrdHeader/>")), "no <encoding>"),
        (
            encode(ConfigText(b"<configuration><a/></configuration>"), HeaderXml(HEADER)),
            "<a> in the configuration",
        ),
        (encode(ConfigText(b"{}"), HeaderXml(HEADER)), "not well-formed"),
        (conversation(ConfigFile("test"))[:-2], "CLOSE was expected"),
        (conversation(ConfigFile("test"))[:-30], "stopped inside"),
        (conversation(ConfigFile("test"))[:-2] + b"\x63\x00" + b"x" * 9, "unknown id 99"),
        (encode(ConfigFile("test"), HeaderXml(HEADER), ErrorText("host is ill"), Close()), "host is ill"),
    ],
)
def test_failures_reach_the_host(sent: bytes, says: str) -> None:
    session = Session(lambda: Pipeline([Counting()]))
    came, outcome = session.talk(sent)
    *before, error, close = came
    assert isinstance(close, Close)
    # Gadgetron ends its chain at a TEXT, MRD hosts at an ERROR.
    is_node = sent.startswith(encode(ConfigText(b"<configuration><a/></configuration>")))
    assert isinstance(error, ErrorText if is_node else Text)
    text = reported_error(error)
    assert text is not None
    assert says in text
    assert text.startswith("Scanside")
    assert not any(isinstance(one, ErrorText | Text | Close) for one in before)
    assert outcome.error is not None
    assert outcome.reported


class Broken(Counting):
    """Fails before any scan."""

    def prepare(self, context: Context) -> None:
        raise MemoryError("no memory for the engine")


class Slow(Finished):
    """Is prepared in many steps, and notes what it is prepared for."""

    contexts: ClassVar[list[Context]] = []
    n_steps = 20

    def prepare(self, context: Context) -> None:
        self.contexts.append(context)
        for _ in range(self.n_steps):
            context.check()
            time.sleep(0.02)


class Slower(Slow):
    """Takes longer than anybody waits."""

    n_steps = 600


def test_a_pipeline_is_prepared_for_a_session_without_building_engines() -> None:
    pool = PipelinePool(load=lambda name, settings: Pipeline([Slow()]))
    pool.warm_up()
    assert Slow.contexts.pop().builds_engines
    session = Session(lambda: Pipeline([Slow()]))
    came, _ = session.talk(conversation(ConfigFile("test")))
    assert isinstance(came[0], ImageMessage)
    assert not Slow.contexts.pop().builds_engines


@pytest.mark.parametrize(
    ("config", "n_texts"), [(ConfigFile("test"), 1), (ConfigText(b"<configuration/>"), 0)]
)
def test_a_host_is_told_that_preparing_takes_long(
    monkeypatch: pytest.MonkeyPatch, config: ConfigFile | ConfigText, n_texts: int
) -> None:
    monkeypatch.setattr("scanside.serving.session._LONG_SECONDS", 0.05)
    came, outcome = Session(lambda: Pipeline([Slow()])).talk(conversation(config))
    assert outcome.error is None
    texts = [one.text for one in came if isinstance(one, Text) and "is being prepared" in one.text]
    assert len(texts) == n_texts
    assert any(isinstance(one, ImageMessage) for one in came)


def test_preparing_ends_when_the_host_has_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that was killed closes its connection in order: that it is gone shows once it is told something."""
    monkeypatch.setattr("scanside.serving.session._LONG_SECONDS", 0.1)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        host = socket.create_connection(listener.getsockname())
        stream = SocketStream(listener.accept()[0], send_timeout=20)
    # It has sent all that its connection takes, and not the whole scan.
    host.sendall(conversation(ConfigFile("test"))[:-5])
    host.close()
    began = time.monotonic()
    outcome = serve_stream(stream, Session(lambda: Pipeline([Slower()])).pool, drain_seconds=5)
    stream.close()
    assert isinstance(outcome.error, PeerGone)
    assert not outcome.reported
    assert time.monotonic() - began < 10, "600 steps take at least 12 s"


class Surprised(Counting):
    """Fails in a way that nobody planned."""

    def process(self, item: Readouts) -> Iterator[Readouts]:
        raise ZeroDivisionError("division by zero")


class Nonsense(Counting):
    """Gives what is no item."""

    def process(self, item: Readouts) -> Iterator[Readouts]:
        yield np.zeros(3)  # type: ignore[misc]


@pytest.mark.torch_free
@pytest.mark.parametrize(
    ("stage", "says"),
    [
        (Broken, "MemoryError: no memory"),
        (Surprised, "ZeroDivisionError: division by zero"),
        (Nonsense, "gave ndarray"),
    ],
)
def test_failing_stages_reach_the_host(stage: type[Counting], says: str) -> None:
    came, outcome = Session(lambda: Pipeline([stage()], labels=["bad"])).talk(
        conversation(ConfigFile("test"))
    )
    assert [type(one) for one in came] == [Text, Close]
    assert isinstance(came[0], Text)
    assert "stage 'bad'" in came[0].text
    assert says in came[0].text
    assert isinstance(outcome.error, StageError)


class Int16(Finished):
    """Gives images that Gadgetron does not take."""

    def finish(self, end: object) -> Iterator[Image]:
        import torch

        yield small_image().replace(data=torch.ones((1, 1, 2, 2), dtype=torch.int16))


def test_gadgetron_is_not_sent_int16() -> None:
    came, _ = Session(lambda: Pipeline([Int16()])).talk(conversation(ConfigText(b"<configuration/>")))
    error = came[-2]
    assert isinstance(error, ErrorText)
    assert "int16" in error.text
    came, outcome = Session(lambda: Pipeline([Int16()])).talk(conversation(ConfigFile("test")))
    assert outcome.error is None, "other hosts take it"


def test_host_that_vanishes_ends_the_session() -> None:
    ours, theirs = socket.socketpair()
    stream = SocketStream(theirs, send_timeout=300)
    session = Session(lambda: Pipeline([Finished()]))
    ours.sendall(conversation(ConfigFile("test"))[:-5])
    ours.close()
    outcome = serve_stream(stream, session.pool, drain_seconds=5)
    stream.close()
    assert outcome.error is not None
    assert not outcome.reported


class Flood(Counting):
    """Gives far more than a connection holds."""

    def process(self, item: Readouts) -> Iterator[Readouts]:
        for _ in range(4000):
            yield item


@pytest.mark.torch_free
def test_host_that_stops_reading_ends_the_session() -> None:
    ours, theirs = socket.socketpair()
    stream = SocketStream(theirs, send_timeout=0.3)
    pool = PipelinePool(load=lambda name, settings: Pipeline([Flood()]))
    session = ServerSession.resume(stream, b"<configuration/>", HEADER, reader=node_reader(stream))
    sender = threading.Thread(target=ours.sendall, args=(encode(*small_readouts(), Close()),), daemon=True)
    sender.start()
    began = time.monotonic()
    outcome = run_session(session, pool)
    assert time.monotonic() - began < 30, "although a scan that goes on may be waited for much longer"
    sender.join(300)
    stream.close()
    ours.close()
    assert outcome.error is not None
    assert "took no data" in str(outcome.error)
    assert not outcome.reported
