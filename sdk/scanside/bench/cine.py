"""Films: a stream at the scanner's pace through pipelines, and how fast they are when nobody waits."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from scanside.bench.result import BenchResult, Headline
from scanside.context import Context
from scanside.errors import ScansideError
from scanside.items import Image
from scanside.mrd.dtypes import TICK_MS
from scanside.mrd.flags import AcquisitionFlag, flagged
from scanside.mrd.readouts import Readouts, Waveform
from scanside.pipeline import Pipeline
from scanside.scan import Scan, ScanEnd
from scanside.simulate import play, preset, simulate
from scanside.simulate.playback import Speed
from scanside.stages.window import JoinFrames
from scanside.trace import StageTimes

__all__ = ["PIPELINES", "measure"]

PIPELINES: tuple[str, ...] = ("cine-view-sharing", "cine")
"""What is measured; a pipeline that cannot be loaded here has a row that says why."""

PRESET = "cine"
_FASTEST = 10  # frames per second that a film needs
_BLOCK = 4  # readouts that arrive together

Stream = Sequence[Readouts | Waveform]


def measure(progress: Callable[[str], None]) -> BenchResult:
    """Frames per second, and the delay of every image behind the last readout of its own frame.

    The delay has two parts: the frames that a window waits for, which the pipeline's settings choose, and what is
    computed. The second is told apart: behind the last readout of the window.
    """
    progress(f"preset {PRESET}")
    scan = simulate(preset(PRESET))
    items = list(scan.items(_BLOCK))
    frame_ms = _frame_ms(items)
    what = f"frames of preset {PRESET}, one every"
    rows: list[dict[str, Any]] = [{"what": what, "unit": "ms", "median": round(frame_ms, 1)}]
    headline: list[Headline] = []
    for name in PIPELINES:
        progress(f"pipeline {name}")
        try:
            pipeline = Pipeline.load(name)
            pipeline.prepare(Context())
        except ScansideError as error:
            rows.append({"pipeline": name, "what": f"skipped: {error}"})
            continue
        _stream(pipeline, scan.header_xml, items, "max")  # finds code and memory cold
        rate, _ = _stream(pipeline, scan.header_xml, items, "max")
        progress(f"pipeline {name} at the scanner's pace")
        paced, delays = _stream(pipeline, scan.header_xml, items, "realtime")
        waited = _frames_waited(pipeline, len(delays))
        computed = [delay - n * frame_ms for delay, n in zip(delays, waited, strict=True)]
        rows += [
            {"pipeline": name, "what": "as fast as it can", "unit": "frames/s", "median": round(rate, 1)},
            {
                "pipeline": name,
                "what": "at the scanner's pace",
                "unit": "frames/s",
                "median": round(paced, 1),
            },
            _row(name, "image, behind the last readout of its frame", delays),
            _row(name, "image, behind the last readout of its window", computed),
        ]
        headline.append(Headline.at_least(f"{name}: frames per second as fast as it can", rate, _FASTEST))
    return BenchResult(name="cine", rows=rows, headline=headline)


def _stream(pipeline: Pipeline, header_xml: bytes, items: Stream, speed: Speed) -> tuple[float, list[float]]:
    """Frames per second, and the delay in ms of each image behind the time of its frame's last readout."""
    due = _due_ms(items)
    delays: list[float] = []
    begun: float | None = None

    def left(results: Any) -> None:
        for item in results:
            if isinstance(item, Image):
                assert begun is not None
                late = 1e3 * (time.monotonic() - begun) - due[int(item.header["repetition"])]
                delays.append(late)

    with pipeline.open(Scan.from_xml(header_xml)) as run:
        for item in play(items, speed):
            begun = time.monotonic() if begun is None else begun
            left(run.push(item))
        left(run.finish(ScanEnd()))
        assert begun is not None
        seconds = time.monotonic() - begun
    if len(delays) != len(due):
        raise ScansideError(f"pipeline '{pipeline.name}' made {len(delays)} images of {len(due)} frames")
    return len(due) / seconds, delays


def _due_ms(items: Stream) -> dict[int, float]:
    """When the last readout of each frame is measured, after the first readout of the scan."""
    first: int | None = None
    due = {}
    for item in items:
        if not isinstance(item, Readouts):
            continue
        stamps = item.headers["acquisition_time_stamp"].astype(int)
        first = int(stamps[0]) if first is None else first
        imaging = ~flagged(item.headers["flags"], AcquisitionFlag.NOISE_MEASUREMENT)
        for repetition, stamp in zip(
            item.headers["idx"]["repetition"][imaging].tolist(), stamps[imaging].tolist(), strict=True
        ):
            due[repetition] = (stamp - first) * TICK_MS
    return due


def _frame_ms(items: Stream) -> float:
    return float(np.median([b - a for a, b in pairwise(_due_ms(items).values())]))


def _frames_waited(pipeline: Pipeline, n: int) -> list[int]:
    """How many frames later the window of each of `n` frames is full."""
    last = list(range(n))
    for config in (stage.config for stage in pipeline.stages if isinstance(stage, JoinFrames)):
        middle = config.size - config.look_ahead  # so many images come from the first window
        steps = [max(-(-(i + 1 - middle) // config.stride), 0) for i in range(n)]
        last = [min(config.size - 1 + step * config.stride, n - 1) for step in steps]
    return [end - i for i, end in enumerate(last)]


def _row(name: str, what: str, delays_ms: list[float]) -> dict[str, Any]:
    times = StageTimes()
    for delay in delays_ms:
        times.add(delay)
    figures = {"median": round(times.quantile_ms(0.5), 1), "p99": round(times.quantile_ms(0.99), 1)}
    return {"pipeline": name, "what": what, "unit": "ms", **figures, "n": times.n}
