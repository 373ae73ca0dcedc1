"""The page's server over real connections: what it tells, and whom."""

from __future__ import annotations

import http.client
import json
import socket
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from tests.training.readers.conftest import LIKERT, METHODS, PREFERENCE, REMARK, form_of

from scanside.errors import ConfigError
from scanside_training.readers.study import ReaderStudy

pytest.importorskip("starlette", reason="needs starlette: pip install 'scanside[server]'")
pytest.importorskip("uvicorn", reason="needs uvicorn: pip install 'scanside[server]'")

from scanside_training.readers.app import MOST_BYTES
from scanside_training.readers.server import ReaderServer

Served = tuple[ReaderServer, ReaderStudy]


@pytest.fixture
def served(make_study: Callable[..., ReaderStudy]) -> Iterator[Served]:
    form = form_of(
        mode="side-by-side", questions=[LIKERT, PREFERENCE, REMARK], reference="shown", repeats=0.5, seed=4
    )
    study = make_study(form, METHODS, n_frames=2)
    with ReaderServer(study) as server:
        yield server, study


def ask(
    server: ReaderServer,
    path: str,
    content: Any = None,
    *,
    host: str | None = None,
    kind: str = "application/json",
) -> tuple[int, http.client.HTTPMessage, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=300)
    try:
        headers = {"Host": host} if host else {}
        if content is None:
            connection.request("GET", path, headers=headers)
        else:
            body = content if isinstance(content, bytes) else json.dumps(content).encode()
            connection.request("POST", path, body, headers | {"Content-Type": kind})
        answer = connection.getresponse()
        return answer.status, answer.headers, answer.read()
    finally:
        connection.close()


def link(study: ReaderStudy, reader: str = "anna") -> str:
    return f"/r/{study.link(reader)}"


def state(server: ReaderServer, study: ReaderStudy, reader: str = "anna") -> Any:
    return json.loads(ask(server, f"{link(study, reader)}/state")[2])


def answer_all(server: ReaderServer, study: ReaderStudy, reader: str = "anna") -> Any:
    """Answer the current trial; gives the state after it."""
    now = state(server, study, reader)
    trial = f"{link(study, reader)}/trials/{now['trial']['number']}"
    answers = [
        {"question": "quality", "pane": 0, "value": 3},
        {"question": "quality", "pane": 1, "value": 4},
        {"question": "better", "pane": None, "value": "right"},
    ]
    for one in answers:
        assert ask(server, f"{trial}/answers", one)[0] == 200
    status, _, body = ask(server, f"{trial}/finish", {"answers": answers, "seconds": 1.5})
    assert status == 200, body
    return json.loads(body)


def test_nothing_tells_the_methods(served: Served) -> None:
    """All that a browser gets in a whole study: pages, addresses, JSON, headers and images."""
    server, study = served
    told = []
    for path in (
        f"{link(study)}/",
        "/static/main.js",
        "/static/viewer.js",
        "/static/questions.js",
        "/shared/api.js",
    ):
        status, headers, body = ask(server, path)
        assert status == 200, path
        told.append(path.encode() + str(headers).encode() + body)
    shapes, now = set(), state(server, study)
    for number in range(now["n_trials"]):
        told.append(json.dumps(now).encode())
        assert now["trial"]["number"] == number
        for pane, name in enumerate(now["trial"]["panes"]):
            path = f"{link(study)}/trials/{number}/images/{pane}"
            status, headers, body = ask(server, path)
            assert status == 200
            shapes.add((headers["X-Scanside-Shape"], headers["Content-Length"]))
            shown = study.panes(study.trials("anna")[number])[pane]
            assert (shown == "reference") == (name == "Reference")
            frames = np.frombuffer(body, "<u2").reshape(
                [int(n) for n in headers["X-Scanside-Shape"].split(",")]
            )
            np.testing.assert_array_equal(frames, study.image(study.trials("anna")[number].case, shown))
            told.append(path.encode() + str(headers).encode())
            assert not {"ETag", "Last-Modified"} & set(headers)
        now = answer_all(server, study)
    assert now["trial"] is None
    assert len(shapes) == 1
    secrets = [
        *METHODS,
        *study.document.cases,
        *(name for one in study.document.cases.values() for name in one.images.values()),
    ]
    secrets += [one.subject for one in study.document.cases.values()]
    secrets += [str(study.folder), study.link("ben"), "wavelet", "zerofill"]
    for text in told:
        for secret in secrets:
            assert secret.lower().encode() not in text.lower(), secret


def test_readers_see_only_their_own(served: Served) -> None:
    server, study = served
    answer_all(server, study)
    assert state(server, study)["trial"]["number"] == 1
    assert state(server, study, "ben")["trial"]["number"] == 0
    for path in (
        "/",
        "/r/",
        "/r/x/",
        "/r/x/state",
        f"/r/{study.link('anna')[:-1]}/state",
        "/study.json",
        "/answers.jsonl",
    ):
        assert ask(server, path)[0] == 404, path
    for path in ("/static/../app.py", "/static/%2e%2e/app.py", "/shared/../app.py"):
        assert ask(server, path)[0] == 404, path


