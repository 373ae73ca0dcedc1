"""The pool of warm workers: from connecting to the first image, and how sessions share the workers."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from scanside.bench.peers import play, scanside_server
from scanside.bench.result import BenchResult, Headline, spread
from scanside.bench.scans import FrameScan
from scanside.context import Context
from scanside.errors import PeerGone, ScansideError
from scanside.items import Image
from scanside.mrd.messages import ConfigText, ImageMessage, Readouts
from scanside.mrd.reader import decode
from scanside.mrd.session import ClientSession
from scanside.mrd.streams import SocketStream
from scanside.pipeline import Pipeline, pipeline_path
from scanside.scan import Scan

__all__ = ["measure"]

SCAN = FrameScan(n_coils=8, n_samples=512, n_lines=256, acceleration=4, n_acs=24, noise=True)
"""One frame of 256 × 256 with 8 coils; the readout is oversampled."""

_RUNS = 12
_COLD = 2  # the first runs find code and memory cold
_EXECUTES = 3
_SESSIONS, _WORKERS, _FRAMES = 4, 2, 30
_FAIR = 1.5 * _SESSIONS / _WORKERS
_LIMIT_S = 120.0


def measure(progress: Callable[[str], None]) -> BenchResult:
    """Times with the shipped student network, and their ratios to what ran beside in the same run."""
    with TemporaryDirectory(prefix="scanside-bench-") as folder:
        pipeline = _prepared_for_scan(Path(folder))
        rows, headline = _first_image(pipeline, Path(folder) / "pool.sock", progress)
        more_rows, more_headline = _sharing(pipeline, progress)
    return BenchResult(name="serve", rows=rows + more_rows, headline=headline + more_headline)


def _prepared_for_scan(folder: Path) -> Path:
    """The shipped student pipeline, with the engine for the scan's size made ready beforehand."""
    text = pipeline_path("student").read_text(encoding="utf-8")
    before = "engine: {bundle: brain-student"
    if before not in text:
        raise ScansideError(
            "pipeline 'student' is not as this benchmark knows it: its engine stage has changed"
        )
    sizes = f"sizes: [[{SCAN.n_lines}, {SCAN.n_samples // 2}]], n_coils: [{SCAN.n_coils}]"
    path = folder / "student.yaml"
    path.write_text(text.replace(before, f"{before}, {sizes}"), encoding="utf-8")
    return path


def _row(what: str, values: list[float]) -> dict[str, Any]:
    return {"what": what, "unit": "ms", **{name: round(value, 1) for name, value in spread(values).items()}}


# From connecting to the first image


def _first_image(
    pipeline: Path, pool: Path, progress: Callable[[str], None]
) -> tuple[list[dict[str, Any]], list[Headline]]:
    progress("the pipeline in a process of its own")
    alone = _Alone(pipeline)
    progress("a pool")
    options = ("--workers", "1", "--handover", str(pool))
    with scanside_server(str(pipeline), *options) as server:
        own, pooled = [], []
        # In turns, so that whatever else this machine does meets both alike.
        for run in range(_RUNS + _COLD):
            took = alone.run(), _connect(server.port)
            if run >= _COLD:
                own.append(took[0])
                pooled.append(took[1])
        progress("nodes that Gadgetron executes")
        handed_over = [_execute(pipeline, str(pool)) for _ in range(_EXECUTES)]
    by_itself = [_execute(pipeline, "off") for _ in range(_EXECUTES)]
    rows = [
        _row("pipeline in its own process, first readout to image", own),
        _row("pool, connecting to first image", pooled),
        _row("<execute> with a pool beside it, start to first image", handed_over),
        _row("<execute> without a pool, start to first image", by_itself),
    ]
    ratio = spread(pooled)["median"] / spread(own)["median"]
    gain = spread(by_itself)["median"] / spread(handed_over)["median"]
    return rows, [
        Headline.at_most("pool, connecting to first image, against the pipeline alone", ratio, 1.5),
        Headline.at_least("<execute> without a pool against with one, start to first image", gain, 2),
    ]


class _Alone:
    """The warm pipeline, fed with the scan's readouts from memory."""

    def __init__(self, path: Path) -> None:
        self._pipeline = Pipeline.load(path)
        self._pipeline.prepare(Context(device="cpu"))
        frame, _ = SCAN.frame()
        self._items = [m for m in decode(SCAN.noise_readout() + frame.tobytes()) if isinstance(m, Readouts)]

    def run(self) -> float:
        """Milliseconds to the image."""
        begun = time.perf_counter()
        with self._pipeline.open(Scan.from_xml(SCAN.header_xml)) as run:
            for item in self._items:
                for result in run.push(item):
                    if isinstance(result, Image):
                        _check(result.meta)
                        return 1e3 * (time.perf_counter() - begun)
        raise ScansideError("the pipeline made no image of a whole frame")


