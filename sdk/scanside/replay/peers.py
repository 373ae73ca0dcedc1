"""Node and server in processes of their own, started as Gadgetron and an operator start them."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from time import perf_counter
from typing import Any

from scanside.errors import PeerGone
from scanside.mrd.streams import SocketStream
from scanside.replay.result import ANSWER_SECONDS, SERVER_SECONDS, START_SECONDS

__all__ = [
    "absolute",
    "environment_of",
    "node",
    "server",
    "serving",
    "tail",
]


def absolute(pipeline: str | Path) -> str:
    """A pipeline's name as it is, and the whole path of its file, for a process in another folder."""
    path = Path(pipeline)
    return str(path.resolve()) if path.suffix in (".yaml", ".yml") else str(pipeline)


def environment_of(device: str, noise_store: Path | None = None, pool: Path | None = None) -> dict[str, str]:
    """What node and server are started with.

    Args:
        device: see `scanside.Context`.
        noise_store: folder that keeps noise covariances from scan to scan.
        pool: socket of a server that a node hands its scan over to.
    """
    environment = {**os.environ, "SCANSIDE_DEVICE": device}
    # A child that is started from a checkout must find what this process imports.
    environment["PYTHONPATH"] = os.pathsep.join([entry for entry in sys.path if entry])
    if noise_store is not None:
        environment["SCANSIDE_NOISE_STORE"] = str(noise_store.resolve())
    if pool is not None:
        environment["SCANSIDE_POOL"] = str(pool)
    return environment


@contextmanager
def node(environment: dict[str, str], log: Any) -> Iterator[SocketStream]:
    """Do what Gadgetron does for ``<execute>``: listen, start the node, and wait for it to connect."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(START_SECONDS)
        command = ["-m", "gadgetron", str(listener.getsockname()[1]), "scanside_gadgetron", "reconstruct"]
        # The node is what is asked for, not a pool that happens to run on this machine.
        environment = {
            "SCANSIDE_POOL": "off",
            **environment,
            "PYTHONPATH": os.pathsep.join([*_front(), environment["PYTHONPATH"]]),
            "GADGETRON_STORAGE_ADDRESS": "http://127.0.0.1:9112",
        }
        with _process(command, environment, log, close_stdin=True) as process:
            sock = _accepted(listener, process, log)
            stream = SocketStream(sock, send_timeout=ANSWER_SECONDS)
            try:
                yield stream
            finally:
                stream.close()


def _front() -> list[str]:
    """Where the package lies that keeps gadgetron-python from refusing a header before the node reads it."""
    plugin = find_spec("scanside_gadgetron")
    folders = [] if plugin is None else plugin.submodule_search_locations or []
    return [str(Path(folder) / "front") for folder in folders]


def _accepted(listener: socket.socket, process: subprocess.Popen[bytes], log: Any) -> socket.socket:
    listener.settimeout(0.2)
    deadline = perf_counter() + START_SECONDS
    while perf_counter() < deadline:
        try:
            return listener.accept()[0]
        except TimeoutError:
            if process.poll() is not None:
                raise PeerGone(f"the node ended before it connected{tail(log)}") from None
    raise PeerGone(f"the node did not connect within {START_SECONDS:g} s{tail(log)}")


@contextmanager
def server(pipeline: str, environment: dict[str, str], log: Any) -> Iterator[SocketStream]:
    """Start a server and connect to it."""
    with serving(pipeline, environment, log) as port:
        stream = SocketStream(socket.create_connection(("127.0.0.1", port)), send_timeout=ANSWER_SECONDS)
        try:
            yield stream
        finally:
            stream.close()


@contextmanager
def serving(
    pipeline: str, environment: dict[str, str], log: Any, *, handover: str | Path = "off"
) -> Iterator[int]:
    """Start a server with one worker.

    Args:
        pipeline: that is ready when the server is.
        environment: see `environment_of`.
        log: file for what it says.
        handover: where its socket for nodes is to be.

    Returns:
        Its port, once it takes scans.

    Raises:
        PeerGone: it ended before.
    """
    command = ["-m", "scanside_gadgetron", "serve", "--port", "0", "--pipeline", pipeline]
    command += ["--workers", "1", "--handover", str(handover)]
    with _process(command, environment, log, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        impatient = threading.Timer(SERVER_SECONDS, process.kill)
        impatient.start()
        said = process.stdout.readline()
        impatient.cancel()
        if not said:
            raise PeerGone(f"the server ended before it listened{tail(log)}")
        yield json.loads(said)["port"]


@contextmanager
def _process(
    arguments: list[str],
    environment: dict[str, str],
    log: Any,
    *,
    close_stdin: bool = False,
    stdout: int | None = None,
) -> Iterator[subprocess.Popen[bytes]]:
    """Run Python as a child that never outlives the block."""
    # subprocess cannot close standard input, a shell can; Gadgetron's nodes have none.
    shell = ["/bin/sh", "-c", 'exec "$@" <&-', "sh"] if close_stdin else []
    process = subprocess.Popen(
        [*shell, sys.executable, *arguments],
        env=environment,
        stdin=None if close_stdin else subprocess.DEVNULL,
        stdout=log if stdout is None else stdout,
        stderr=log,
    )
    try:
        yield process
    except BaseException:
        # A node that has reported its failure ends by itself; one that hangs is not waited for.
        _end(process, patience_seconds=1.0)
        raise
    _end(process, patience_seconds=10.0 if close_stdin else 0.0)


def _end(process: subprocess.Popen[bytes], patience_seconds: float) -> None:
    """Wait for a node that is done, ask a server to end, and kill what does not."""
    with process:
        try:
            process.wait(patience_seconds)
        except subprocess.TimeoutExpired:
            process.terminate()
            try:
                process.wait(10.0)
            except subprocess.TimeoutExpired:
                process.kill()


def tail(log: Any) -> str:
    """The end of what a child wrote to its log, for an error's text."""
    log.seek(0)
    lines = log.read().decode(errors="replace").strip().splitlines()[-12:]
    return "; its log ends with:\n" + "\n".join(lines) if lines else "; its log is empty"
