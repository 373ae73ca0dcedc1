"""A crowd of silent connections takes neither health nor scans away, and fills no log."""

from __future__ import annotations

import socket
import subprocess
import sys
import urllib.request
from contextlib import ExitStack
from pathlib import Path

import pytest

from scanside.mrd.messages import ConfigFile
from scanside.mrd.streams import SocketStream
from scanside.testing.small import small_readouts, small_scan
from scanside.testing.transports import play_host

pytest.importorskip("uvicorn")

HERE = Path(__file__).parent


def test_crowd_at_the_page_and_at_the_door(tmp_path: Path) -> None:
    files = (HERE / "crowded_server.py", HERE / "pool" / "light_worker.py", tmp_path / "live")
    command = [sys.executable, *map(str, files)]
    log = tmp_path / "log"
    with (
        log.open("wb") as errors,
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors) as server,
        ExitStack() as stack,
    ):
        assert server.stdout is not None
        assert server.stdin is not None
        stack.callback(server.stdin.close)
        words = server.stdout.readline().split()
        assert len(words) == 2, log.read_text()
        port, url = int(words[0]), words[1].decode()
        page_port = int(url.rstrip("/").rpartition(":")[2])
        for _ in range(300):
            for to in (port, page_port):
                stack.enter_context(socket.create_connection(("127.0.0.1", to), 300))
        for path in ("healthz", "readyz"):
            with urllib.request.urlopen(url + path, timeout=300) as answer:
                assert answer.status == 200
        stream = SocketStream(socket.create_connection(("127.0.0.1", port), 300), timeout=300)
        received = play_host(stream, ConfigFile("same"), small_scan().header.xml, small_readouts())
        stream.close()
        assert received.error is None
        assert len(received.items) > 0
    text = log.read_text()
    assert "Traceback" not in text
    assert len(text.splitlines()) < 60, text
