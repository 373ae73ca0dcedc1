"""Hosts and nodes that mean harm: nobody keeps a worker, a thread or a descriptor, and readiness tells of it."""

from __future__ import annotations

import json
import os
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from pathlib import Path
from time import monotonic
from typing import Any

import pytest

from scanside.mrd.messages import Close, Text
from scanside.mrd.writer import encode
from scanside.testing.small import small_readouts
from scanside_gadgetron.pool.channel import Beat, Channel, HandOver, Idle, Reported
from scanside_gadgetron.pool.events import ImageMade, SessionEnded, Warned
from scanside_gadgetron.pool.observer import Outbox
from scanside_gadgetron.settings import ServerConfig

pytestmark = pytest.mark.torch_free

OpenHouse = Callable[..., AbstractContextManager[Any]]

HALF = "\\ud83d"
"""Half of a character as JSON writes it."""


def answer(sock: socket.socket) -> bytes:
    """All that comes until the end."""
    sock.settimeout(60)
    came = b""
    try:
        while piece := sock.recv(1 << 16):
            came += piece
    except ConnectionResetError:
        pass
    return came


@contextmanager
def dripping(sock: socket.socket, piece: bytes) -> Iterator[None]:
    """Send a few bytes now and then."""
    stop = threading.Event()

    def drip() -> None:
        while not stop.wait(0.05):
            try:
                sock.sendall(piece)
            except OSError:
                return

    thread = threading.Thread(target=drip, daemon=True)
    thread.start()
    yield
    stop.set()
    thread.join()


@pytest.mark.parametrize(
    "text",
    [
        f'{{"parameters": {{"{HALF}": "x", "config": "same"}}}}',
        f'{{"parameters": {{"config": "{HALF}"}}}}',
        f'{{"{HALF}": ["{HALF}", {{"{HALF}": 1}}]}}',
        '{"parameters": ' + '{"a": ' * 2000 + "1" + "}" * 2001,
        "[" * 100_000,
        json.dumps({"parameters": {f"p{i}": i for i in range(20_000)}}),
        json.dumps({"parameters": {"x" * 500_000: 1}}),
        '{"parameters": {"config": "\\u001b[2J\\n2026-03-01 12:00:00.000 error forged"}}',
    ],
)
def test_no_text_of_a_host_keeps_a_worker(house: OpenHouse, text: str) -> None:
    with house() as one:
        for _ in range(2):
            with one.connect() as sock:
                sock.sendall(one.opening() + encode(Text(text), *small_readouts(), Close()))
                assert answer(sock)
        assert one.is_whole(one.play())
        one.wait_for_event("session-ended", 3)
        assert len(one.of_kind("worker-started")) == 1
        assert one.server.pool.not_ready() == ""


def test_what_cannot_be_told_does_not_keep_the_rest_from_being_told() -> None:
    ours, theirs = Channel.pair()
    gone: list[int] = []
    outbox = Outbox(ours, lambda: gone.append(1))
    cyclic: dict[str, Any] = {}
    cyclic["itself"] = cyclic
    outbox.tell(Warned(time=0, session="s1", text="half \ud83d"))
    outbox.tell(
        ImageMade(time=0, session="s1", index=0, facts={"half \ud83d": ["\ud83d", float("nan"), {1}]})
    )
    outbox.tell(ImageMade.model_construct(time=0, session="s1", index=1, facts=cyclic))
    outbox.tell(Warned(time=0, session="s1", text="x" * 1_000_000))
    outbox.tell(SessionEnded(time=0, session="s1", outcome="done"))
    outbox.put(Idle(session="s1", memory=1))
    heard = []
    while not heard or not isinstance(heard[-1], Idle):
        received = theirs.receive()
        assert received is not None
        heard.append(received[0])
    kinds = [message.event.kind if isinstance(message, Reported) else message.kind for message in heard]
    assert kinds == ["warning", "image", "session-ended", "idle"]
    assert not gone
    theirs.close()


