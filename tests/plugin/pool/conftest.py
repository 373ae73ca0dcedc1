"""Servers with light workers, and hosts that speak to them."""

from __future__ import annotations

import os
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from scanside.items import Readouts
from scanside.mrd.messages import ConfigFile, HeaderXml
from scanside.mrd.streams import ByteStream, SocketStream
from scanside.mrd.writer import encode
from scanside.testing.small import small_readouts, small_scan
from scanside.testing.transports import Received, play_host
from scanside_gadgetron.pool.events import Event
from scanside_gadgetron.server import Server
from scanside_gadgetron.settings import ServerConfig

LIGHT = (sys.executable, str(Path(__file__).parent / "light_worker.py"))
HEADER = small_scan().header.xml


class House:
    """A server, what it told, and the folder through which a test speaks to stages."""

    def __init__(self, config: ServerConfig, scratch: Path) -> None:
        self.server = Server(config, LIGHT)
        self.scratch = scratch
        self.events: list[Event] = []
        self.server.subscribe(self.events.append)

    def opening(self, pipeline: str = "same") -> bytes:
        return encode(ConfigFile(pipeline), HeaderXml(HEADER))

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.server.port), 300)

    def play(self, pipeline: str = "same", stream: ByteStream | None = None) -> Received:
        """Run a session to its end."""
        stream = stream or SocketStream(self.connect(), timeout=300)
        received = play_host(stream, ConfigFile(pipeline), HEADER, small_readouts())
        stream.close()
        return received

    def is_whole(self, received: Received) -> bool:
        return received.error is None and len(received.items) > 0 and n_readouts(received) == 24

    def begin(self, pipeline: str = "same") -> Background:
        """Run a session in a thread."""
        return Background(lambda: self.play(pipeline))

    def open_gate(self, name: str = "gate") -> None:
        (self.scratch / f"{name}.open").touch()

    def wait_for(self, what: Callable[[], Any], seconds: float = 300) -> Any:
        """Wait until something is so."""
        deadline = time.monotonic() + seconds
        while not (found := what()):
            assert time.monotonic() < deadline, f"it did not come; events: {self.events}"
            time.sleep(0.01)
        return found

    def arrived(self, name: str = "gate", n: int = 1) -> None:
        """Wait until so many workers stand at a gate."""
        self.wait_for(lambda: len(list(self.scratch.glob(f"{name}.*.came"))) >= n)

    def of_kind(self, kind: str) -> list[Any]:
        return [event for event in list(self.events) if event.kind == kind]

    def wait_for_event(self, kind: str, n: int = 1) -> Any:
        return self.wait_for(lambda: self.of_kind(kind)[n - 1 : n])[0]


class Background:
    """A host in a thread."""

    def __init__(self, play: Callable[[], Received]) -> None:
        self._results: list[Any] = []
        self._thread = threading.Thread(target=self._run, args=(play,), daemon=True)
        self._thread.start()

    def _run(self, play: Callable[[], Received]) -> None:
        try:
            self._results.append(play())
        except Exception as error:  # noqa: BLE001 — the test looks at it
            self._results.append(error)

    def result(self, seconds: float = 300) -> Any:
        self._thread.join(seconds)
        assert self._results, "the host still waits"
        return self._results[0]


def n_readouts(received: Received) -> int:
    return sum(len(item) for item in received.items if isinstance(item, Readouts))


@pytest.fixture
def house(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Any]]:
    """Opens a server; settings of ``limits`` by their names, others too."""
    monkeypatch.setenv("SCANSIDE_TEST_SCRATCH", str(tmp_path))

    @contextmanager
    def opened(**settings: Any) -> Iterator[House]:
        limits = {
            name: settings.pop(name)
            for name in list(settings)
            if name.endswith(("_seconds", "_gib", "_mib")) and name not in ServerConfig.model_fields
        }
        limits.setdefault("drain_seconds", 5)
        config = ServerConfig(
            **{"port": 0, "workers": 1, "handover": "off", "limits": limits, "grace_seconds": 5, **settings}
        )
        one = House(config, tmp_path)
        one.server.start()
        try:
            yield one
        finally:
            one.server.stop(0)

    yield opened
    assert not _left_over(), "a worker has outlived its server"


def _left_over() -> list[str]:
    """Light workers of this test run that still live."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            stat, line = (entry / "stat").read_text(), (entry / "cmdline").read_bytes()
        except OSError:
            continue
        if LIGHT[1].encode() in line and int(stat.rpartition(")")[2].split()[1]) == os.getpid():
            found.append(line.decode())
    return found
