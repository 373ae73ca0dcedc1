"""Both sides of a session over real sockets: openings, ends, and failures that must reach the client."""

from __future__ import annotations

import logging
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import numpy as np
import pytest

from scanside.errors import (
    EndOfStream,
    IncompleteRead,
    MessageError,
    PeerGone,
    PeerReported,
    PeerSilent,
    ScanError,
    StreamError,
)
from scanside.mrd.dtypes import ACQUISITION_HEADER
from scanside.mrd.messages import (
    Close,
    ConfigFile,
    ConfigText,
    Data,
    ErrorText,
    HeaderXml,
    Message,
    Readouts,
    Text,
    Waveform,
)
from scanside.mrd.peers import reported_error
from scanside.mrd.reader import MessageReader, decode
from scanside.mrd.session import ClientSession, ServerSession, SessionState
from scanside.mrd.streams import MemoryStream, SocketStream
from scanside.mrd.writer import encode

pytestmark = pytest.mark.torch_free

CONFIG = ConfigText(b'<?xml version="1.0"?>\n<configuration><pipeline>grappa</pipeline></configuration>\n')
HEADER = HeaderXml(b"<ismrmrdHeader/>")
Pair = tuple[socket.socket, socket.socket]


@pytest.fixture
def pair() -> Iterator[Pair]:
    left, right = socket.socketpair()
    with left, right:
        yield left, right


@pytest.fixture
def server(pair: Pair) -> ServerSession:
    return ServerSession(SocketStream(pair[0], timeout=300), peer="mrd")


@pytest.fixture
def client(pair: Pair) -> ClientSession:
    return ClientSession(SocketStream(pair[1], timeout=300))


class Background(threading.Thread):
    """Runs a function beside the test, and gives its result or raises what it raised."""

    def __init__(self, function: Callable[[], Any]) -> None:
        super().__init__(daemon=True)
        self._function = function
        self._result: Any = None
        self._error: BaseException | None = None
        self.start()

    def run(self) -> None:
        try:
            self._result = self._function()
        except BaseException as error:  # noqa: BLE001
            self._error = error

    def result(self) -> Any:
        self.join(300)
        assert not self.is_alive(), "still running"
        if self._error is not None:
            raise self._error
        return self._result


def serve(*messages: Message) -> ServerSession:
    """A server whose client has said all this already, and closed."""
    return ServerSession(MemoryStream(encode(*messages)))


def collect(session: ServerSession | ClientSession) -> list[Data]:
    return [item.copy() if isinstance(item, Readouts) else item for item in session]


def test_a_whole_session(
    server: ServerSession, client: ClientSession, make: Any, assert_same: Callable[..., None]
) -> None:
    block, waveform, image = make.readouts(3), make.waveform(), make.image()

    def reconstruct() -> list[Data]:
        opening = server.open()
        assert opening is not None
        assert opening.config == CONFIG
        assert opening.header_xml == HEADER.xml
        assert opening.config_element is not None
        assert opening.config_element.findtext("pipeline") == "grappa"
        assert server.opening is opening
        received = collect(server)
        server.send(Text("one image follows"), image)
        server.finish()
        return received

    running = Background(reconstruct)
    assert client.state is SessionState.NEW
    client.open(CONFIG, HEADER.xml)
    assert client.state is SessionState.OPEN
    client.send(block, waveform)
    client.finish()
    assert client.state is SessionState.OUTPUT_CLOSED
    assert_same(collect(client), [image])
    assert client.texts == ["one image follows"]
    received = running.result()
    assert encode(*received) == encode(block, waveform)
    assert client.state is server.state is SessionState.CLOSED


