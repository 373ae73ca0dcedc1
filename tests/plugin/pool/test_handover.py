"""A node hands its connection over and waits."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest

from scanside.items import Readouts
from scanside.mrd.messages import ConfigText
from scanside.mrd.streams import SocketStream
from scanside.mrd.writer import encode
from scanside.testing.small import small_readouts, small_scan
from scanside.testing.transports import Received, play_host
from scanside_gadgetron.pool import handover
from scanside_gadgetron.pool.channel import Channel, HandOver, Taken

pytestmark = pytest.mark.torch_free

OpenHouse = Callable[..., AbstractContextManager[Any]]

HEADER = small_scan().header.xml


class Gadgetron:
    """Starts a node as Gadgetron does, and plays a scan to it."""

    def __init__(self, pool: str) -> None:
        self.pool = pool
        self.log = ""

    def run(self, pipeline: str = "same", *, during: Callable[[], None] = lambda: None) -> Received:
        pytest.importorskip("gadgetron.external")
        code = "import logging; logging.basicConfig(level='INFO'); import runpy, sys; sys.argv[0] = 'gadgetron'; "
        code += "import atexit; atexit.register(lambda: print('torch' in sys.modules)); "
        code += "runpy.run_module('gadgetron', run_name='__main__')"
        with socket.create_server(("127.0.0.1", 0)) as listener:
            port = listener.getsockname()[1]
            shell = ["/bin/sh", "-c", 'exec "$@" <&-', "sh", sys.executable, "-c", code]
            with subprocess.Popen(
                [*shell, str(port), "scanside_gadgetron", "reconstruct"],
                env={**os.environ, "SCANSIDE_POOL": self.pool, "SCANSIDE_DEVICE": "cpu"},
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            ) as process:
                listener.settimeout(30)
                stream = SocketStream(listener.accept()[0], timeout=300)
                config = f"<configuration><pipeline>{pipeline}</pipeline></configuration>".encode()

                def items() -> Any:
                    yield from small_readouts()
                    during()

                received = play_host(stream, ConfigText(config), HEADER, items())
                stream.close()
                self.torch, self.log = process.communicate(timeout=300)
                self.status = process.returncode
        return received


def rest(sock: socket.socket) -> bytes:
    """All that comes until the end."""
    came = bytearray()
    while piece := sock.recv(1 << 20):
        came += piece
    return bytes(came)


def readouts(received: Received) -> int:
    return sum(len(item) for item in received.items if isinstance(item, Readouts))


def test_scan_goes_through_the_pool(house: OpenHouse, tmp_path: Path) -> None:
    with house(handover=tmp_path / "pool.sock", queue=0) as one:
        gadgetron = Gadgetron(str(tmp_path / "pool.sock"))
        received = gadgetron.run()
        assert received.error is None, gadgetron.log
        assert readouts(received) == 24
        assert gadgetron.torch.strip() == "False"
        assert "reconstructs this scan as session s000001" in gadgetron.log
        assert "the session is over: done" in gadgetron.log
        started = one.of_kind("session-started")[0]
        assert started.handed_over
        # A worker that dies is reported to Gadgetron too, and the node ends.
        received = gadgetron.run("die")
        assert received.error is not None
        assert "SIGKILL" in received.error
        assert "the session is over: lost" in gadgetron.log
        one.wait_for_event("worker-ready", 2)
        # No place: the node does it itself, here with a pipeline that it does not know either.
        busy = one.begin("gate")
        one.arrived()
        received = gadgetron.run("nope")
        assert "does not take this scan: all workers are busy" in gadgetron.log
        assert "this process runs the pipeline itself" in gadgetron.log
        assert "there is no pipeline 'nope'" in str(received.error)
        one.open_gate()
        assert one.is_whole(busy.result())


@pytest.mark.parametrize("what", ["flood", "die-while-sending"])
def test_gadgetron_that_takes_nothing_any_more_is_reset(
    house: OpenHouse, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    """Node and worker hold the connection both: whichever closes it last."""
    path = tmp_path / "pool.sock"
    monkeypatch.setenv("SCANSIDE_POOL", str(path))
    with house(handover=path, send_seconds=1 if what == "flood" else 300):
        with socket.create_server(("127.0.0.1", 0)) as listener:
            gadgetron = socket.create_connection(listener.getsockname(), 100)
            theirs, _ = listener.accept()
        config = f"<configuration><pipeline>{what}</pipeline></configuration>".encode()

        def node() -> None:
            with theirs:
                handover.hand_over(theirs, config, HEADER)

        waiting = threading.Thread(target=node, daemon=True)
        waiting.start()
        with gadgetron:
            gadgetron.sendall(encode(*small_readouts()))
            waiting.join(100)
            assert not waiting.is_alive(), "the node hangs"
            with pytest.raises(ConnectionResetError):
                rest(gadgetron)


def test_node_says_that_it_waits(house: OpenHouse, tmp_path: Path) -> None:
    path = tmp_path / "pool.sock"
    with house(handover=path) as one:
        busy = one.begin("gate")
        one.arrived()
        gadgetron = Gadgetron(str(path))

        def go_on() -> None:
            one.wait_for_event("session-queued")
            one.open_gate()

        assert readouts(gadgetron.run(during=go_on)) == 24
        assert "this scan waits, 0 before it" in gadgetron.log
        assert one.is_whole(busy.result())


@pytest.mark.parametrize("pool", ["off", "/nowhere/pool.sock"])
def test_without_a_pool_the_node_does_it_itself(pool: str) -> None:
    gadgetron = Gadgetron(pool)
    assert "there is no pipeline 'nope'" in str(gadgetron.run("nope").error)
    assert "this process runs the pipeline itself" in gadgetron.log
    assert ("no pool answers" in gadgetron.log) is (pool != "off")


def served(path: Path) -> tuple[socket.socket, Channel]:
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    listener.bind(str(path))
    listener.listen()
    return listener, Channel(listener)


@pytest.mark.parametrize("taken", [False, True])
def test_pool_that_dies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, taken: bool) -> None:
    monkeypatch.setenv("SCANSIDE_POOL", str(tmp_path / "pool.sock"))
    listener, _ = served(tmp_path / "pool.sock")
    ours, theirs = socket.socketpair()
    child = os.fork()
    if not child:
        pool = Channel(listener.accept()[0])
        received = pool.receive()
        good = received is not None and isinstance(received[0], HandOver) and len(received[1]) == 2
        if taken:
            pool.send(Taken(session="s1"))
        os.kill(os.getpid(), signal.SIGKILL if good else signal.SIGTERM)
    listener.close()
    with ours, theirs:
        # Before it took the scan, the node still has it whole; afterwards the end must not look like a good one.
        assert handover.hand_over(theirs, b"<configuration/>", HEADER) is taken
        ours.settimeout(5)
        if taken:
            assert ours.recv(1) == b""
        else:
            theirs.sendall(b"x")
            assert ours.recv(1) == b"x"
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL


def test_pool_of_another_user_gets_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.delenv("SCANSIDE_POOL", raising=False)
    monkeypatch.setattr(handover, "places", lambda: [tmp_path / "pool.sock"])
    listener, _ = served(tmp_path / "pool.sock")
    with listener:
        found = handover.find_pool()
        assert found is not None
        found.close()
        monkeypatch.setattr(handover, "peer_user", lambda sock: os.getuid() + 1)
        assert handover.find_pool() is None
        assert "gets no scan of this one" in caplog.text
        # Whoever names the place answers for it.
        monkeypatch.setenv("SCANSIDE_POOL", str(tmp_path / "pool.sock"))
        named = handover.find_pool()
        assert named is not None
        named.close()


def test_strangers_at_the_nodes_door(house: OpenHouse, tmp_path: Path) -> None:
    path = tmp_path / "pool.sock"
    with house(handover=path) as one:
        for said in (b"", b"nonsense", b'{"kind":"retire"}', b'{"kind":"hand-over","pid":1}'):
            with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as stranger:
                stranger.connect(str(path))
                stranger.settimeout(10)
                if said:
                    stranger.send(said)
                    assert stranger.recv(100) == b""
        assert one.is_whole(one.play())
    assert not path.exists()
