"""The web application over real connections."""

from __future__ import annotations

import http.client
import json
import socket
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from time import monotonic, sleep
from typing import Any
from urllib.parse import quote

import anyio
import numpy as np
import pytest
from starlette.types import Message

from scanside.errors import ConfigError
from scanside_gadgetron.monitor import MonitorConfig, start_monitor
from scanside_gadgetron.monitor.feed import Feed
from scanside_gadgetron.monitor.state import LiveState
from scanside_gadgetron.pool import events

TOKEN = "correct-horse-battery"
Show = Callable[..., Any]


def test_page_and_its_parts_come_from_here(show: Show) -> None:
    shown = show()
    status, headers, body = shown.get("/")
    assert status == 200
    policy = headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "script-src 'self'" in policy
    assert "unsafe" not in policy
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["X-Frame-Options"] == "DENY"
    page = body.decode()
    assert "Research use only" in page
    assert "http" not in page.replace("http-equiv", "")
    for path in ("style.css", "main.js", "viewer.js", "icon.svg"):
        status, headers, body = shown.get(f"/static/{path}")
        assert status == 200, path
        # A namespace is a name, not a place.
        assert b"http" not in body.replace(b"http://www.w3.org/2000/svg", b""), path


def test_session_as_json_and_its_pictures(show: Show, story: Any) -> None:
    shown = show()
    pixels = np.arange(2 * 5 * 7, dtype=np.float32).reshape(2, 5, 7)
    shown.pool.tell(*story.worker_ready(), *story.opened())
    shown.put("s1", "0.npy", pixels)
    shown.put("s1", "1.npy", (10 * pixels).astype(np.uint16))
    shown.put("s1", "noise.npy", np.array([[4, 2j], [-2j, 9]], np.complex64))
    shown.pool.tell(
        story.image(0, "0.npy"),
        story.image(1, "1.npy"),
        events.Observation(time=1, session="s1", what="noise", file="noise.npy"),
        story.ended(),
    )
    detail = shown.settle("s1", lambda found: found["state"] == "done")
    assert [one["index"] for one in detail["images"]] == [0, 1]
    assert detail["observations"] == {"noise": "noise.npy"}
    status, headers, body = shown.get("/api/sessions/s1/images/0")
    assert (status, headers["X-Scanside-Shape"], headers["X-Scanside-Type"]) == (200, "2,5,7", "float32")
    np.testing.assert_array_equal(np.frombuffer(body, "<f4").reshape(2, 5, 7), pixels)
    _, headers, body = shown.get("/api/sessions/s1/images/1?z=1")
    assert (headers["X-Scanside-Shape"], headers["X-Scanside-Type"]) == ("5,7", "uint16")
    np.testing.assert_array_equal(np.frombuffer(body, "<u2").reshape(5, 7), 10 * pixels[1])
    _, headers, body = shown.get("/api/sessions/s1/observations/noise")
    np.testing.assert_array_equal(np.frombuffer(body, "<f4"), [4, 2, 2, 9])
    _, _, body = shown.get("/api/sessions")
    assert [one["id"] for one in json.loads(body)["sessions"]] == ["s1"]


@pytest.mark.parametrize(
    "path",
    [
        "/api/sessions/nobody",
        "/api/sessions/nobody/images/0",
        "/api/sessions/s1/images/9",
        "/api/sessions/s1/images/0?z=7",
        "/api/sessions/s1/images/..%2fsecret.npy",
        "/api/sessions/..%2f..%2fs1/images/0",
        "/api/sessions/s1/observations/..%2f..%2fsecret.npy",
        "/api/sessions/../secret.npy",
        "/static/../app.py",
        "/static/..%2fapp.py",
        "/static/%2e%2e/app.py",
        "/secret.npy",
    ],
)
def test_nothing_else_can_be_had(show: Show, story: Any, path: str) -> None:
    shown = show()
    shown.put("s1", "0.npy", np.ones((1, 2, 2), np.float32))
    np.save(shown.monitor.session_folder("s1").parent / "secret.npy", np.ones(3))
    shown.pool.tell(*story.opened(), story.image(0, "0.npy"))
    shown.settle("s1", lambda found: found["images"])
    status, _, body = shown.get(path)
    assert status == 404
    assert b"NUMPY" not in body


