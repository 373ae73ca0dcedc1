"""The pool: who gets a worker, and what becomes of a session whose worker does not do as it should."""

from __future__ import annotations

import os
import signal
import socket
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest

from scanside.errors import ConfigError, StreamError
from scanside.mrd.messages import Close, ConfigFile, ConfigText, ErrorText, HeaderXml, Text
from scanside.mrd.peers import reported_error
from scanside.mrd.reader import decode
from scanside.mrd.streams import SocketStream
from scanside.mrd.writer import encode
from scanside.testing.small import small_readouts, small_scan
from scanside_gadgetron.pool import pool
from scanside_gadgetron.server import Server
from scanside_gadgetron.settings import ServerConfig

pytestmark = pytest.mark.torch_free

HEADER = small_scan().header.xml
OpenHouse = Callable[..., AbstractContextManager[Any]]


def n_descriptors() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


def answer(sock: socket.socket) -> bytes:
    """All that comes until the end."""
    sock.settimeout(30)
    came = b""
    while piece := sock.recv(1 << 16):
        came += piece
    return came


def test_as_many_at_once_as_workers_and_first_come_first_served(house: OpenHouse) -> None:
    with house(workers=2, queue=3) as one:
        hosts = [one.begin("gate")]
        for n in range(1, 5):
            one.wait_for(lambda n=n: len(one.of_kind("session-started") + one.of_kind("session-queued")) == n)
            hosts.append(one.begin("gate"))
        one.arrived(n=2)
        one.wait_for_event("session-queued", 3)
        assert one.server.pool.queue_depth == 3
        assert [event.depth for event in one.of_kind("session-queued")] == [1, 2, 3]
        assert len(one.of_kind("session-started")) == 2
        one.open_gate()
        assert all(one.is_whole(host.result()) for host in hosts)
        one.wait_for_event("session-ended", 5)
        started = [event.session for event in one.of_kind("session-started")]
        assert started == sorted(started)
        assert len(started) == 5
        assert {event.worker for event in one.of_kind("session-started")} == {0, 1}
        assert len({event.pid for event in one.of_kind("worker-started")}) == 2


def test_who_waits_is_told_so(house: OpenHouse) -> None:
    with house(queue=3) as one:
        busy = one.begin("gate")
        one.arrived()
        with one.connect() as first, one.connect() as second, one.connect() as gadgetron:
            # A host may name a configuration, or send text that is none of Gadgetron's.
            openings = (one.opening(), encode(ConfigText(b""), HeaderXml(HEADER)))
            for n, sock in enumerate((first, second), 1):
                sock.sendall(openings[n - 1] + encode(*small_readouts(), Close()))
                one.wait_for_event("session-queued", n)
                sock.settimeout(30)
                (told,) = decode(sock.recv(1000))  # while it waits
                assert isinstance(told, Text)
                assert (
                    f"all workers are busy, this scan waits for one of them, {n - 1} before it" in told.text
                )
            # Gadgetron's chains end at the first text.
            config = ConfigText(b"<configuration><pipeline>same</pipeline></configuration>")
            gadgetron.sendall(encode(config) + one.opening()[1026:] + encode(*small_readouts(), Close()))
            one.wait_for_event("session-queued", 3)
            gadgetron.settimeout(0.3)
            with pytest.raises(TimeoutError):
                gadgetron.recv(1)
            one.open_gate()
            assert one.is_whole(busy.result())
            for sock in (first, second, gadgetron):
                *readouts, close = decode(answer(sock))
                assert isinstance(close, Close)
                assert not any(isinstance(message, Text | ErrorText) for message in readouts)


def test_full_queue_is_told_at_once(house: OpenHouse) -> None:
    with house(queue=0) as one:
        busy = one.begin("gate")
        one.arrived()
        began = time.monotonic()
        refused = one.play()
        assert refused.error is not None
        assert "all workers are busy" in refused.error
        assert time.monotonic() - began < 60
        assert one.of_kind("session-refused")[0].reason == "queue-full"
        # Gadgetron may lose what it is told in the middle of sending: it is heard out first.
        with one.connect() as sock:
            sock.sendall(encode(ConfigText(b"<configuration/>"), HeaderXml(b"<x/>"), *small_readouts()))
            sock.settimeout(1)
            with pytest.raises(TimeoutError):
                sock.recv(1)
            sock.sendall(encode(Close()))
            error, close = decode(answer(sock))
            assert isinstance(error, ErrorText)
            assert isinstance(close, Close)
        # A host's own text, a whole chain from its file among it, is none of Gadgetron's.
        for config in (b"{}", b"<configuration><version>2</version><readers/><stream/></configuration>"):
            with one.connect() as sock:
                sock.sendall(encode(ConfigText(config)))
                error, close = decode(answer(sock))
                assert isinstance(error, Text)
                assert "all workers are busy" in (reported_error(error) or "")
                assert isinstance(close, Close)
        one.open_gate()
        assert one.is_whole(busy.result())
        one.wait_for_event("session-ended")  # until then its worker is not free
        assert one.is_whole(one.play())


