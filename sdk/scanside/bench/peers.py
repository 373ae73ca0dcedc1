"""The two sides of a benchmark: child processes that read a stream, or send one, over loopback."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO

import numpy as np
import numpy.typing as npt

from scanside.bench.scans import FrameScan
from scanside.errors import PeerGone
from scanside.mrd.messages import Close, ConfigText, HeaderXml, ImageMessage
from scanside.mrd.session import ClientSession
from scanside.mrd.streams import SocketStream
from scanside.mrd.writer import encode

__all__ = ["Played", "Server", "gadgetron_python", "incoming", "play", "scanside_server", "serving"]

_CONFIG = ConfigText(b'<?xml version="1.0"?>\n<configuration></configuration>\n')
_LIMIT_S = 300.0


@dataclass
class Server:
    """A child process that serves one session after the other."""

    port: int
    process: subprocess.Popen[str]

    def peak_mib(self) -> float:
        """Largest resident memory so far of it and of its workers, in MiB (Linux; elsewhere NaN)."""
        threads = Path(f"/proc/{self.process.pid}/task")
        if not threads.exists():
            return float("nan")
        # Linux lists a child under the thread that started it.
        lists = [path.read_text(encoding="ascii") for path in threads.glob("*/children")]
        workers = [int(pid) for pid in " ".join(lists).split()]
        return sum(_peak_mib(pid) for pid in (self.process.pid, *workers))


def _peak_mib(pid: int) -> float:
    for line in Path(f"/proc/{pid}/status").read_text(encoding="utf-8").splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) / 1024
    return float("nan")


@contextmanager
def serving(arguments: list[str], errors: IO[bytes] | int = subprocess.DEVNULL) -> Iterator[Server]:
    """Start a child that prints ``{"port": …}`` when it is ready; it is ended afterwards.

    Args:
        arguments: of ``python -m``.
        errors: takes its standard error.
    """
    process = subprocess.Popen(
        [sys.executable, "-m", *arguments], stdout=subprocess.PIPE, stderr=errors, text=True
    )
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        if not line:
            raise PeerGone(f"'python -m {' '.join(arguments)}' ended before it was ready")
        yield Server(json.loads(line)["port"], process)
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        if process.stdout is not None:
            process.stdout.close()


def scanside_server(pipeline: str, *options: str) -> AbstractContextManager[Server]:
    """Scanside's own server with a pipeline, by default with one worker and for nobody's nodes."""
    chosen = options or ("--workers", "1", "--handover", "off")
    return serving(["scanside_gadgetron", "serve", "--port", "0", "--pipeline", pipeline, *chosen])


def gadgetron_python(task: str) -> AbstractContextManager[Server]:
    """gadgetron-python: ``drop`` reads and forgets, ``recon`` is the reconstruction in its examples."""
    return serving(["scanside.bench.gadgetron_node", task])


@dataclass(frozen=True)
class Played:
    """What came of a scan.

    Attributes:
        seconds: from connecting until the server's CLOSE.
        n_readouts: how many were sent.
        n_images: how many came back.
        last: voxels ``(channel, z, y, x)`` of the last image, or None.
    """

    seconds: float
    n_readouts: int
    n_images: int
    last: npt.NDArray[np.generic] | None


def play(scan: FrameScan, n_frames: int, port: int) -> Played:
    """Send a scan to a server and take its images, as a client does.

    Raises:
        PeerReported: the server reported an error.
    """
    frame, n = scan.frame()
    noise = scan.noise_readout()
    begun = time.perf_counter()
    connection = socket.create_connection(("127.0.0.1", port), _LIMIT_S)
    session = ClientSession(SocketStream(connection, timeout=_LIMIT_S))
    session.open(_CONFIG, scan.header_xml)

    def send() -> None:
        _send_frames(connection, scan, frame, noise, n_frames)
        session.finish()

    sender = threading.Thread(target=send, name="bench-sender", daemon=True)
    sender.start()
    n_images, last = 0, None
    for message in session:
        if isinstance(message, ImageMessage):
            n_images, last = n_images + 1, message.data
    seconds = time.perf_counter() - begun
    sender.join(_LIMIT_S)
    session.close()
    return Played(seconds, n * n_frames, n_images, last)


def _send_frames(
    connection: socket.socket, scan: FrameScan, frame: npt.NDArray[np.uint8], noise: bytes, n_frames: int
) -> None:
    connection.sendall(noise)
    for repetition in range(n_frames):
        scan.number(frame, repetition)
        connection.sendall(frame.data)


@contextmanager
def incoming(scan: FrameScan, n_frames: int) -> Iterator[socket.socket]:
    """A connection on which a child process sends a whole session, from CONFIG to CLOSE."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(_LIMIT_S)
        arguments = [str(listener.getsockname()[1]), str(n_frames), json.dumps(asdict(scan))]
        child = subprocess.Popen([sys.executable, "-m", "scanside.bench.peers", *arguments])
        connection, _ = listener.accept()
    with connection:
        yield connection
    child.wait(_LIMIT_S)


def _main(port: str, n_frames: str, scan_json: str) -> None:
    """The child process of `incoming`."""
    scan = FrameScan(**json.loads(scan_json))
    frame, _ = scan.frame()
    with socket.create_connection(("127.0.0.1", int(port)), _LIMIT_S) as connection:
        connection.sendall(encode(_CONFIG) + encode(HeaderXml(scan.header_xml)))
        _send_frames(connection, scan, frame, scan.noise_readout(), int(n_frames))
        connection.sendall(encode(Close()))
        connection.shutdown(socket.SHUT_WR)
        while connection.recv(1 << 16):  # the reader decides when it is over
            pass


if __name__ == "__main__":
    _main(*sys.argv[1:])
