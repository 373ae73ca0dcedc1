"""However many hold connections to the page, whoever asks is answered."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from time import monotonic
from typing import Any

import pytest

pytest.importorskip("uvicorn")

from scanside_gadgetron.monitor import monitor

Show = Callable[..., Any]

ASK = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"


@contextmanager
def connections(shown: Any, n: int, said: bytes = b"") -> Iterator[list[socket.socket]]:
    with ExitStack() as stack:
        found = []
        for _ in range(n):
            one = stack.enter_context(socket.create_connection(("127.0.0.1", shown.monitor.port), 300))
            if said:
                one.sendall(said)
            found.append(one)
        yield found


def is_closed(one: socket.socket) -> bool:
    """Wait for the other end; whether it closed rather than said something."""
    try:
        return not one.recv(1 << 16)
    except ConnectionError:
        return True


def is_alive(one: socket.socket) -> bool:
    """Read the answer about health."""
    answer = b""
    while not answer.endswith(b"alive\n"):
        piece = one.recv(1 << 16)
        if not piece:
            return False
        answer += piece
    return answer.startswith(b"HTTP/1.1 200")


@pytest.mark.parametrize("said", [b"", b"GET / HTTP/1.1\r\nHost: "])
def test_health_is_told_however_many_are_idle(show: Show, said: bytes) -> None:
    shown = show()
    with connections(shown, 300, said):
        for path in ("/healthz", "/readyz", "/", "/metrics"):
            assert shown.get(path)[0] == 200, path
        assert shown.monitor._entrance.n_open <= 128


def test_health_is_told_while_others_keep_coming(show: Show) -> None:
    shown = show()
    over = threading.Event()

    def come() -> None:
        while not over.is_set():
            with connections(shown, 20):
                pass

    crowd = [threading.Thread(target=come, daemon=True) for _ in range(2)]
    with connections(shown, 200):
        for one in crowd:
            one.start()
        for _ in range(20):
            assert shown.get("/healthz")[0] == 200
        over.set()
    for one in crowd:
        one.join(300)


def test_oldest_idle_one_goes_first(show: Show) -> None:
    shown = show()
    with connections(shown, 2) as (first, second):
        first.sendall(ASK)
        assert is_alive(first)
        with connections(shown, 127):
            assert is_closed(second)
            first.sendall(ASK)
            assert is_alive(first)


def test_page_that_listens_stays_before_idle_ones(show: Show) -> None:
    shown = show()
    with connections(shown, 1) as (page,):
        page.sendall(b"GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert page.recv(1 << 16).startswith(b"HTTP/1.1 200")
        with connections(shown, 200):
            assert shown.get("/healthz")[0] == 200
            assert page.recv(1 << 16)  # what it hears at times
    assert shown.get("/healthz")[0] == 200


@pytest.mark.parametrize(
    "said",
    [b"", b"GET /healthz HTTP/1.1\r\nHost: lo", ASK],
)
def test_who_asks_nothing_is_let_go(show: Show, monkeypatch: pytest.MonkeyPatch, said: bytes) -> None:
    monkeypatch.setattr(monitor, "_IDLE_SECONDS", 0.3)
    shown = show()
    with connections(shown, 1, said) as (one,):
        began = monotonic()
        if said == ASK:
            assert is_alive(one)
        assert is_closed(one)
        assert monotonic() - began > 0.2
    assert shown.get("/healthz")[0] == 200