def test_answers_come_while_the_client_still_sends(
    server: ServerSession, client: ClientSession, make: Any
) -> None:
    """Far more than the sockets hold, both ways: one of the two directions alone would block."""
    n = 150
    image = make.image("<c8", (1, 1, 128, 128))

    def reconstruct() -> None:
        server.open()
        for _ in server:
            server.send(image)
        server.finish()

    def send() -> None:
        for _ in range(n):
            client.send(image)
        client.finish()

    running = Background(reconstruct)
    client.open(CONFIG, HEADER.xml)
    sending = Background(send)
    assert len(collect(client)) == n
    sending.result()
    running.result()


@pytest.mark.parametrize(
    "said", [[], [Close()], [CONFIG], [CONFIG, Close()], [ConfigFile("default.xml")], [Text("x")]], ids=str
)
def test_a_client_that_only_asks_is_no_error(said: list[Message]) -> None:
    server = serve(*said)
    assert server.open() is None
    assert server.opening is None
    assert server.state is SessionState.INPUT_CLOSED


def test_a_client_that_resets_without_a_word_is_no_error() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        client = socket.create_connection(listener.getsockname())
        accepted, _ = listener.accept()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.close()
    with accepted:
        assert ServerSession(SocketStream(accepted)).open() is None


def test_a_client_that_says_nothing_is_an_error(pair: Pair) -> None:
    with pytest.raises(PeerSilent):
        ServerSession(SocketStream(pair[0], timeout=0.05)).open()


