"""From a loopback socket into assembled k-space."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from statistics import median

from scanside.bench.peers import incoming
from scanside.bench.result import BenchResult, Headline, spread
from scanside.bench.scans import FrameScan
from scanside.context import Context
from scanside.execution import execute
from scanside.items import Item
from scanside.mrd.messages import Readouts
from scanside.mrd.session import ServerSession
from scanside.mrd.streams import SocketStream
from scanside.pipeline import Pipeline
from scanside.scan import Scan
from scanside.stages.accumulate import Accumulate

__all__ = ["measure"]

_SCAN = FrameScan(n_coils=16, n_samples=256, n_lines=256, oversampled=False)
_FRAMES = 100
_RUNS = 9


def measure(progress: Callable[[str], None]) -> BenchResult:
    """Readouts per second of the plain socket, of gadgetron-python and of Scanside, in turn."""
    contenders: dict[str, Callable[[], float]] = {
        "plain socket, bytes dropped": _plain,
        "gadgetron-python, readouts dropped": _gadgetron,
        "Scanside, into k-space": _scanside,
    }
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    for run in range(_RUNS + 1):
        for name, contender in contenders.items():
            progress(f"{name}, run {run} of {_RUNS}")
            took = contender()
            if run:  # the first run warms caches up
                seconds[name].append(took)
    n = len(_SCAN.lines) * _FRAMES
    rates = {name: [n / t for t in values] for name, values in seconds.items()}
    plain, gadgetron, scanside = (median(values) for values in rates.values())
    return BenchResult(
        name="ingest",
        rows=[{"contender": name, "unit": "readouts/s", **spread(values)} for name, values in rates.items()],
        headline=[
            Headline.at_least(
                "rate against gadgetron-python reading and dropping", scanside / gadgetron, 1.5
            ),
            Headline.at_least("rate against the plain socket", scanside / plain, 0.5),
        ],
    )


def _plain() -> float:
    buffer = memoryview(bytearray(4 << 20))
    with incoming(_SCAN, _FRAMES) as connection:
        connection.recv_into(buffer[:1])  # the first byte starts the clock for everyone
        begun = time.perf_counter()
        while connection.recv_into(buffer):
            pass
        return time.perf_counter() - begun


def _gadgetron() -> float:
    from gadgetron.external.connection import Connection

    from scanside.bench.gadgetron_node import read_and_drop

    with incoming(_SCAN, _FRAMES) as connection, Connection(connection.dup()) as node:
        begun = time.perf_counter()
        read_and_drop(node)
        return time.perf_counter() - begun


def _scanside() -> float:
    pipeline = Pipeline([Accumulate()], name="ingest")
    pipeline.prepare(Context(device="cpu"))
    with incoming(_SCAN, _FRAMES) as connection:
        session = ServerSession(SocketStream(connection))
        opening = session.open()
        assert opening is not None
        n_images = 0

        def count(_: Item) -> None:
            nonlocal n_images
            n_images += 1

        begun = time.perf_counter()
        with pipeline.open(Scan.from_xml(opening.header_xml)) as run:
            execute(run, _readouts(session), count, threads=True)
        took = time.perf_counter() - begun
    assert n_images == _FRAMES, f"{n_images} of {_FRAMES} k-spaces were assembled"
    return took


def _readouts(session: ServerSession) -> Iterator[Item]:
    for message in session:
        assert isinstance(message, Readouts)
        yield message