def _check(meta: Any) -> None:
    if "ScansideFallback" in meta:
        raise ScansideError(f"the network made no image: {meta['ScansideFallback'][2]}")


def _connect(port: int) -> float:
    begun = time.perf_counter()
    connection = socket.create_connection(("127.0.0.1", port), _LIMIT_S)
    return _until_image(connection, b"<configuration/>", begun)


def _until_image(connection: socket.socket, config: bytes, begun: float) -> float:
    """Send the scan and wait for its image: milliseconds from ``begun``."""
    frame, _ = SCAN.frame()
    session = ClientSession(SocketStream(connection, timeout=_LIMIT_S))
    session.open(ConfigText(config), SCAN.header_xml)

    def send() -> None:
        connection.sendall(SCAN.noise_readout())
        connection.sendall(frame.data)
        session.finish()

    sender = threading.Thread(target=send, name="bench-sender", daemon=True)
    sender.start()
    took = None
    for message in session:
        if took is None and isinstance(message, ImageMessage):
            took = 1e3 * (time.perf_counter() - begun)
            if b"ScansideFallback" in message.attributes:
                raise ScansideError("the network made no image")
    sender.join(_LIMIT_S)
    session.close()
    if took is None:
        raise PeerGone("no image came")
    return took


def _execute(pipeline: Path, pool: str) -> float:
    """Start a node as Gadgetron does: milliseconds from there to the first image."""
    environment = {**os.environ, "SCANSIDE_POOL": pool, "SCANSIDE_DEVICE": "cpu"}
    config = f"<configuration><pipeline>{pipeline}</pipeline></configuration>".encode()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(_LIMIT_S)
        port = str(listener.getsockname()[1])
        begun = time.perf_counter()
        command = [sys.executable, "-m", "gadgetron", port, "scanside_gadgetron", "reconstruct"]
        with subprocess.Popen(
            command,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        ) as node:
            try:
                return _until_image(listener.accept()[0], config, begun)
            finally:
                try:
                    node.wait(10)
                except subprocess.TimeoutExpired:
                    node.kill()


# Sessions that share the workers


def _sharing(pipeline: Path, progress: Callable[[str], None]) -> tuple[list[dict[str, Any]], list[Headline]]:
    progress(f"{_SESSIONS} sessions on one worker and on {_WORKERS}")
    with ExitStack() as stack:
        one, several = (
            stack.enter_context(
                scanside_server(
                    str(pipeline),
                    "--workers",
                    str(n),
                    "--threads",
                    "1",
                    "--handover",
                    "off",
                    "--device",
                    "cpu",
                )
            )
            for n in (1, _WORKERS)
        )
        for server, n in ((one, 1), (several, _WORKERS)):
            _at_once(server.port, n)  # every worker once, so that none is cold
        in_a_row, at_once, waits = [], [], []
        for _ in range(3):
            begun = time.perf_counter()
            for _ in range(_SESSIONS):
                _play(one.port)
            in_a_row.append(1e3 * (time.perf_counter() - begun))
            begun = time.perf_counter()
            took = _at_once(several.port, _SESSIONS)
            at_once.append(1e3 * (time.perf_counter() - begun))
            waits.append(max(took) / min(took))
    what = f"{_SESSIONS} sessions of {_FRAMES} frames"
    rows = [
        _row(f"{what}, one after another on one worker of one thread", in_a_row),
        _row(f"{what}, at once on {_WORKERS} workers of one thread", at_once),
    ]
    ratio = min(at_once) / min(in_a_row)
    return rows, [
        Headline.at_most(
            f"{_SESSIONS} sessions at once on {_WORKERS} workers, against one by one", ratio, 0.8
        ),
        # The second half waits for the first, so that twice as long is what fairness gives.
        Headline.at_most(
            f"none of {_SESSIONS} starved: the longest of them against the shortest", max(waits), _FAIR
        ),
    ]


def _play(port: int) -> float:
    """Play a series; seconds. Every frame must give its image."""
    played = play(SCAN, _FRAMES, port)
    if played.n_images != _FRAMES:
        raise ScansideError(f"{played.n_images} images came of {_FRAMES} frames")
    return played.seconds


def _at_once(port: int, n: int) -> list[float]:
    """Play several series at once; seconds of each."""
    took: list[float] = []
    threads = [threading.Thread(target=lambda: took.append(_play(port)), daemon=True) for _ in range(n)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(_LIMIT_S)
    if len(took) != n:
        raise ScansideError(f"only {len(took)} of {n} sessions at once got all their images")
    return took
