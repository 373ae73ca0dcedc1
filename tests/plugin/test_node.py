"""The node as Gadgetron sees it: what it reads, what it answers, and that it never ends a chain in silence."""

from __future__ import annotations

import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from scanside.context import Context
from scanside.items import Readouts
from scanside.mrd.messages import Close, ConfigText, ErrorText, HeaderXml, MessageId
from scanside.mrd.reader import decode
from scanside.mrd.writer import encode
from scanside.pipeline import Pipeline
from scanside.serving import Outcome, PipelinePool
from scanside.stage import Stage
from scanside.testing.small import small_readouts, small_scan, small_waveform
from scanside_gadgetron import node
from scanside_gadgetron.settings import Settings

pytestmark = pytest.mark.torch_free

HEADER = small_scan().header.xml
DATA = encode(*small_readouts(), small_waveform(), Close())


class Doubled(Stage[Readouts, Readouts]):
    """Gives every readout with twice its samples."""

    def process(self, item: Readouts) -> Iterator[Readouts]:
        yield item.with_samples(2 * item.samples)


@dataclass
class Answer:
    """What Gadgetron got."""

    sent: bytes
    outcome: Outcome | None

    @property
    def error(self) -> str:
        """The text of the ERROR that ends the answer, followed by nothing but CLOSE."""
        *before, error, close = decode(self.sent)
        assert isinstance(close, Close)
        assert isinstance(error, ErrorText)
        assert not any(isinstance(one, ErrorText | Close) for one in before)
        return error.text


Talk = Callable[..., Answer]


@pytest.fixture
def talk() -> Talk:
    """Play Gadgetron to a node that runs in a thread, with gadgetron-python's real connection in between."""
    connection_module = pytest.importorskip("gadgetron.external.connection")
    pool = PipelinePool(Context("cpu"), load=lambda name, settings: Pipeline([Doubled()], labels=["doubled"]))

    def talk(
        data: bytes,
        config: bytes = b"<configuration/>",
        pipelines: PipelinePool = pool,
        *,
        listens: bool = True,
    ) -> Answer:
        ours, theirs = socket.socketpair()
        outcomes: list[Outcome] = []

        def run() -> None:
            with connection_module.Connection(theirs) as connection:
                outcomes.append(node.run_node(connection, pipelines, drain_seconds=10))

        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        with ours:
            ours.settimeout(30)
            ours.sendall(encode(ConfigText(config), HeaderXml(HEADER)) + data)
            answer = bytearray()
            if listens:
                ours.shutdown(socket.SHUT_WR)
                while piece := ours.recv(1 << 16):
                    answer += piece
        thread.join(300)
        assert not thread.is_alive(), "the node hangs"
        return Answer(bytes(answer), outcomes[0] if outcomes else None)

    return talk


def test_scan_comes_back_with_one_close(talk: Talk) -> None:
    *messages, close = decode(talk(DATA).sent)
    assert isinstance(close, Close)
    assert not any(isinstance(one, Close) for one in messages)
    came = np.concatenate([one.samples.reshape(-1) for one in messages if isinstance(one, Readouts)])
    sent = np.concatenate([one.samples.reshape(-1) for one in small_readouts()])
    np.testing.assert_array_equal(came, 2 * sent)


def test_stream_cut_at_every_part(talk: Talk) -> None:
    # At a message's edge, in an id, in a header, in samples, and before the first message.
    first = encode(small_readouts()[0])
    for n in (
        0,
        len(first),
        len(first) + 1,
        len(first) + 100,
        len(first) + 400,
        len(DATA) - 2,
        len(DATA) - 1,
    ):
        error = talk(DATA[:n]).error
        assert "stopped inside" in error or "CLOSE was expected" in error


@pytest.mark.parametrize("number", [0, 7, 999, 1027, 65535])
def test_unknown_id(talk: Talk, number: int) -> None:
    damaged = encode(small_readouts()[0]) + struct.pack("<H", number) + b"\x01" * 5000
    assert f"unknown id {number}" in talk(damaged).error


@pytest.mark.parametrize(
    "kind", [MessageId.RECON_DATA, MessageId.IMAGE_ARRAY, MessageId.BUCKET, MessageId.ERROR]
)
def test_impossible_lengths(talk: Talk, kind: MessageId) -> None:
    length = struct.pack("<H", kind) + struct.pack("<13Q", *[2**63] * 13)
    answer = talk(encode(small_readouts()[0]) + length)
    assert "bytes" in answer.error or "dimensions" in answer.error


@pytest.mark.parametrize("kind", [MessageId.CONFIG, MessageId.HEADER])
def test_messages_out_of_place(talk: Talk, kind: MessageId) -> None:
    message = ConfigText(b"<configuration/>") if kind is MessageId.CONFIG else HeaderXml(HEADER)
    assert "may follow the header" in talk(encode(message, Close())).error


