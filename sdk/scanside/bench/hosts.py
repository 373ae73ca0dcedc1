"""Hosts that behave, and hosts that do not: each plays one session to a server."""

from __future__ import annotations

import os
import signal
import socket
import struct
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np

from scanside.bench.processes import Family
from scanside.bench.scans import FrameScan
from scanside.errors import PeerGone, ScansideError
from scanside.mrd.messages import Close, ConfigFile, HeaderXml, ImageMessage, Message, Text
from scanside.mrd.peers import reported_error
from scanside.mrd.reader import MessageReader
from scanside.mrd.streams import MemoryStream
from scanside.mrd.writer import encode

__all__ = ["KINDS", "Host", "Kind", "Visit", "after_waiting", "understood"]

Kind: TypeAlias = Literal["healthy", "client killed", "worker killed", "malformed"]
KINDS: tuple[Kind, ...] = ("healthy", "client killed", "worker killed", "malformed")

_LIMIT_S = 180.0  # a session may have to wait until a worker has been replaced
_RESET = struct.pack(
    "ii", 1, 0
)  # SO_LINGER: closing resets the connection, as the end of a killed process may
_CLOSE = encode(Close())


@dataclass(frozen=True)
class Visit:
    """What became of a session.

    Attributes:
        kind: of the host.
        seconds: how long it took.
        wrong: what is not as it should be; empty if nothing is.
    """

    kind: Kind
    seconds: float
    wrong: str


