"""The server as a process: what it says, what signals do to it, and that nothing outlives it."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from scanside.mrd.messages import ConfigFile
from scanside.mrd.streams import SocketStream
from scanside.testing.small import small_readouts, small_scan
from scanside.testing.transports import Received, play_host

PERSON = b"<subjectInformation><patientName>Nemo^Nobody</patientName><patientID>7Q7</patientID></subjectInformation>"
HEADER = small_scan().header.xml.replace(b"<measurementInformation>", PERSON + b"<measurementInformation>", 1)
COMMAND = [sys.executable, "-m", "scanside_gadgetron", "serve", "--port", "0", "--handover", "off"]


def play(port: int, pipeline: str) -> Received:
    stream = SocketStream(socket.create_connection(("127.0.0.1", port)), timeout=300)
    received = play_host(stream, ConfigFile(pipeline), HEADER, small_readouts())
    stream.close()
    return received


@contextmanager
def serving(*options: str) -> Iterator[tuple[subprocess.Popen[str], int]]:
    command = [*COMMAND, "--pipeline", "fft", "--workers", "1", "--device", "cpu", *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield process, json.loads(process.stdout.readline())["port"]
        finally:
            process.kill()


def workers_of(process: subprocess.Popen[str]) -> list[int]:
    # Linux lists a child under the thread that started it.
    lists = [path.read_text() for path in Path(f"/proc/{process.pid}/task").glob("*/children")]
    return [int(child) for child in " ".join(lists).split()]


def wait_for(what: Callable[[], Any], seconds: float = 300) -> Any:
    deadline = time.monotonic() + seconds
    while not (found := what()):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return found


def test_life_of_a_server() -> None:
    with serving() as (process, port):
        assert "torch" not in Path(f"/proc/{process.pid}/maps").read_text(), "only workers load it"
        received = play(port, "default")
        assert received.error is None
        assert len(received.images) == 1
        # A name that there is none of is answered with those that there are.
        error = play(port, "grapa").error
        assert error is not None
        assert "'grapa'" in error
        assert "grappa" in error.replace("'grapa'", "")
        before = workers_of(process)
        process.send_signal(signal.SIGHUP)
        wait_for(lambda: workers_of(process) and not set(workers_of(process)) & set(before))
        assert play(port, "fft").images
        process.send_signal(signal.SIGTERM)
        out, log = process.communicate(timeout=300)
    assert process.returncode == 0, log
    assert out == "", "standard output holds the one line"
    assert "listening" in log
    assert "the old ones end after their sessions" in log
    assert "Nemo" not in log
    assert "7Q7" not in log


def test_workers_end_with_a_server_that_is_killed() -> None:
    with serving() as (process, port):
        (worker,) = workers_of(process)
        process.kill()
        process.wait()

    def ended() -> bool:
        try:
            os.kill(worker, 0)
        except ProcessLookupError:
            return True
        # Whoever takes over orphans here may not bury them.
        return Path(f"/proc/{worker}/stat").read_text().rpartition(")")[2].split()[0] == "Z"

    wait_for(ended)
    with pytest.raises(OSError, match="refused"):
        socket.create_connection(("127.0.0.1", port))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_server_can_be_stopped_while_it_loads(number: signal.Signals, tmp_path: Path) -> None:
    slow = (
        tmp_path / "sitecustomize.py"
    )  # of the worker too, which takes minutes where engines are to be built
    slow.write_text("import sys, time\nif 'pool.worker' in ' '.join(sys.orig_argv): time.sleep(300)\n")
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    command = [*COMMAND, "--pipeline", "fft", "--workers", "1"]
    with subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            (worker,) = wait_for(lambda: workers_of(process))
            process.send_signal(number)
            out, log = process.communicate(timeout=300)
        finally:
            process.kill()
    assert process.returncode == 0, log
    assert out == ""
    assert "asked to end before workers were ready" in log
    assert not Path(f"/proc/{worker}").exists()


@pytest.mark.torch_free
def test_process_says_what_is_wrong() -> None:
    run = subprocess.run([*COMMAND, "--pipeline", "grapa"], capture_output=True, text=True, timeout=300)
    assert run.returncode == 1
    assert "error: there is no pipeline 'grapa'" in run.stderr
    assert run.stdout == ""