@pytest.mark.parametrize("z", ["-1", "1e3", "²", "9" * 20])
def test_slice_that_is_no_number(show: Show, story: Any, z: str) -> None:
    assert show().get(f"/api/sessions/s1/images/0?z={quote(z)}")[0] == 400


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS"])
def test_it_only_shows(show: Show, method: str) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", show().monitor.port, timeout=300)
    connection.request(method, "/api/sessions")
    assert connection.getresponse().status == 405
    connection.close()


def test_health(show: Show) -> None:
    shown = show(token=TOKEN)
    shown.pool.reason = "no worker has its engines warm yet"
    assert shown.get("/healthz")[0] == 200
    status, _, body = shown.get("/readyz")
    assert (status, body) == (503, b"no worker has its engines warm yet\n")
    shown.pool.reason = ""
    assert shown.get("/readyz")[0] == 200


def test_metrics_are_prometheus_text(show: Show, story: Any) -> None:
    shown = show()
    shown.pool.tell(*story.opened(), story.ended())
    shown.settle("s1", lambda found: found["state"] == "done")
    status, headers, body = shown.get("/metrics")
    assert status == 200
    assert headers["Content-Type"].startswith("text/plain")
    assert b'scanside_sessions_total{outcome="done"} 1.0' in body


@pytest.mark.parametrize("path", ["/", "/events", "/metrics", "/api/sessions", "/static/main.js"])
def test_nothing_without_the_token(show: Show, path: str) -> None:
    shown = show(token=TOKEN)
    assert shown.get(path)[0] == 401
    assert shown.get(path, {"Authorization": "Bearer wrong-horse-battery"})[0] == 401
    assert shown.get(path, {"Cookie": f"scanside_monitor={TOKEN}"})[0] == 401
    assert shown.get(f"{path}?token=wrong")[0] == 401
    assert shown.get(path, {"Authorization": "Bearer \xe4\xf6"})[0] == 401


def test_token_opens_the_page(show: Show) -> None:
    shown = show(token=TOKEN)
    assert shown.get("/metrics", {"Authorization": f"Bearer {TOKEN}"})[0] == 200
    status, headers, _ = shown.get(f"/?token={TOKEN}")
    assert (status, headers["Location"]) == (303, "/")
    cookie = headers["Set-Cookie"]
    assert TOKEN not in cookie
    for path in ("//evil.example/", "///evil.example", "/\\evil.example", "/%2fevil.example/x"):
        status, headers, _ = shown.get(f"{path}?token={TOKEN}&a=b")
        place = headers["Location"]
        assert status == 303
        assert place.startswith("/")
        assert place[1] not in "/\\", place
    assert "HttpOnly" in cookie
    assert "SameSite=lax" in cookie
    assert shown.get("/", {"Cookie": cookie.split(";")[0]})[0] == 200


def test_page_of_someone_else_that_points_here(show: Show) -> None:
    shown = show()
    port = shown.monitor.port
    assert shown.get("/", {"Host": f"evil.example:{port}"})[0] == 403
    assert shown.get("/", {"Host": f"localhost:{port}"})[0] == 200
    assert shown.get("/", {"Host": f"[::1]:{port}"})[0] == 200


@pytest.mark.parametrize("host", ["0.0.0.0", "192.168.0.5", "::", "scanner.example"])
def test_other_addresses_ask_for_a_token(host: str) -> None:
    with pytest.raises(ConfigError, match="token"):
        start_monitor(lambda _: None, None, MonitorConfig(host=host, port=0))  # type: ignore[arg-type]


def test_short_token() -> None:
    with pytest.raises(ValueError, match="16") as raised:
        MonitorConfig(token="tooshort")  # type: ignore[arg-type]
    assert "tooshort" not in str(raised.value)
    assert TOKEN not in repr(MonitorConfig(token=TOKEN))  # type: ignore[arg-type]


def test_port_that_is_taken(show: Show, tmp_path: Path) -> None:
    port = show().monitor.port
    with pytest.raises(ConfigError, match="another port"):
        show(port=port)


def test_folders_come_and_go(show: Show, tmp_path: Path) -> None:
    first = show(folder=tmp_path / "both")
    left = tmp_path / "both" / "scanside-live-left"
    left.mkdir(mode=0o700)
    (left / ".lock").touch()
    foreign = tmp_path / "both" / "scanside-live-foreign"
    foreign.mkdir()
    second = show(folder=tmp_path / "both")
    folders = {path.name for path in (tmp_path / "both").iterdir()}
    assert left.name not in folders
    assert foreign.name in folders
    # The other server lives: its folder stays.
    assert {one.monitor.session_folder("s").parent.name for one in (first, second)} < folders
    second.monitor.stop()
    assert not second.monitor.session_folder("s").parent.exists()