def test_who_watches_and_fails_costs_no_session(house: OpenHouse, caplog: pytest.LogCaptureFixture) -> None:
    def fail(event: Any) -> None:
        raise ValueError(f"cannot take {event.kind}")

    with house() as one:
        one.server.subscribe(fail)
        for _ in range(3):
            assert one.is_whole(one.play())
        one.wait_for_event("session-ended", 3)
    assert "could not be passed on" in caplog.text


def test_a_worker_that_cannot_report_is_seen_and_replaced(house: OpenHouse) -> None:
    with house() as one:
        pool = one.server.pool
        (worker,) = pool._workers
        assert pool._held(worker) == ""
        assert pool._fault(worker) is None
        late = replace(worker, late=20.0)
        assert "cannot report" in pool._held(late)
        assert pool._fault(late) is None
        assert pool._fault(replace(worker, late=31.0))[0] == "hung"
        over = replace(worker, visitor=object(), session_began=monotonic(), over_at=monotonic() - 1e6)
        assert "not free" in pool._fault(over)[1]


@pytest.mark.parametrize("piece", [b"\x02\x00", b"\x00", b"\xff\xff"])
def test_drops_hold_no_worker_before_the_header(house: OpenHouse, piece: bytes) -> None:
    with house(opening_seconds=1) as one, one.connect() as sock:
        sock.sendall(one.opening()[:40])
        with dripping(sock, piece):
            assert b"opening_seconds" in answer(sock)
        assert one.is_whole(one.play())


@pytest.mark.parametrize("piece", [b"", b"\x00", encode(Text("still here"))])
def test_silence_and_drops_after_the_header_are_told_and_counted(house: OpenHouse, piece: bytes) -> None:
    with house(opening_seconds=1, idle_seconds=4, heartbeat_seconds=4) as one, one.connect() as sock:
        sock.sendall(one.opening() + (encode(*small_readouts())[:1200] if piece == b"\x00" else b""))
        with dripping(sock, piece):
            one.wait_for(lambda: "has sent nothing for" in one.server.pool.not_ready())
            assert b"idle_seconds" in answer(sock)
        assert one.is_whole(one.play())
        assert one.server.pool.not_ready() == ""


def test_damage_and_then_silence_is_told_soon(house: OpenHouse) -> None:
    with house(idle_seconds=1, drain_seconds=3600) as one, one.connect() as sock:
        sock.sendall(one.opening() + struct.pack("<H", 4711) + bytes(100))
        assert b"unknown id 4711" in answer(sock)


def test_who_waits_for_an_answer_of_a_dead_worker_is_told_soon(house: OpenHouse) -> None:
    with house(idle_seconds=1, drain_seconds=3600) as one, one.connect() as sock:
        sock.sendall(one.opening("die") + encode(*small_readouts()))
        assert b"was lost" in answer(sock)


def n_descriptors() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


def test_nodes_that_hand_over_nonsense_leave_no_descriptor(house: OpenHouse, tmp_path: Path) -> None:
    place = tmp_path / "pool.sock"
    with house(handover=place) as one:
        before = n_descriptors()
        left, right = os.pipe()
        for message, descriptors in [
            (HandOver(pid=1), ()),
            (HandOver(pid=1), (left,)),
            (HandOver(pid=1), (left, right)),
            (Beat(memory=1), (left, right)),
            (None, (left, right)),
        ] * 10:
            with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as sock:
                sock.connect(str(place))
                node = Channel(sock)
                if message is None:
                    socket.send_fds(sock, [b"no message"], list(descriptors))
                else:
                    node.send(message, *descriptors)
                assert node.receive() is None
        os.close(left)
        os.close(right)
        one.wait_for(lambda: n_descriptors() <= before)


def test_the_idle_limit_is_a_setting() -> None:
    assert 60 <= ServerConfig().limits.idle_seconds <= 3600