def test_two_hundred_at_once(house: OpenHouse) -> None:
    with house(workers=2, queue=100) as one:
        hosts = [one.begin() for _ in range(200)]
        results = [host.result(300) for host in hosts]
        whole = [one.is_whole(result) for result in results]
        refused = [result for result in results if result.error is not None]
        assert all("all workers are busy" in result.error for result in refused)
        assert sum(whole) + len(refused) == 200
        assert sum(whole) >= 102
        assert one.is_whole(one.play())


@pytest.mark.parametrize(
    ("pipeline", "settings", "reason", "says"),
    [
        ("die", {}, "died", "ended by SIGKILL"),
        ("hang", {"stage_seconds": 0.4}, "hung", "stage 'act' worked on one item for more than 0.4 s"),
        ("freeze", {"heartbeat_seconds": 1}, "hung", "no sign of life for 1 s"),
        ("gate", {"session_seconds": 0.5}, "hung", "the session took longer than 0.5 s"),
        ("grow", {"memory_gib": 0.2}, "leaked", "GiB"),
    ],
)
def test_worker_that_does_not_do_as_it_should(
    house: OpenHouse, pipeline: str, settings: dict[str, float], reason: str, says: str
) -> None:
    with house(**settings) as one:
        assert one.is_whole(one.play())
        received = one.play(pipeline)
        ended = one.wait_for_event("worker-ended")
        assert (ended.reason, ended.worker) == (reason, 0)
        assert says in ended.detail
        if reason != "leaked" or received.error is not None:
            assert received.error is not None
            assert says in received.error
            assert "send it again" in received.error
            lost = one.wait_for_event("session-ended", 2)
            assert (lost.outcome, lost.reported) == ("lost", True)
        assert one.is_whole(one.play()), "another worker has taken its place"
        assert len(one.of_kind("worker-ready")) == 2


def test_worker_that_grew_in_its_session_is_replaced_after_it(house: OpenHouse) -> None:
    # The limit lies above what a light worker takes, and below that with what its stage keeps; with a quarter of
    # grace the session may end.
    with house() as one:
        one.play()
        base = one.wait_for(lambda: next((w.memory for w in one.server.pool._workers if w.memory), 0))
    with house(memory_gib=(base + 0.9 * (300 << 20)) / 2**30) as one:
        assert one.is_whole(one.play("grow"))
        ended = one.wait_for_event("worker-ended")
        assert ended.reason == "leaked"
        assert one.of_kind("session-ended")[0].outcome == "done"
        assert one.is_whole(one.play())


def test_nothing_is_said_in_the_middle_of_a_message(house: OpenHouse) -> None:
    with house() as one:
        with one.connect() as sock:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            config = ConfigText(b"<configuration><pipeline>die-while-sending</pipeline></configuration>")
            header = one.opening()[1026:]
            sock.sendall(encode(config) + header + encode(*small_readouts(), Close()))
            one.wait_for_event("worker-ended")
            with pytest.raises(ConnectionResetError):
                answer(sock)
        lost = one.wait_for_event("session-ended")
        assert (lost.outcome, lost.reported) == ("lost", False)
        assert one.is_whole(one.play())


def test_host_that_has_said_everything_is_told_at_once(house: OpenHouse) -> None:
    with house(drain_seconds=500) as one, one.connect() as sock:
        sock.sendall(one.opening("die") + encode(*small_readouts(), Close()))
        began = time.monotonic()
        # It waits with its own end open, as Gadgetron does.
        error, _ = decode(answer(sock))
        assert "ended by SIGKILL" in (reported_error(error) or "")
        assert time.monotonic() - began < 60


def test_host_that_still_sends_is_heard_out(house: OpenHouse) -> None:
    with house(drain_seconds=500) as one, one.connect() as sock:
        sock.sendall(one.opening("die") + encode(small_readouts()[0]))
        one.wait_for_event("worker-ended")
        sock.settimeout(1)
        with pytest.raises(TimeoutError):
            sock.recv(1)
        sock.sendall(encode(*small_readouts()[1:], Close()))
        assert reported_error(decode(answer(sock))[0])


