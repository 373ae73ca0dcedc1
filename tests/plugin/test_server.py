"""The server: where it listens, how many it serves, and how it ends."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator

import numpy as np
import pytest

from scanside.context import Context
from scanside.errors import ConfigError
from scanside.items import Readouts
from scanside.mrd.messages import Close, ConfigFile, ErrorText, HeaderXml
from scanside.mrd.reader import decode
from scanside.mrd.streams import SocketStream
from scanside.mrd.writer import encode
from scanside.pipeline import Pipeline
from scanside.serving import PipelinePool
from scanside.stage import Stage
from scanside.testing.small import small_readouts, small_scan
from scanside.testing.transports import play_host
from scanside_gadgetron.server import MrdServer

pytestmark = [pytest.mark.torch_free, pytest.mark.timeout(60)]

HEADER = small_scan().header.xml
OPENING = encode(ConfigFile("test"), HeaderXml(HEADER))


class Same(Stage[Readouts, Readouts]):
    """Gives what it takes, if it may."""

    gate = threading.Event()
    at_once = 0
    most_at_once = 0
    lock = threading.Lock()

    def process(self, item: Readouts) -> Iterator[Readouts]:
        cls = type(self)
        with cls.lock:
            cls.at_once += 1
            cls.most_at_once = max(cls.at_once, cls.most_at_once)
        cls.gate.wait(20)
        with cls.lock:
            cls.at_once -= 1
        yield item


@pytest.fixture(autouse=True)
def _open_gate() -> None:
    Same.gate.set()
    Same.most_at_once = 0


def pool() -> PipelinePool:
    return PipelinePool(Context("cpu"), load=lambda name, settings: Pipeline([Same()]))


def connect(server: MrdServer, host: str = "127.0.0.1") -> SocketStream:
    return SocketStream(socket.create_connection((host, server.port)), timeout=20)


def session(server: MrdServer, host: str = "127.0.0.1") -> int:
    """Run a session; gives how many readouts came back."""
    stream = connect(server, host)
    received = play_host(stream, ConfigFile("test"), HEADER, small_readouts())
    stream.close()
    assert received.error is None, received.error
    return sum(len(item) for item in received.items if isinstance(item, Readouts))


def test_listens_on_loopback_and_a_free_port() -> None:
    with MrdServer(pool(), port=0) as server:
        assert server.addresses == [("127.0.0.1", server.port)]
        assert session(server) == 24


def test_name_is_listened_on_in_all_its_families() -> None:
    with MrdServer(pool(), "localhost", 0) as server:
        assert {port for _, port in server.addresses} == {server.port}
        known = {info[4][0] for info in socket.getaddrinfo("localhost", 0, type=socket.SOCK_STREAM)}
        assert {host for host, _ in server.addresses} <= known
        for host, _ in server.addresses:
            assert session(server, host) == 24


def test_both_families_where_there_are_two(monkeypatch: pytest.MonkeyPatch) -> None:
    if not socket.has_ipv6:
        pytest.skip("this machine has no IPv6")
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError as error:
        pytest.skip(f"this machine has no IPv6 loopback: {error}")
    kind = socket.SOCK_STREAM
    both = [(socket.AF_INET6, kind, 6, "", ("::1", 0, 0, 0)), (socket.AF_INET, kind, 6, "", ("127.0.0.1", 0))]
    with monkeypatch.context() as patch:
        patch.setattr(socket, "getaddrinfo", lambda *_, **__: both)
        server = MrdServer(pool(), "localhost", 0)
    with server:
        assert server.addresses == [("::1", server.port), ("127.0.0.1", server.port)]
        assert [session(server, host) for host, _ in server.addresses] == [24, 24]


def test_port_that_is_taken() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(ConfigError, match=f"port {port}.*another port"):
            MrdServer(pool(), port=port)


def test_host_that_does_not_exist() -> None:
    with pytest.raises(ConfigError, match=r"nowhere\.invalid"):
        MrdServer(pool(), "nowhere.invalid", 0)


def test_as_many_at_once_as_allowed() -> None:
    Same.gate.clear()
    with MrdServer(pool(), port=0, max_sessions=2) as server:
        results: list[int] = []
        threads = [
            threading.Thread(target=lambda: results.append(session(server)), daemon=True) for _ in range(5)
        ]
        for thread in threads:
            thread.start()
        deadline = time.monotonic() + 20
        while Same.at_once < 2 and time.monotonic() < deadline:
            time.sleep(0.01)
        time.sleep(0.1)
        Same.gate.set()
        for thread in threads:
            thread.join(20)
    assert results == [24] * 5
    assert Same.most_at_once == 2


def test_bad_sessions_do_not_end_the_server() -> None:
    with MrdServer(pool(), port=0, max_sessions=1, drain_seconds=1) as server:
        for sent in (
            b"",
            b"GET / HTTP/1.1\r\n\r\n",
            OPENING[:5],
            OPENING + b"\xff" * 99,
            np.random.default_rng(0).bytes(999),
        ):
            with socket.create_connection(("127.0.0.1", server.port)) as sock:
                sock.sendall(sent)
            assert session(server) == 24


def test_host_that_says_nothing_is_told_to_go() -> None:
    with MrdServer(pool(), port=0, max_sessions=1, opening_seconds=0.2, drain_seconds=0.2) as server:
        with socket.create_connection(("127.0.0.1", server.port)) as silent:
            silent.settimeout(20)
            answer = b""
            while piece := silent.recv(1000):
                answer += piece
        error = decode(answer)[0]
        assert isinstance(error, ErrorText)
        assert "nothing came" in error.text
        assert session(server) == 24


def test_pause_in_a_scan_is_allowed() -> None:
    with MrdServer(pool(), port=0, opening_seconds=0.2) as server:
        with socket.create_connection(("127.0.0.1", server.port)) as sock:
            sock.settimeout(20)
            sock.sendall(OPENING)
            time.sleep(0.5)
            sock.sendall(encode(*small_readouts(), Close()))
            answer = b""
            while piece := sock.recv(1 << 16):
                answer += piece
        assert isinstance(decode(answer)[-1], Close)
        assert not any(isinstance(one, ErrorText) for one in decode(answer))


def test_stop_lets_running_sessions_finish() -> None:
    Same.gate.clear()
    server = MrdServer(pool(), port=0)
    server.start()
    results: list[int] = []
    thread = threading.Thread(target=lambda: results.append(session(server)), daemon=True)
    thread.start()
    while Same.at_once == 0:
        time.sleep(0.01)
    threading.Timer(0.2, Same.gate.set).start()
    server.stop(20)
    thread.join(20)
    assert results == [24]
    with pytest.raises(OSError, match="refused"):
        connect(server)


def test_stop_cuts_off_what_does_not_finish() -> None:
    server = MrdServer(pool(), port=0, drain_seconds=0.2)
    server.start()
    with socket.create_connection(("127.0.0.1", server.port)) as sock:
        sock.sendall(OPENING)
        time.sleep(0.2)
        began = time.monotonic()
        server.stop(0.3)
        assert time.monotonic() - began < 5
    assert not [one for one in threading.enumerate() if one.name.startswith("scanside-session")]


def test_process_says_where_it_listens_and_ends_when_asked() -> None:
    pytest.importorskip("torch")
    command = [sys.executable, "-m", "scanside_gadgetron", "serve", "--port", "0", "--pipeline", "fft"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        said = json.loads(process.stdout.readline())
        assert said["hosts"] == ["127.0.0.1"]
        stream = SocketStream(socket.create_connection(("127.0.0.1", said["port"])), timeout=20)
        received = play_host(stream, ConfigFile("grapa"), HEADER, small_readouts())
        stream.close()
        assert received.error is not None
        assert "'grapa'" in received.error
        process.send_signal(signal.SIGTERM)
        out, log = process.communicate(timeout=30)
    assert process.returncode == 0, log
    assert out == "", "standard output holds the one line"
    assert "listening" in log


def test_process_says_what_is_wrong() -> None:
    command = [sys.executable, "-m", "scanside_gadgetron", "serve", "--port", "0", "--pipeline", "grapa"]
    run = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert run.returncode == 1
    assert "error: there is no pipeline 'grapa'" in run.stderr
    assert run.stdout == ""
