"""Connections are taken, and where that is impossible nothing spins."""

from __future__ import annotations

import asyncio
import errno
import logging
import socket
from collections.abc import Callable
from typing import Any

import pytest

from scanside_gadgetron.pool import accept
from scanside_gadgetron.pool.accept import Acceptor, Seldom

pytestmark = pytest.mark.torch_free


class Listener:
    """A listening socket whose accept fails as a test says."""

    def __init__(self, errors: list[int]) -> None:
        self._real = socket.create_server(("127.0.0.1", 0))
        self._errors = errors
        self.n_asked = 0

    def accept(self) -> Any:
        self.n_asked += 1
        if self._errors:
            raise OSError(self._errors.pop(0), "simulated")
        return self._real.accept()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)


def run(
    listener: Listener, n: int, seconds: float = 300, has_room: Callable[[], bool] = lambda: True
) -> list[Any]:
    """Take connections until there are so many."""
    taken: list[Any] = []

    async def main() -> None:
        acceptor = Acceptor(listener, lambda sock, _: taken.append(sock), has_room)  # type: ignore[arg-type]
        acceptor.open()
        hosts = [socket.create_connection(listener.getsockname()) for _ in range(max(n, 1))]
        deadline = asyncio.get_running_loop().time() + seconds
        while len(taken) < n or (not n and asyncio.get_running_loop().time() < deadline):
            assert not n or asyncio.get_running_loop().time() < deadline
            await asyncio.sleep(0.01)
        acceptor.close()
        for one in [*hosts, *taken]:
            one.close()

    asyncio.run(main())
    listener.close()
    return taken


def test_connections_are_taken_once_there_is_room(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(accept, "_PAUSE_SECONDS", 0.02)
    listener = Listener([errno.EMFILE] * 5)
    assert len(run(listener, 3)) == 3
    assert caplog.text.count("they wait") == 1


def test_nothing_spins_without_descriptors(caplog: pytest.LogCaptureFixture) -> None:
    listener = Listener([errno.EMFILE] * 1_000_000)
    run(listener, 0, seconds=0.3)
    assert listener.n_asked <= 2
    assert len(caplog.records) <= 1


def test_connections_wait_for_room() -> None:
    asked: list[int] = []

    def has_room() -> bool:
        asked.append(1)
        return len(asked) > 3

    assert len(run(Listener([]), 2, has_room=has_room)) == 2
    assert len(asked) >= 5


def test_host_that_left_holds_nobody_up(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(accept, "_PAUSE_SECONDS", 1e6)
    assert len(run(Listener([errno.ECONNABORTED] * 3), 2)) == 2
    assert not caplog.records


def test_what_happens_often_is_told_seldom(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    now = 0.0
    monkeypatch.setattr(accept, "monotonic", lambda: now)
    seldom = Seldom(logging.getLogger("scanside_gadgetron.test"), 60)
    for _ in range(1000):
        seldom.warning("a", "it is full")
    seldom.warning("b", "another thing")
    now = 61.0
    seldom.warning("a", "it is full")
    assert [record.message for record in caplog.records] == [
        "it is full",
        "another thing",
        "it is full (999 more like this since the last time it was told)",
    ]
