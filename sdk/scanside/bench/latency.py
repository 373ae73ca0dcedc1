"""From the last readout in to the image out."""

from __future__ import annotations

import time
from collections.abc import Callable

from scanside.bench.result import BenchResult, Headline
from scanside.bench.scans import FrameScan, live_blocks
from scanside.context import Context
from scanside.items import Image
from scanside.mrd.messages import Readouts
from scanside.mrd.reader import decode
from scanside.pipeline import Pipeline
from scanside.scan import Scan, ScanEnd
from scanside.trace import StageTimes, Trace

__all__ = ["measure"]

_SCANS = {
    "fft": FrameScan(noise=True),
    "grappa": FrameScan(acceleration=2, noise=True),
    "sense": FrameScan(acceleration=2, noise=True),
}
_FRAMES = {"fft": 100, "grappa": 60, "sense": 10}


def measure(progress: Callable[[str], None]) -> BenchResult:
    """Latency of every pipeline, and where it goes: the share of each stage between last readout and image."""
    rows = []
    headline = []
    for name, scan in _SCANS.items():
        progress(f"pipeline {name}")
        total, stages = _latency(name, scan)
        rows.append(_row(name, "last readout in to image out", total))
        rows += [_row(name, stage, times) for stage, times in stages.items()]
        if name != "sense":
            # A frame of 256 lines takes a scanner at TR = 3 ms about 770 ms: images must not pile up.
            what = f"{name}: 99th percentile in ms against 256 lines at TR 3 ms"
            headline.append(Headline.at_most(what, total.quantile_ms(0.99), 768))
    return BenchResult(name="latency", rows=rows, headline=headline)


def _row(pipeline: str, what: str, times: StageTimes) -> dict[str, float | str]:
    return {
        "pipeline": pipeline,
        "what": what,
        "unit": "ms",
        "median": round(times.quantile_ms(0.5), 2),
        "p99": round(times.quantile_ms(0.99), 2),
        "n": times.n,
    }


def _latency(name: str, scan: FrameScan) -> tuple[StageTimes, dict[str, StageTimes]]:
    pipeline = Pipeline.load(name)
    pipeline.prepare(Context())
    total = StageTimes()
    last_only: dict[str, StageTimes] = {label: StageTimes() for label in pipeline.labels}
    frame, _ = scan.frame()
    noise = [m for m in decode(scan.noise_readout()) if isinstance(m, Readouts)]
    trace = Trace()
    with pipeline.open(Scan.from_xml(scan.header_xml), trace) as run:
        for block in noise:
            list(run.push(block))
        for repetition in range(_FRAMES[name] + 2):
            scan.number(frame, repetition)
            pieces = list(live_blocks(frame))
            for piece in pieces[:-1]:
                list(run.push(piece))
            before = {label: times.total_ms for label, times in trace.stages.items()}
            begun = time.perf_counter()
            images = [item for item in run.push(pieces[-1]) if isinstance(item, Image)]
            took = (time.perf_counter() - begun) * 1e3
            assert len(images) == 1, f"{len(images)} images after the last readout of a frame"
            if repetition >= 2:  # the first frames find code and memory cold
                total.add(took)
                for label, times in trace.stages.items():
                    last_only[label].add(times.total_ms - before[label])
        list(run.finish(ScanEnd()))
    return total, last_only
