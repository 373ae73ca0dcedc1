"""A real-time stream at a scanner's pace: whether the server keeps up, and what piles up meanwhile."""

from __future__ import annotations

import math
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from scanside.bench.peers import scanside_server
from scanside.bench.processes import Family, Footprint
from scanside.bench.result import Headline, spread
from scanside.bench.scans import FrameScan
from scanside.errors import PeerGone
from scanside.mrd.dtypes import ACQUISITION_HEADER
from scanside.mrd.messages import ConfigFile, ImageMessage
from scanside.mrd.session import ClientSession
from scanside.mrd.streams import SocketStream

__all__ = ["MOST_GROWTH", "growth", "realtime_stream"]

SCAN = FrameScan(n_coils=32, n_samples=512, n_lines=128, noise=True)
"""Frames of 256 × 128 with 32 coils; the readout is oversampled."""

TR_S = 3e-3
_PIPELINE = "fft"
_LIMIT_S = 300.0
_SAME = 1e-4
"""Images of equal frames differ by rounding only; without one line they differ by more than this."""

MOST_GROWTH = 1.02
"""Memory of a stream late against early: more than this is growth."""

_SAMPLING_SECONDS = 0.1
"""Some samples of each frame: its k-space and its image are there for a part of it only."""

_WARM = 0.1  # of the stream; what is taken by then, buffers and code, is no growth

_COUNTER = 2 + ACQUISITION_HEADER.fields["scan_counter"][1]  # type: ignore[index]


@dataclass
class _Seen:
    """What was seen of a stream.

    Attributes:
        begun: when its first readout was due, by `time.perf_counter`.
        delays: of the last readout of each frame behind its time, in s: what the server did not take in time.
        lags: of each image behind the time of its last readout, in s.
        wrong: what is wrong with an image.
        footprints: of server and worker, again and again.
        share: of one processor core that these took.
    """

    begun: float = 0.0
    delays: list[float] = field(default_factory=list)
    lags: list[float] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    footprints: list[Footprint] = field(default_factory=list)
    share: float = 0.0


def realtime_stream(
    seconds: float, progress: Callable[[str], None]
) -> tuple[list[dict[str, Any]], list[Headline]]:
    """Send readouts at the pace of a scanner for a while, whole frames.

    Returns:
        Lines of the table, and promises.

    Raises:
        PeerGone: the server gave up.
    """
    n_frames = max(2, math.ceil(seconds / (SCAN.n_lines * TR_S)))
    options = ("--workers", "1", "--handover", "off", "--device", "cpu")
    with scanside_server(_PIPELINE, *options) as server:
        _stream(server.port, Family(server.process.pid), 3, lambda _: None)  # finds code and memory cold
        seen = _stream(server.port, Family(server.process.pid), n_frames, progress)
    return _rows(seen, n_frames), _headlines(seen, n_frames)


def _stream(port: int, family: Family, n_frames: int, progress: Callable[[str], None]) -> _Seen:
    seen = _Seen()
    connection = socket.create_connection(("127.0.0.1", port), _LIMIT_S)
    session = ClientSession(SocketStream(connection, timeout=_LIMIT_S))
    session.open(ConfigFile("default"), SCAN.header_xml)
    over = threading.Event()
    others = [
        threading.Thread(target=_send, args=(connection, session, n_frames, seen, progress), daemon=True),
        threading.Thread(target=_watch, args=(family, over, seen), daemon=True),
    ]
    seen.begun = time.perf_counter()
    for thread in others:
        thread.start()
    try:
        _receive(session, seen)
    finally:
        over.set()
        for thread in others:
            thread.join(_LIMIT_S)
        session.close()
    return seen


def _send(
    connection: socket.socket,
    session: ClientSession,
    n_frames: int,
    seen: _Seen,
    progress: Callable[[str], None],
) -> None:
    """Each readout at its time, or at once where that has passed; memory for one frame, however long it lasts."""
    frame, n_lines = SCAN.frame()
    connection.sendall(SCAN.noise_readout())
    for number in range(n_frames):
        SCAN.number(frame, number)
        counters = np.arange(1 + number * n_lines, 1 + (number + 1) * n_lines, dtype="<u4")
        frame[:, _COUNTER : _COUNTER + 4] = counters.view(np.uint8).reshape(n_lines, 4)
        for line in range(n_lines):
            early = _due(seen, number, line) - time.perf_counter()
            if early > 0:
                time.sleep(early)
            connection.sendall(frame[line].data)
        seen.delays.append(time.perf_counter() - _due(seen, number, n_lines - 1))
        progress(f"real-time stream, frame {number + 1} of {n_frames}, {len(seen.lags)} images are back")
    session.finish()


