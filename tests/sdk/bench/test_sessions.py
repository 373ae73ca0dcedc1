"""The soak in small: every kind of session once or twice, and what it would say if something were wrong."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from typing import Any

import pytest

from scanside.bench.hosts import KINDS, Host
from scanside.bench.processes import Family
from scanside.bench.realtime import realtime_stream
from scanside.bench.sessions import Plan, troubled_sessions
from scanside.convert import message_of
from scanside.mrd.messages import Close, ErrorText, Text
from scanside.mrd.writer import encode
from scanside.testing.small import small_image


def test_the_whole_is_what_was_promised() -> None:
    plan = Plan()
    assert plan.n_rounds * sum(plan.per_round) >= 1000, "in a row"
    shares = [n / sum(plan.per_round) for n in plan.per_round]
    assert shares == [0.91, 0.05, 0.02, 0.02]
    sessions = [session for number in range(plan.n_rounds) for session in plan.mixed(number)]
    assert len(set(sessions)) == len(sessions)
    assert {kind for kind, _ in sessions} == set(KINDS)
    assert plan.mixed(1) == plan.mixed(1)
    part = Plan.of_share(0.01)
    assert (part.n_rounds, part.n_rounds_at_once) == (2, 0)


class Recorded(Host):
    """A host whose server gives what a test says."""

    def __init__(self, expected: bytes) -> None:
        self._n_frames = 1
        self.expected = expected


def test_answers_are_compared_byte_for_byte() -> None:
    image = encode(message_of(small_image()))
    host = Recorded(image + encode(Close()))
    waiting = encode(Text("Scanside: all workers are busy"))
    for good in (host.expected, waiting + host.expected):
        assert host._compared(good) == ""
    other = bytearray(host.expected)
    other[-10] ^= 1
    assert "other images" in host._compared(bytes(other))
    assert "0 of 1 images" in host._compared(encode(Close()))
    assert "failed: no" in host._compared(encode(ErrorText("no"), Close()))


@pytest.mark.slow
def test_small_soak() -> None:
    plan = Plan(n_rounds=2, n_rounds_at_once=1, per_round=(8, 1, 1, 1), peaceful=4)
    rows, headline = troubled_sessions(plan, lambda _: None)
    shown: dict[str, Any] = {row["what"]: row for row in rows}
    assert shown["sessions: healthy"]["runs"] == 24
    for kind in KINDS[1:]:
        assert shown[f"sessions: {kind}"]["runs"] == 3
    # That memory does not grow shows in the whole only.
    kept = [promise for promise in headline if "memory" not in promise.what]
    assert len(kept) == 4
    assert all(promise.holds for promise in kept), [*kept, *rows]


@pytest.mark.slow
def test_short_stream() -> None:
    rows, headline = realtime_stream(1.5, lambda _: None)
    assert rows[0]["median"] == 4 * 128
    lost = headline[0]
    assert lost.what.endswith("readouts that are in no image")
    assert lost.holds, rows


def test_family_finds_the_process_that_holds_a_connection() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        ours = socket.create_connection(listener.getsockname())
        theirs, _ = listener.accept()
    family = Family(os.getpid())
    with ours:
        assert family.holder(ours) is None
        code = "import sys; sys.stdin.read()"
        with subprocess.Popen(
            [sys.executable, "-c", code], stdin=subprocess.PIPE, pass_fds=(theirs.fileno(),)
        ) as child:
            theirs.close()
            assert family.holder(ours) == child.pid
            assert child.pid in family.children
            assert child.stdin is not None
            child.stdin.close()
    assert family.footprint().server > 1 << 20