@pytest.mark.parametrize(
    ("config", "kind"),
    [
        (ConfigFile("die"), Text),
        (ConfigText(b"<configuration><pipeline>die</pipeline></configuration>"), ErrorText),
    ],
)
def test_who_loses_a_worker_is_told_in_its_way(
    house: OpenHouse, config: ConfigFile | ConfigText, kind: type
) -> None:
    with house() as one, one.connect() as sock:
        sock.sendall(encode(config, HeaderXml(HEADER), *small_readouts(), Close()))
        error, close = decode(answer(sock))
        assert isinstance(error, kind)
        assert "ended by SIGKILL" in (reported_error(error) or "")
        assert isinstance(close, Close)


def test_silent_host_takes_no_worker(house: OpenHouse) -> None:
    with house(opening_seconds=1.5) as one, one.connect() as silent:
        assert one.is_whole(one.play())
        error, _ = decode(answer(silent))
        assert "nothing came for 1.5 s" in (reported_error(error) or "")
        assert len(one.of_kind("session-started")) == 1


def test_half_an_opening(house: OpenHouse) -> None:
    with house(opening_seconds=0.3, drain_seconds=0.3) as one, one.connect() as sock:
        sock.sendall(one.opening()[:99])
        assert b"did not come in time (opening_seconds)" in answer(sock)
        assert one.is_whole(one.play())


def test_host_that_takes_nothing_gives_its_worker_back(house: OpenHouse) -> None:
    with house(send_seconds=1) as one, one.connect() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        sock.sendall(one.opening("flood") + encode(*small_readouts(), Close()))
        one.wait_for_event("session-started")
        assert one.is_whole(one.play())
        assert one.of_kind("session-ended")[0].outcome == "lost"
        assert len(one.of_kind("worker-started")) == 1


def test_pause_in_a_scan_is_allowed(house: OpenHouse) -> None:
    with house(opening_seconds=0.2) as one, one.connect() as sock:
        sock.sendall(one.opening())
        time.sleep(0.5)
        sock.sendall(encode(*small_readouts(), Close()))
        *readouts, close = decode(answer(sock))
        assert isinstance(close, Close)
        assert not any(reported_error(message) for message in readouts)


def test_question_whether_somebody_is_there(house: OpenHouse) -> None:
    with house() as one:
        one.connect().close()
        with one.connect() as sock:
            sock.sendall(encode(Close()))
            assert answer(sock) == encode(Close())
        assert one.wait_for_event("session-ended").outcome == "query"


def test_limits_of_message_and_scan(house: OpenHouse) -> None:
    with house(message_mib=0.001) as one:
        received = one.play()
        assert "most" in received.error or "limit" in received.error, received.error
    with house(scan_gib=1e-5) as one:
        received = one.play()
        assert "limits.scan_gib" in received.error
        assert one.wait_for_event("session-ended").outcome == "failed"


def test_workers_take_devices_in_turn(house: OpenHouse) -> None:
    with house(workers=3, devices=("cuda:0", "cuda:1")) as one:
        started = one.of_kind("worker-started")
        assert [event.device for event in started] == ["cuda:0", "cuda:1", "cuda:0"]
        os.kill(started[1].pid, signal.SIGKILL)
        assert one.wait_for_event("worker-started", 4).device == "cuda:1", "as the one that it replaces"


def test_reload_loses_no_scan(house: OpenHouse) -> None:
    with house() as one:
        running = one.begin("gate")
        one.arrived()
        (old,) = one.of_kind("worker-started")
        one.server.reload(one.server.pool._config.model_copy(update={"workers": 2}))
        # New workers take what comes, while the old one finishes.
        assert one.is_whole(one.play())
        assert one.of_kind("worker-ended") == []
        one.open_gate()
        assert one.is_whole(running.result())
        ended = one.wait_for_event("worker-ended")
        assert (ended.pid, ended.reason) == (old.pid, "reloaded")
        assert len(one.of_kind("worker-ready")) == 3


@pytest.mark.parametrize(("allowed", "ends"), [(8.0, "status 0"), (0.4, "did not end when it was asked")])
def test_worker_has_time_to_end_however_long_it_was_idle(
    house: OpenHouse, monkeypatch: pytest.MonkeyPatch, allowed: float, ends: str
) -> None:
    monkeypatch.setattr(pool, "_RETIRE_SECONDS", allowed)
    with house() as one:
        (one.scratch / "slow-end").touch()
        time.sleep(allowed + 0.3)
        one.server.reload(one.server.pool._config)
        ended = one.wait_for_event("worker-ended")
        assert ended.reason == "reloaded"
        assert ends in ended.detail
        (one.scratch / "slow-end").unlink()