class Host:
    """Plays one scan again and again.

    Args:
        scan: what is scanned.
        n_frames: how many images it has.
        port: of the server, on this machine.
        family: the server's processes.
        seed: of where in a scan something happens.

    Attributes:
        expected: the answer to this scan while nothing goes wrong, byte for byte.

    Raises:
        PeerGone: not even then do all images come.
    """

    def __init__(self, scan: FrameScan, n_frames: int, port: int, family: Family, seed: int) -> None:
        self._n_frames = n_frames
        self._port = port
        self._family = family
        self._seed = seed
        self._opening = encode(ConfigFile("default"), HeaderXml(scan.header_xml))
        frame, n_lines = scan.frame()
        frames = []
        for repetition in range(n_frames):
            scan.number(frame, repetition)
            frames.append(frame.tobytes())
        self._n_readout = len(frames[0]) // n_lines
        self._readouts = b"".join(frames)
        self.expected = self._answer_of_undisturbed()

    def _answer_of_undisturbed(self) -> bytes:
        answer = self._converse(self._opening + self._readouts + _CLOSE)
        came = understood(answer)
        n_images = sum(isinstance(message, ImageMessage) for message in came)
        if n_images != self._n_frames or not isinstance(came[-1], Close):
            raise PeerGone(f"{n_images} of {self._n_frames} images came before anything was disturbed")
        return answer

    def visit(self, kind: Kind, number: int) -> Visit:
        """Play a session; it never raises because of what the server does.

        Args:
            kind: what is to happen.
            number: of the session: decides where in the scan it happens, and in which way.
        """
        play: dict[Kind, Callable[[int], str]] = {
            "healthy": self._healthy,
            "client killed": self._client_killed,
            "worker killed": self._worker_killed,
            "malformed": self._malformed,
        }
        begun = time.perf_counter()
        try:
            wrong = play[kind](number)
        except (OSError, ScansideError) as error:
            wrong = f"{type(error).__name__}: {error}"
        return Visit(kind, time.perf_counter() - begun, wrong)

    def visit_all_workers(self, n_workers: int) -> list[Visit]:
        """Play so many sessions at once that every worker has one; so it waits until all are ready."""
        begun = time.perf_counter()
        connections = [self._connect() for _ in range(n_workers)]
        for connection in connections:
            connection.sendall(self._opening)
        deadline = begun + _LIMIT_S
        holders: set[int | None] = {None}
        while None in holders and time.perf_counter() < deadline:
            time.sleep(0.01)
            holders = {self._family.holder(connection) for connection in connections}
        visits = []
        for connection in connections:
            with connection:
                connection.sendall(self._readouts + _CLOSE)
                wrong = self._compared(_all(connection))
            if len(holders - {None}) != n_workers:
                wrong = f"{n_workers} sessions at once were with {len(holders - {None})} workers"
            visits.append(Visit("healthy", time.perf_counter() - begun, wrong))
        return visits

    # What hosts do; each gives what is wrong with what came of it

    def _healthy(self, _: int) -> str:
        return self._compared(self._converse(self._opening + self._readouts + _CLOSE))

    def _compared(self, answer: bytes) -> str:
        if self.expected in (answer, after_waiting(answer)):
            return ""
        came = understood(answer)
        errors = [error for message in came if (error := reported_error(message)) is not None]
        if errors:
            return f"an undisturbed session failed: {errors[0]}"
        n_images = sum(isinstance(message, ImageMessage) for message in came)
        if n_images != self._n_frames:
            return f"an undisturbed session got {n_images} of {self._n_frames} images"
        return "an undisturbed session got other images"

    def _client_killed(self, number: int) -> str:
        connection = self._connect()
        connection.sendall(self._opening + self._beginning(number))
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        connection.close()
        return ""  # nobody is left who could see anything; what the server kept of it is counted elsewhere

    def _worker_killed(self, number: int) -> str:
        with self._connect() as connection:
            beginning = self._beginning(number)
            connection.sendall(self._opening + beginning)
            deadline = time.monotonic() + _LIMIT_S
            while (worker := self._family.holder(connection)) is None:
                if time.monotonic() > deadline:
                    return "no worker took the session"
                time.sleep(0.002)
            os.kill(worker, signal.SIGKILL)
            connection.sendall(self._readouts[len(beginning) :] + _CLOSE)
            return _as_error(_all(connection))

    def _malformed(self, number: int) -> str:
        whole = self._opening + self._readouts
        cut = len(self._opening) + len(self._beginning(number)) + self._n_readout // 3
        streams = (
            whole[:cut] + struct.pack("<H", 4711) + whole[cut:] + _CLOSE,  # a message that there is none of
            whole[:cut],  # ends inside a message
            b"\xff" + np.random.default_rng(number).bytes(20_000),  # no message at all
            encode(ConfigFile("default"), HeaderXml(b"no header")) + self._readouts + _CLOSE,
        )
        return _as_error(self._converse(streams[number % len(streams)]))

    def _beginning(self, number: int) -> bytes:
        """Some readouts, never all."""
        random = np.random.default_rng((self._seed, number))
        n = int(random.integers(1, len(self._readouts) // self._n_readout))
        return self._readouts[: n * self._n_readout]

    def _connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self._port), _LIMIT_S)

    def _converse(self, stream: bytes) -> bytes:
        """Send all, end writing, and take the answer, whole as it is."""
        with self._connect() as connection:
            connection.sendall(stream)
            connection.shutdown(socket.SHUT_WR)
            return _all(connection)


def _all(connection: socket.socket) -> bytes:
    """All that comes until the end."""
    answer = bytearray()
    while piece := connection.recv(1 << 20):
        answer += piece
    return bytes(answer)


def after_waiting(answer: bytes) -> bytes:
    """An answer without the text that tells a host that it has to wait for a worker."""
    first = next(iter(understood(answer)), None)
    if not isinstance(first, Text) or reported_error(first) is not None or first.text.startswith("WARNING"):
        return answer
    return answer[len(encode(first)) :]


def _as_error(answer: bytes) -> str:
    """A scan that cannot be reconstructed has to end with an error that says something."""
    came = understood(answer)
    if any(reported_error(message) for message in came):
        return ""
    return f"a session that could not succeed got no error but {len(answer)} bytes"


def understood(answer: bytes) -> list[Message]:
    """The whole messages of an answer."""
    reader = MessageReader(MemoryStream(answer))
    came: list[Message] = []
    try:
        while True:
            came.append(reader.read())
    except ScansideError:
        return came