@pytest.mark.parametrize(
    ("xml", "found", "warned"),
    [
        (b"<configuration/>", True, False),
        (b'<?xml version="1.0"?>\n<configuration />\n', True, False),
        (b'<?xml version="1.0"?>\n<configuration />\n\0', True, False),
        (b'<c:configuration xmlns:c="urn:x"><a/></c:configuration>', True, False),
        # What Gadgetron sends where a chain has no <configuration>.
        (b'<?xml version="1.0"?>\n', False, False),
        (b"", False, False),
        (b"\0", False, False),
        (b"<gadgetronStreamConfiguration/>", False, False),
        (b"<configuration><pipeline>grappa</configuration>", False, True),
        (b"pipeline: grappa", False, True),
        (b"\xff\xfe<configuration/>", False, True),
    ],
)
def test_configuration_elements(
    xml: bytes, found: bool, warned: bool, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        opening = serve(ConfigText(xml), HEADER).open()
    assert opening is not None
    assert (opening.config_element is not None) == found
    assert bool(caplog.records) == warned


def test_a_configuration_by_name() -> None:
    opening = serve(ConfigFile("grappa"), HEADER, Close()).open()
    assert opening is not None
    assert opening.config == ConfigFile("grappa")
    assert opening.config_element is None


def test_the_last_of_two_configurations_counts(caplog: pytest.LogCaptureFixture) -> None:
    opening = serve(ConfigFile("default.xml"), CONFIG, HEADER).open()
    assert opening is not None
    assert opening.config == CONFIG
    assert "second configuration" in caplog.text


def test_texts_are_kept(make: Any) -> None:
    server = serve(
        CONFIG, Text("early"), HEADER, Text('{"a": 1}', nul=True), make.waveform(), Text("late"), Close()
    )
    server.open()
    assert server.texts == ["early"]
    assert server.texts_before_data() == ["early", '{"a": 1}']
    assert server.texts_before_data() == ["early", '{"a": 1}']
    (item,) = server
    assert isinstance(item, Waveform)
    assert server.texts == ["early", '{"a": 1}', "late"]


def test_texts_of_a_session_without_data() -> None:
    server = serve(CONFIG, HEADER, Text("x"), Close())
    server.open()
    assert server.texts_before_data() == ["x"]
    assert list(server) == []


@pytest.mark.parametrize(
    ("said", "text"),
    [
        ([HEADER], "HeaderXml as message 1 .* a configuration was expected"),
        ([CONFIG, "data"], "Waveform as message 2 .* a header was expected"),
        (["data"], "Waveform as message 1 .* a configuration was expected"),
    ],
)
def test_an_opening_in_the_wrong_order_is_an_error(said: list[Any], text: str, make: Any) -> None:
    server = serve(*(make.waveform() if item == "data" else item for item in said))
    with pytest.raises(MessageError, match=text):
        server.open()


def test_a_header_among_the_data_is_an_error(make: Any) -> None:
    server = serve(CONFIG, HEADER, make.waveform(), HEADER)
    server.open()
    with pytest.raises(MessageError, match="HeaderXml as message 4"):
        collect(server)


def test_ends_are_told_apart(make: Any) -> None:
    wire = encode(CONFIG, HEADER, make.readouts(2))
    for cut, expected in ((0, EndOfStream), (5, IncompleteRead)):
        server = ServerSession(MemoryStream(wire[: len(wire) - cut]))
        server.open()
        with pytest.raises(expected):
            collect(server)
    with pytest.raises(IncompleteRead):
        ServerSession(MemoryStream(wire[:20])).open()


def test_an_error_of_the_peer_is_raised_with_its_text() -> None:
    server = serve(CONFIG, HEADER, ErrorText("no gradients"), Close())
    server.open()
    with pytest.raises(PeerReported, match=r"^no gradients$"):
        collect(server)
    assert list(server) == []


def test_what_is_not_open_cannot_be_used(make: Any) -> None:
    server = ServerSession(MemoryStream())
    with pytest.raises(StreamError, match="call open"):
        next(iter(server))
    with pytest.raises(StreamError, match="has not been opened"):
        server.send(make.image())


def test_close_is_sent_once_and_nothing_after_it(make: Any) -> None:
    stream = MemoryStream(encode(CONFIG, HEADER, Close()))
    server = ServerSession(stream)
    server.open()
    server.send(make.image())
    server.finish()
    assert not stream.writing
    server.finish()
    assert decode(bytes(stream.sent))[-1:] == [Close()]
    assert len(decode(bytes(stream.sent))) == 2
    with pytest.raises(StreamError, match="this side has sent everything"):
        server.send(make.image())
    # The input can still be read to its end.
    assert list(server) == []
    assert server.state is SessionState.CLOSED


def test_a_session_is_resumed_where_gadgetron_python_has_read_the_opening(make: Any) -> None:
    stream = MemoryStream(encode(make.readouts(2), Close()))
    server = ServerSession.resume(stream, CONFIG.xml, HEADER.xml)
    assert server.opening is not None
    assert server.opening.config_element is not None
    assert server.opening.header_xml == HEADER.xml
    assert [len(block) for block in collect(server)] == [2]  # type: ignore[arg-type]
    with pytest.raises(MessageError, match="Gadgetron"):
        server.send(Text("hello"))
    server.finish()
    assert stream.sent == encode(Close())


def test_a_failure_reaches_a_client_that_is_still_sending(
    server: ServerSession, client: ClientSession, make: Any
) -> None:
    """The client sends far more than the sockets hold and looks for answers only then, as Gadgetron does."""
    block = make.readouts(64, 8, 256)

    def reconstruct() -> bool:
        server.open()
        next(iter(server))
        return server.fail("coil 3 is broken: unplug it")

    running = Background(reconstruct)
    client.open(CONFIG, HEADER.xml)
    for _ in range(12):
        client.send(block)
    client.finish()
    with pytest.raises(PeerReported, match=r"^coil 3 is broken: unplug it$"):
        collect(client)
    assert collect(client) == []
    assert client.state is SessionState.CLOSED
    assert running.result() is True
    assert server.state is SessionState.CLOSED
    with pytest.raises(EndOfStream):
        client.reader.read()


def test_error_and_close_come_after_the_clients_close_and_nothing_else(pair: Pair, make: Any) -> None:
    """The order on the wire, seen without our session at the other end."""
    server = ServerSession(SocketStream(pair[0]), peer="gadgetron")
    pair[1].sendall(encode(CONFIG, HEADER, make.readouts(2)))
    server.open()
    next(iter(server))
    failing = Background(lambda: server.fail("bad"))
    pair[1].sendall(encode(make.readouts(2)))
    pair[1].settimeout(0.2)
    with pytest.raises(TimeoutError):
        pair[1].recv(1)
    assert failing.is_alive()
    pair[1].sendall(encode(Close()))
    assert failing.result() is True
    received = b""
    while piece := pair[1].recv(1000):
        received += piece
    assert received == encode(ErrorText("bad"), Close())


def test_a_failure_before_the_opening_is_reported(
    pair: Pair, server: ServerSession, client: ClientSession, make: Any
) -> None:
    pair[1].sendall(encode(make.waveform(), Close()))
    with pytest.raises(MessageError) as caught:
        server.open()
    assert server.fail(str(caught.value))
    assert client.reader.read() == Text(f"ERROR {caught.value}")
    assert client.reader.read() == Close()


@pytest.mark.parametrize(
    ("sent", "kind"),
    [
        (encode(CONFIG, HeaderXml(b""), Close()), ErrorText),
        (encode(CONFIG) + b"\xff\xff", ErrorText),
        (encode(ConfigFile("grappa"), HEADER, Close()), Text),
        (encode(ConfigFile("grappa")) + b"\xff\xff", Text),
        (b"\xff\xff", Text),
    ],
)
def test_each_peer_is_told_in_its_way_from_its_first_message_on(
    pair: Pair, sent: bytes, kind: type[Message]
) -> None:
    server = ServerSession(SocketStream(pair[0], timeout=60))
    pair[1].sendall(sent)
    pair[1].shutdown(socket.SHUT_WR)
    with suppress(MessageError):
        server.open()
    assert server.fail("bad")
    error, close = decode(pair[1].recv(1000))
    assert isinstance(error, kind)
    assert reported_error(error) == "bad"
    assert close == Close()


def test_a_failure_after_the_input_is_reported_at_once(server: ServerSession, client: ClientSession) -> None:
    client.open(CONFIG, HEADER.xml)
    client.finish()
    server.open()
    assert collect(server) == []
    started = time.monotonic()
    assert server.fail("no calibration lines")
    assert time.monotonic() - started < 30
    with pytest.raises(PeerReported, match="no calibration lines"):
        collect(client)


def test_a_failure_of_a_damaged_stream_is_reported(
    pair: Pair, server: ServerSession, client: ClientSession
) -> None:
    """Nobody knows where messages begin any more: silence behind two bytes like CLOSE has to do."""
    client.open(CONFIG, HEADER.xml)
    pair[1].sendall(b"\xff\xff" + bytes(5000) + encode(Close()))
    server.open()
    with pytest.raises(MessageError, match="unknown id 65535") as caught:
        collect(server)
    started = time.monotonic()
    assert server.fail(str(caught.value))
    assert time.monotonic() - started < 30
    with pytest.raises(PeerReported, match="unknown id 65535"):
        collect(client)


def test_two_bytes_like_close_in_the_middle_of_a_damaged_stream_do_not_end_it(
    pair: Pair, server: ServerSession, client: ClientSession
) -> None:
    client.open(CONFIG, HEADER.xml)
    pair[1].sendall(b"\xff\xff" + encode(Close()))
    server.open()
    with pytest.raises(MessageError):
        collect(server)
    failing = Background(lambda: server.fail("damaged"))
    time.sleep(0.1)
    pair[1].sendall(bytes(100))
    time.sleep(0.8)
    assert failing.is_alive()
    client.finish()
    assert failing.result() is True


def test_a_client_that_never_closes_is_told_after_the_time_limit(
    server: ServerSession, client: ClientSession, caplog: pytest.LogCaptureFixture
) -> None:
    client.open(CONFIG, HEADER.xml)
    server.open()
    started = time.monotonic()
    assert server.fail("bad", drain_seconds=0.2)
    assert 0.2 <= time.monotonic() - started < 30
    assert "has not closed its input in time" in caplog.text
    with pytest.raises(PeerReported, match="bad"):
        collect(client)


def test_a_client_that_never_stops_is_told_after_the_time_limit(
    server: ServerSession, client: ClientSession, make: Any
) -> None:
    client.open(CONFIG, HEADER.xml)
    server.open()

    def send_for_ever() -> None:
        while True:
            client.send(make.waveform())

    sending = Background(send_for_ever)
    started = time.monotonic()
    assert server.fail("bad", drain_seconds=0.2)
    assert 0.2 <= time.monotonic() - started < 30
    with pytest.raises(PeerGone):
        sending.result()


def test_a_client_that_reads_nothing_does_not_hold_a_failure_up(
    server: ServerSession, client: ClientSession, make: Any
) -> None:
    """Its buffers are full, another thread of ours is stuck in the middle of an image, and it sends no CLOSE."""
    client.open(CONFIG, HEADER.xml)
    server.open()

    def send_for_ever() -> None:
        while True:
            server.send(make.image("<c8", (1, 1, 200, 200)))

    sending = Background(send_for_ever)
    time.sleep(0.3)
    started = time.monotonic()
    assert server.fail("bad", drain_seconds=0.2) is False
    assert time.monotonic() - started < 30
    with pytest.raises(StreamError):
        sending.result()


@pytest.mark.parametrize("when", ["before draining", "while draining"])
def test_failing_without_a_client_does_not_raise(
    when: str, pair: Pair, server: ServerSession, client: ClientSession, caplog: pytest.LogCaptureFixture
) -> None:
    client.open(CONFIG, HEADER.xml)
    server.open()
    # Something that the client has not read makes its close a reset.
    server.send(Text("hello"))
    closing = Background(lambda: (time.sleep(0.1 if when == "while draining" else 0), pair[1].close()))
    if when == "before draining":
        closing.result()
    assert server.fail("the operator should know") is False
    closing.result()
    assert "the operator should know" in caplog.text


def test_failing_twice_or_after_the_end_reports_once(
    server: ServerSession, client: ClientSession, caplog: pytest.LogCaptureFixture
) -> None:
    client.open(CONFIG, HEADER.xml)
    client.finish()
    server.open()
    assert server.fail("first") is True
    assert server.fail("second") is False
    assert "second" in caplog.text
    server.finish()
    with pytest.raises(PeerReported, match=r"^first$"):
        collect(client)
    assert collect(client) == []


def test_shutdown_frees_a_session_that_waits(server: ServerSession, client: ClientSession) -> None:
    client.open(CONFIG, HEADER.xml)
    server.open()
    waiting = Background(lambda: collect(server))
    time.sleep(0.1)
    server.shutdown()
    with pytest.raises(StreamError, match="shut down on this side"):
        waiting.result()
    server.close()


def test_a_session_uses_the_reader_that_it_is_given(make: Any) -> None:
    stream = MemoryStream(encode(CONFIG, HEADER, make.readouts(10), Close()))
    server = ServerSession(stream, reader=MessageReader(stream, max_block_readouts=4))
    server.open()
    assert [len(block) for block in server] == [4, 4, 2]  # type: ignore[arg-type]


def test_a_peer_that_falls_silent_in_a_message_or_sends_texts_only_is_given_up(pair: Pair, make: Any) -> None:
    server = ServerSession(SocketStream(pair[0]))
    server.idle_seconds = 0.6
    pair[1].sendall(encode(CONFIG, HEADER))
    server.open()
    stop = threading.Event()

    def drip() -> None:
        pair[1].sendall(encode(make.readouts(samples=4000))[:400])
        while not stop.wait(0.05):
            pair[1].sendall(b"\0")

    dripping = Background(drip)
    with pytest.raises(PeerSilent, match="idle_seconds"):
        list(server)
    stop.set()
    dripping.result()


@pytest.mark.parametrize("piece", [b"\x02\x00", encode(Text("still here")), encode(ConfigFile("default"))])
def test_one_deadline_holds_for_the_whole_opening(pair: Pair, piece: bytes) -> None:
    server = ServerSession(SocketStream(pair[0]))
    stop = threading.Event()

    def drip() -> None:
        while not stop.wait(0.05):
            pair[1].sendall(piece[:1])
            pair[1].sendall(piece[1:])

    dripping = Background(drip)
    with pytest.raises((PeerSilent, MessageError)):
        server.open(time.monotonic() + 0.6)
    stop.set()
    dripping.result()


def test_texts_have_an_end(server: ServerSession, pair: Pair) -> None:
    pair[1].sendall(encode(CONFIG, HEADER))
    server.open()
    sending = Background(lambda: pair[1].sendall(encode(Text("")) * 20_000))
    with pytest.raises(MessageError, match="texts"):
        list(server)
    pair[0].close()
    with suppress(OSError):
        sending.result()


def test_a_report_of_the_peer_is_not_repeated_at_length(server: ServerSession, pair: Pair) -> None:
    pair[1].sendall(encode(CONFIG, HEADER))
    server.open()
    sending = Background(lambda: pair[1].sendall(encode(ErrorText("x" * 1_000_000))))
    with pytest.raises(PeerReported) as caught:
        list(server)
    assert len(str(caught.value)) < 5000
    sending.result()


@pytest.mark.parametrize("said", [b"", b"\xff" * 3000])
def test_who_waits_for_an_answer_is_told_soon(server: ServerSession, pair: Pair, said: bytes) -> None:
    """The peer neither closes nor sends anything, as hosts do whose own message was damaged."""
    pair[1].sendall(said)
    begun = time.monotonic()
    assert server.fail("it went wrong", drain_seconds=600, quiet_seconds=0.3)
    assert time.monotonic() - begun < 60
    pair[1].settimeout(60)
    answer = bytearray()
    while piece := pair[1].recv(1 << 16):
        answer += piece
    assert b"it went wrong" in answer


class Broken(MemoryStream):
    """Raises something else at every call."""

    def __init__(self, *errors: Exception) -> None:
        super().__init__(b"\0\0")
        self._errors = list(errors)

    def receive_into(self, buffer: memoryview, deadline: float | None = None) -> int:
        if self._errors:
            raise self._errors.pop(0)
        return super().receive_into(buffer, deadline)


@pytest.mark.parametrize(
    "errors",
    [[ValueError("size")], [MemoryError()], [ScanError("too much")], [ValueError()] * 4, [RuntimeError()]],
)
def test_failing_never_raises(errors: list[Exception]) -> None:
    stream = Broken(*errors)
    assert ServerSession(stream).fail("it went wrong", drain_seconds=5)
    assert b"it went wrong" in stream.sent


@pytest.mark.parametrize(
    "shape", [(65535, 5000, 0), (65535, 4096, 0), (65535, 65535, 65535), (65535, 1, 65535)]
)
def test_a_readout_of_gigabytes_is_refused_and_told(shape: tuple[int, int, int]) -> None:
    """With the limits of production: NumPy has no record of more than 2 GiB."""
    header = np.zeros(1, ACQUISITION_HEADER)
    for name, value in zip(
        ("number_of_samples", "active_channels", "trajectory_dimensions"), shape, strict=True
    ):
        header[name] = value
    acquisition = struct.pack("<H", 1008) + header.tobytes()
    stream = MemoryStream(encode(CONFIG, HEADER) + acquisition + bytes(1000))
    server = ServerSession(stream)
    server.open()
    with pytest.raises(MessageError, match=r"number|announces|at most"):
        list(server)
    assert server.fail("it went wrong", drain_seconds=5)
    assert b"it went wrong" in stream.sent