def test_gadgetron_that_dies_ends_the_node(talk: Talk) -> None:
    answer = talk(DATA[: len(DATA) // 2], listens=False)
    assert answer.outcome is not None
    assert answer.outcome.error is not None
    assert not answer.outcome.reported


class Many(Stage[Readouts, Readouts]):
    """Gives every readout many times: far more than a connection holds."""

    def __init__(self, n: int) -> None:
        super().__init__()
        self.n = n

    def process(self, item: Readouts) -> Iterator[Readouts]:
        for _ in range(self.n):
            yield item


@contextmanager
def node_beside_gadgetron(stage: Stage[Any, Any]) -> Iterator[tuple[socket.socket, threading.Thread]]:
    """A node in a thread, and the socket of a Gadgetron that has opened a session with it."""
    connection_module = pytest.importorskip("gadgetron.external.connection")
    pool = PipelinePool(Context("cpu"), load=lambda name, settings: Pipeline([stage]))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 17)
        ours = socket.socket()
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 17)
        ours.connect(listener.getsockname())
        theirs, _ = listener.accept()

    def run() -> None:
        with connection_module.Connection(theirs) as connection:
            node.run_node(connection, pool)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    with ours:
        ours.settimeout(100)
        ours.sendall(encode(ConfigText(b"<configuration/>"), HeaderXml(HEADER)))
        yield ours, thread
        thread.join(100)
        assert not thread.is_alive(), "the node hangs"


def rest(sock: socket.socket) -> bytes:
    """All that comes until the end."""
    came = bytearray()
    while piece := sock.recv(1 << 20):
        came += piece
    return bytes(came)


def test_gadgetron_that_takes_nothing_can_send_everything() -> None:
    # As one whose client was killed: what it still sends must find its way, or it never comes to its end.
    # More comes and goes than the connection's buffers hold.
    n = 24_000
    block = small_readouts()[1].select(np.zeros(n, np.intp))
    with node_beside_gadgetron(Many(1)) as (gadgetron, _):
        gadgetron.sendall(encode(block, Close()))
        *readouts, close = decode(rest(gadgetron))
    assert isinstance(close, Close)
    assert sum(len(one) for one in readouts if isinstance(one, Readouts)) == n


def test_gadgetron_that_takes_nothing_any_more_is_reset(monkeypatch: pytest.MonkeyPatch) -> None:
    # An end in order would wait behind what Gadgetron does not take, and its process for ever.
    monkeypatch.setattr(node, "SEND_SECONDS", 0.5)
    with node_beside_gadgetron(Many(100_000)) as (gadgetron, thread):
        gadgetron.sendall(encode(*small_readouts()))
        thread.join(100)
        assert not thread.is_alive(), "the node hangs"
        with pytest.raises(ConnectionResetError):
            rest(gadgetron)


@pytest.mark.parametrize(
    ("config", "says"),
    [
        (b"<configuration><pipeline>grapa</pipeline></configuration>", "'grapa': known are"),
        (b"<configuration><pipeline>own.yaml</pipeline></configuration>", "no pipeline file own.yaml"),
        (b"<configuration><pipelines>grappa</pipelines></configuration>", "<pipelines>"),
        (b"<configuration><output>dicom</output></configuration>", "'dicom'"),
    ],
)
def test_configurations_that_cannot_work(talk: Talk, config: bytes, says: str) -> None:
    assert says in talk(DATA, config, PipelinePool(any_file=True)).error


def test_missing_torch_is_said(talk: Talk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "scanside.serving.pipelines.find_spec", lambda name: None if name == "torch" else object()
    )
    config = b"<configuration><pipeline>fft</pipeline></configuration>"
    assert "pip install 'scanside[torch]'" in talk(DATA, config, PipelinePool()).error


def test_bare_declaration_is_the_default_pipeline(talk: Talk) -> None:
    names: list[str] = []

    def load(name: str, settings: object) -> Pipeline:
        names.append(name)
        return Pipeline([Doubled()])

    decode(talk(DATA, b'<?xml version="1.0"?>\n', PipelinePool(load=load)).sent)
    assert names == ["."]


def test_socket_leaves_standard_input() -> None:
    # As in a node that Gadgetron has started: its standard input is closed, so its socket is descriptor 0.
    code = """
import os, socket
from types import SimpleNamespace
from scanside_gadgetron.node import _take_socket
theirs, ours = socket.socketpair()
assert theirs.fileno() == 0, theirs.fileno()
connection = SimpleNamespace(socket=SimpleNamespace(socket=theirs))
taken = _take_socket(connection)
connection.socket.close()
assert taken.fileno() >= 3 and not os.get_inheritable(taken.fileno())
assert os.read(0, 10) == b"", "standard input is empty"
taken.send(b"hello")
assert ours.recv(10) == b"hello"
"""
    shell = ["/bin/sh", "-c", 'exec "$@" <&-', "sh"]
    run = subprocess.run([*shell, sys.executable, "-c", code], capture_output=True, text=True, timeout=300)
    assert run.returncode == 0, run.stderr


def test_settings_from_the_environment() -> None:
    assert Settings.from_environment({}) == Settings("auto", None, None)
    found = Settings.from_environment(
        {"SCANSIDE_DEVICE": "cpu", "SCANSIDE_NOISE_STORE": "/noise", "SCANSIDE_PIPELINES": ""}
    )
    assert found.device == "cpu"
    assert str(found.noise_store) == "/noise"
    assert found.pipelines is None