def _due(seen: _Seen, frame: int, line: int) -> float:
    """When a readout is measured, by `time.perf_counter`."""
    return seen.begun + (frame * SCAN.n_lines + line) * TR_S


def _receive(session: ClientSession, seen: _Seen) -> None:
    """Take the images, and compare each with the first: all frames hold the same samples."""
    first: npt.NDArray[np.generic] | None = None
    for message in session:
        if not isinstance(message, ImageMessage):
            continue
        number = len(seen.lags)
        seen.lags.append(time.perf_counter() - _due(seen, number, SCAN.n_lines - 1))
        if first is None:
            first = message.data
        difference = float(np.linalg.norm(message.data - first) / np.linalg.norm(first))
        repetition = int(message.header["repetition"])
        if repetition != number & 0xFFFF:
            seen.wrong.append(f"image {number} is of frame {repetition}")
        elif not difference <= _SAME:
            seen.wrong.append(f"image {number} differs from the first by {difference:.1e}")
        elif b"ScansideIncomplete" in message.attributes:
            seen.wrong.append(f"image {number} lacks lines")
    if first is None:
        raise PeerGone("no image came of a real-time stream")


def _watch(family: Family, over: threading.Event, seen: _Seen) -> None:
    cpu, begun = family.cpu_seconds(), time.perf_counter()
    while not over.wait(_SAMPLING_SECONDS):
        seen.footprints.append(family.footprint())
    seen.footprints.append(family.footprint())
    seen.share = (family.cpu_seconds() - cpu) / (time.perf_counter() - begun)


def _rows(seen: _Seen, n_frames: int) -> list[dict[str, Any]]:
    def row(what: str, unit: str, values: list[float]) -> dict[str, Any]:
        return {"what": what, "unit": unit, **{name: round(x, 2) for name, x in spread(values).items()}}

    tr_ms = f"TR {1e3 * TR_S:g} ms"
    rows = [
        {"what": f"readouts of {SCAN.n_coils} coils × {SCAN.n_samples}, {tr_ms}", "unit": ""}
        | {"median": n_frames * SCAN.n_lines},
        row("image, behind the time of its last readout", "ms", [1e3 * lag for lag in seen.lags]),
        row("last readout of a frame, sent after its time", "ms", [1e3 * delay for delay in seen.delays]),
        row(
            "memory of server and worker",
            "MiB",
            [(footprint.server + footprint.workers) / 2**20 for footprint in seen.footprints],
        ),
        {"what": "processor time of server and worker", "unit": "cores", "median": round(seen.share, 2)},
    ]
    return rows + [{"what": f"wrong: {text}"} for text in seen.wrong[:3]]


def _headlines(seen: _Seen, n_frames: int) -> list[Headline]:
    n_good = max(0, len(seen.lags) - len(seen.wrong))
    return [
        Headline.at_most(
            "real-time stream: readouts that are in no image", (n_frames - n_good) * SCAN.n_lines, 0
        ),
        Headline.at_most(
            "real-time stream: largest lag of an image, in frames", max(seen.lags) / (SCAN.n_lines * TR_S), 1
        ),
        Headline.at_most(
            "real-time stream: memory in its last quarter against the first, once it is warm",
            growth([footprint.server + footprint.workers for footprint in seen.footprints]),
            MOST_GROWTH,
        ),
    ]


def growth(memory: list[int]) -> float:
    """How much more memory a stream takes late than early, once it is warm: means of the last and the first quarter.

    Memory rises and falls by several MiB with every frame, and the last sample may come when the session has ended:
    single samples say little.
    """
    warm = memory[int(_WARM * len(memory)) :]
    quarter = max(1, len(warm) // 4)
    return float(np.mean(warm[-quarter:]) / np.mean(warm[:quarter]))