def test_pictures_of_a_killed_server_go_with_the_next(
    show: Show, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    left = tmp_path / "scanside-live-left" / "s1"
    left.mkdir(parents=True)
    left.parent.chmod(0o700)
    (left.parent / ".lock").touch()
    (left / "image-0.npy").write_bytes(b"a patient")
    shown = show(folder=None)
    assert shown.monitor.session_folder("s").parent.parent == tmp_path
    assert not left.parent.exists()


def until(is_so: Callable[[], bool]) -> None:
    deadline = monotonic() + 300
    while not is_so():
        assert monotonic() < deadline
        sleep(0.02)


def messages(shown: Any) -> Iterator[dict[str, Any]]:
    connection = http.client.HTTPConnection("127.0.0.1", shown.monitor.port, timeout=300)
    connection.request("GET", "/events")
    answer = connection.getresponse()
    assert answer.headers["Content-Type"].startswith("text/event-stream")
    try:
        for line in answer:
            if line.startswith(b"data: "):
                yield json.loads(line[6:])
    finally:
        connection.close()


def test_events_are_sent_as_they_happen(show: Show, story: Any) -> None:
    shown = show()
    shown.pool.tell(*story.worker_ready(), *story.opened("a"))
    shown.settle("a", lambda found: found["state"] == "running")
    stream = messages(shown)
    first = next(stream)
    assert [one["id"] for one in first["sessions"]] == ["a"]
    assert first["workers"][0]["state"] == "busy"
    assert first["pool"] == {"queue_depth": 0, "not_ready": "", "version": first["pool"]["version"]}
    shown.pool.tell(story.progress(20, session="a"))
    assert next(stream)["sessions"][0]["n_readouts"] == 20
    shown.pool.queue_depth = 4
    news = next(stream)
    assert news["pool"]["queue_depth"] == 4
    assert news["sessions"] == []
    shown.monitor.stop()
    assert list(stream) == []


def test_fault_of_the_monitor_costs_one_event(
    show: Show, story: Any, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown = show()

    def fail(*_: Any) -> None:
        raise RuntimeError("a defect")

    with monkeypatch.context() as patch:
        patch.setattr("scanside_gadgetron.monitor.state.Session.take", fail)
        shown.pool.tell(*story.opened("a"))
        until(lambda: caplog.text.count("could not take an event") == 3)
    shown.pool.tell(*story.opened("b"))
    shown.settle("b", lambda found: found["state"] == "running")


def test_slow_client_is_dropped_and_costs_nothing(tmp_path: Path, story: Any) -> None:
    live = LiveState(tmp_path)
    feed = Feed(live, dict, pause_s=0.01, stall_s=0.1)
    sent: list[bytes] = []

    async def nothing() -> Message:
        await anyio.sleep_forever()
        raise AssertionError

    async def stuck(message: Message) -> None:
        if message["type"] == "http.response.body":
            await anyio.sleep_forever()

    async def quick(message: Message) -> None:
        sent.append(message.get("body", b""))
        if len(sent) > 5:
            feed.stop()
        live.take(story.progress(len(sent)))

    async def both() -> None:
        with anyio.fail_after(30):
            await feed({"type": "http"}, nothing, stuck)
        assert feed.n_clients == 0
        with anyio.fail_after(30):
            await feed({"type": "http"}, nothing, quick)

    for event in story.opened():
        live.take(event)
    anyio.run(both)
    assert len(sent) > 5


def test_many_pages(show: Show, monkeypatch: pytest.MonkeyPatch) -> None:
    shown = show()
    shown.monitor._app.feed._most_clients = 2
    streams = [messages(shown) for _ in range(2)]
    for stream in streams:
        next(stream)
    status, headers, _ = shown.get("/events")
    assert (status, headers["Retry-After"]) == (503, "10")
    for stream in streams:
        stream.close()


def test_client_that_says_nothing_does_not_hold_up_others(show: Show) -> None:
    shown = show()
    silent = [socket.create_connection(("127.0.0.1", shown.monitor.port)) for _ in range(20)]
    assert shown.get("/healthz")[0] == 200
    for one in silent:
        one.close()