def test_failing_reload_changes_nothing(house: OpenHouse) -> None:
    with house() as one:
        (one.scratch / "broken").touch()
        with pytest.raises(ConfigError, match="is broken"):
            one.server.reload(one.server.pool._config)
        (one.scratch / "broken").unlink()
        assert one.is_whole(one.play())
        assert one.of_kind("session-started")[-1].worker == 0
        assert one.wait_for_event("worker-ended").pid != one.of_kind("worker-started")[0].pid


def test_what_a_reload_cannot_change(house: OpenHouse, caplog: pytest.LogCaptureFixture) -> None:
    with house() as one:
        port = one.server.port
        one.server.reload(one.server.pool._config.model_copy(update={"port": 1, "queue": 7}))
        assert "'port' takes a restart" in caplog.text
        assert one.server.port == port
        assert one.is_whole(one.play())


def test_stop_lets_running_sessions_finish(house: OpenHouse) -> None:
    with house() as one:
        running = one.begin("gate")
        one.arrived()
        waiting = one.begin()
        one.wait_for_event("session-queued")
        one.wait_for(lambda: one.open_gate() is None)
        one.server.stop()
        assert one.is_whole(running.result())
        result = waiting.result()
        # Whoever waited may have got the worker before the server stopped, or is told.
        assert one.is_whole(result) or "being stopped" in result.error
        with pytest.raises(OSError, match="refused"):
            one.connect()
        one.server.stop = lambda grace: None


def test_stop_cuts_off_what_does_not_finish(house: OpenHouse) -> None:
    with house() as one:
        running = one.begin("gate")
        one.arrived()
        began = time.monotonic()
        one.server.stop(0.3)
        assert time.monotonic() - began < 60
        result = running.result()
        assert isinstance(result, StreamError) or "stopped before the scan was done" in result.error
        assert one.of_kind("session-ended")[0].outcome == "lost"
        one.server.stop = lambda grace: None


def test_worker_that_cannot_get_ready_ends_the_start(house: OpenHouse, tmp_path: Any) -> None:
    (tmp_path / "broken").touch()
    with pytest.raises(ConfigError, match="is broken"), house(workers=2):
        pytest.fail("it started")
    (tmp_path / "broken").unlink()
    (tmp_path / "dies-at-start").touch()
    with pytest.raises(ConfigError, match="status 7"), house():
        pytest.fail("it started")


def test_worker_that_dies_at_its_start_is_tried_again_later(house: OpenHouse) -> None:
    with house() as one:
        (one.scratch / "dies-at-start").touch()
        os.kill(one.of_kind("worker-started")[0].pid, signal.SIGKILL)
        one.wait_for_event("worker-ended", 3)
        started = [event.time for event in one.of_kind("worker-started")]
        assert started[2] - started[1] >= 1, "it pauses between tries"
        assert one.server.pool.not_ready()
        waiting = one.begin()
        (one.scratch / "dies-at-start").unlink()
        assert one.is_whole(waiting.result())
        assert one.server.pool.not_ready() == ""


def test_worker_is_ready_when_its_engines_are(house: OpenHouse, tmp_path: Path) -> None:
    (tmp_path / "builds.open").touch()
    with house(prepare=("builds",)) as one:
        one.arrived("builds")
        (tmp_path / "builds.open").unlink()
        os.kill(one.of_kind("worker-started")[0].pid, signal.SIGKILL)
        one.arrived("builds", 2)
        assert "engines ready" in one.server.pool.not_ready()
        waiting = one.begin()
        one.wait_for_event("session-queued")
        time.sleep(0.3)
        assert one.of_kind("session-started") == []
        one.open_gate("builds")
        assert one.is_whole(waiting.result())
        assert one.server.pool.not_ready() == ""
        # In a session, nothing is built.
        (tmp_path / "builds.open").unlink()
        one.server.reload(one.server.pool._config.model_copy(update={"prepare": ()}))
        assert one.is_whole(one.play("builds"))


def test_port_that_is_taken() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(ConfigError, match=f"port {port}.*another server.*another port"):
            Server(ServerConfig(port=port, handover="off"))


def test_host_that_leaves_in_mid_scan(house: OpenHouse) -> None:
    with house() as one:
        stream = SocketStream(one.connect(), timeout=300)
        stream.send(one.opening(), encode(small_readouts()[0]))
        stream.close()
        assert one.wait_for_event("session-ended").outcome in ("lost", "failed")
        assert one.is_whole(one.play())


def test_restart_on_the_same_port_and_no_descriptors_left(house: OpenHouse) -> None:
    with house() as one:
        one.play()
        one.wait_for_event("session-ended")
        before = n_descriptors()
        for _ in range(20):
            assert one.is_whole(one.play())
        one.wait_for_event("session-ended", 21)
        one.wait_for(lambda: n_descriptors() <= before)
