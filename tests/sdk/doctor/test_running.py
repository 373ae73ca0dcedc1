"""The interpreter that Gadgetron starts, and a server that runs."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from scanside.doctor import running
from scanside.doctor.check import Check
from scanside.doctor.running import check_gadgetron_node, check_server
from scanside_gadgetron.monitor.config import MonitorConfig
from scanside_gadgetron.settings import ServerConfig


@pytest.fixture
def first_python(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A program that is the first python on PATH; to be filled by the test."""
    python = tmp_path / "bin" / "python"
    python.parent.mkdir()
    python.touch(0o755)
    monkeypatch.setenv("PATH", str(python.parent), prepend=os.pathsep)
    return python


class TestNode:
    def test_other_python(self, first_python: Path) -> None:
        first_python.write_text("#!/bin/sh\necho 'no module named gadgetron' >&2; exit 1\n")
        check = check_gadgetron_node()
        assert check.status == "missing"
        assert str(first_python) in check.found
        assert "no module named gadgetron" in check.found
        assert str(Path(sys.executable).parent) in check.advice

    def test_other_scanside(self, first_python: Path) -> None:
        first_python.write_text('#!/bin/sh\necho \'{"scanside": "0.0.1"}\'\n')
        check = check_gadgetron_node()
        assert check.status == "problem"
        assert "0.0.1" in check.found

    def test_versions_are_told(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("PATH", str(Path(sys.executable).parent), prepend=os.pathsep)
        check = check_gadgetron_node()
        assert check.status == "ok"
        assert all(f"{name} " in check.found for name in ("scanside", "gadgetron", "ismrmrd", "numpy"))

    def test_no_python(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        monkeypatch.setenv("PATH", str(tmp_path))
        assert check_gadgetron_node().status == "missing"


@contextmanager
def answering(status: int, text: str) -> Iterator[int]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status if self.path == "/readyz" else 404)
            self.end_headers()
            self.wfile.write(text.encode())

        def log_message(self, *_: object) -> None:
            """Nothing to the terminal."""

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server.server_address[1]
        server.shutdown()
        thread.join()


def checks(port: int) -> dict[str, Check]:
    settings = ServerConfig(monitor=MonitorConfig(port=port))
    return {check.name: check for check in check_server(settings)}


class TestServer:
    def test_ready(self) -> None:
        with answering(200, "ready\n") as port:
            assert checks(port)["server"] == Check("server", "ok", f"ready, on port {port}")
        assert checks(port)["server"].status == "missing"

    def test_not_ready(self) -> None:
        with answering(503, "engines are built\n") as port:
            check = checks(port)["server"]
        assert check.status == "missing"
        assert "engines are built" in check.found

    def test_without_a_live_page_there_is_nothing_to_ask(self) -> None:
        assert [check.name for check in check_server(ServerConfig())] == ["hand-over"]

    def test_hand_over(self, monkeypatch: pytest.MonkeyPatch) -> None:
        class Pool:
            closed = False

            def close(self) -> None:
                self.closed = True

        pool = Pool()
        monkeypatch.setattr(running, "find_pool", lambda: pool)
        assert check_server(ServerConfig())[0].status == "ok"
        assert pool.closed
        monkeypatch.setattr(running, "find_pool", lambda: None)
        assert check_server(ServerConfig())[0].status == "missing"