def test_only_the_images_of_now(served: Served) -> None:
    server, study = served
    images = f"{link(study)}/trials"
    assert ask(server, f"{images}/0/images/2")[0] == 200
    assert ask(server, f"{images}/0/images/3")[0] == 404
    assert ask(server, f"{images}/1/images/0")[0] == 404
    answer_all(server, study)
    assert ask(server, f"{images}/0/images/0")[0] == 404
    assert ask(server, f"{images}/{10**30}/images/0")[0] == 404


def test_other_names_of_this_machine_are_refused(served: Served) -> None:
    server, study = served
    for host in ("evil.example", "evil.example:80", f"127.0.0.1.evil.example:{server.port}", ""):
        assert ask(server, f"{link(study)}/", host=host or "x")[0] == 403, host
    for host in ("localhost", f"localhost:{server.port}", "127.0.0.1", "[::1]:80"):
        status, headers, _ = ask(server, f"{link(study)}/", host=host)
        assert status == 200, host
        assert "default-src 'none'" in headers["Content-Security-Policy"]
        assert headers["Referrer-Policy"] == "no-referrer"
        assert headers["Cache-Control"] == "no-store"


def test_it_listens_on_loopback_only(served: Served) -> None:
    server, study = served
    assert server.address("anna") == f"http://127.0.0.1:{server.port}/r/{study.link('anna')}/"
    with socket.socket() as other:
        other.settimeout(2)
        assert other.connect_ex(("127.0.0.2", server.port)) != 0


def test_what_is_no_answer(served: Served) -> None:
    server, study = served
    answers, finish = (f"{link(study)}/trials/0/{what}" for what in ("answers", "finish"))
    right = {"question": "quality", "pane": 0, "value": 3}
    assert ask(server, answers, right, kind="text/plain")[0] == 415
    assert ask(server, answers, b"{")[0] == 400
    assert ask(server, answers, b"[" * 5000)[0] == 400
    assert ask(server, answers, [right])[0] == 400
    assert ask(server, answers, right | {"value": 11})[0] == 400
    assert ask(server, answers, {})[0] == 400
    assert ask(server, answers, b" " * (MOST_BYTES + 1))[0] == 413
    assert ask(server, finish, {"answers": 3})[0] == 400
    assert ask(server, finish, {"answers": [{"question": [], "pane": 0, "value": 1}]})[0] == 400
    status, _, body = ask(server, finish, {"answers": [], "seconds": 1})
    assert (status, body) == (400, b"not answered yet: quality, better")
    assert ask(server, answers)[0] == 405
    assert ask(server, "/r/wrong/trials/0/answers", right)[0] == 404
    assert study.answers() == []
    assert ask(server, answers, right)[0] == 200
    assert len(study.answers()) == 1


def test_an_old_window_changes_nothing(served: Served) -> None:
    server, study = served
    answer_all(server, study)
    before = study.answers()
    late = {"question": "quality", "pane": 0, "value": 1}
    status, _, body = ask(server, f"{link(study)}/trials/0/answers", late)
    assert (status, b"another window" in body) == (409, True)
    assert ask(server, f"{link(study)}/trials/0/finish", {"answers": [late], "seconds": 1})[0] == 409
    assert study.answers() == before


def test_one_server_for_a_study(served: Served) -> None:
    server, study = served
    with pytest.raises(ConfigError, match="another server has the reader study in"):
        ReaderServer(study)
    server.stop()
    with ReaderServer(study) as again:
        assert state(again, study)["trial"]["number"] == 0


def test_a_reader_alone_and_one_that_is_none(make_study: Callable[..., ReaderStudy]) -> None:
    study = make_study()
    with pytest.raises(ConfigError, match="'zoe' is no reader of this study; they are anna, ben"):
        ReaderServer(study, ["zoe"])
    with ReaderServer(study, ["ben"]) as server:
        assert ask(server, f"{link(study, 'ben')}/")[0] == 200
        assert ask(server, f"{link(study, 'anna')}/")[0] == 404


def test_a_port_that_is_taken(make_study: Callable[..., ReaderStudy]) -> None:
    study = make_study()
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(ConfigError, match=f"port {port}: .*take another port"):
            ReaderServer(study, port=port)
    with ReaderServer(study, port=port) as server:  # the study was given back
        assert server.port == port


def test_an_answer_that_cannot_be_kept_is_told(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    server, study = served

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("scanside.append_log.os.fsync", full)
    status, _, body = ask(
        server, f"{link(study)}/trials/0/answers", {"question": "quality", "pane": 0, "value": 3}
    )
    assert status == 507
    assert b"could not be kept" in body


def test_an_image_that_is_damaged_is_told(
    make_study: Callable[..., ReaderStudy], caplog: pytest.LogCaptureFixture
) -> None:
    study = make_study()
    for path in (study.folder / "images").iterdir():
        path.write_bytes(b"none")
    with ReaderServer(study) as server:
        status, _, body = ask(server, f"{link(study)}/trials/0/images/0")
    assert (status, body) == (500, b"this image cannot be shown; the server's log says why")
    assert "is damaged" in caplog.text
