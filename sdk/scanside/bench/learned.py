"""Learned pipelines from the last readout to the image: what the network takes, and everything else."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import numpy as np
import numpy.typing as npt

from scanside.bench.first_scan import first_scan, prepared
from scanside.bench.result import BenchResult, Headline
from scanside.bench.scans import LEARNED, live_blocks
from scanside.errors import ScansideError
from scanside.items import Image
from scanside.mrd.flags import CALIBRATING, flagged
from scanside.mrd.messages import Readouts
from scanside.mrd.reader import decode
from scanside.pipeline import Pipeline, PipelineRun
from scanside.scan import Scan, ScanEnd
from scanside.stages.engine import RunEngine
from scanside.trace import StageTimes, Trace

__all__ = ["measure"]

PIPELINES = ("unrolled", "student")

_LIMITS_MS = {"the first time": 30, "repetitions with the same maps and mask": 15}
_FIRST = 1.2
_CHECKED = 1.3
_FRAMES = 40
_COLD = 3  # the first frames find code and memory cold
_BEFORE_THE_LAST_S = 0.4


def measure(progress: Callable[[str], None]) -> BenchResult:
    """Times per image of every shipped learned pipeline.

    The first time, calibration lines differ from image to image, so that coil maps are made for each, and what
    depends on them. That is begun when these lines are in, and does not count into the time from the last readout: as
    at a scanner, where the other half of the image's lines takes as long, the last ones come a while later. In
    repetitions the calibration lines are the same, and frames are sent as fast as they are taken.
    """
    rows: list[dict[str, object]] = []
    headline = []
    for name in PIPELINES:
        pipeline = prepared(name, LEARNED)
        for series, limit in _LIMITS_MS.items():
            progress(f"pipeline {name}, {series}")
            rest, parts, backend = _times(pipeline, same_calibration=series != "the first time")
            for what, times in parts.items():
                row = {"median": round(times.quantile_ms(0.5), 2), "p99": round(times.quantile_ms(0.99), 2)}
                label = {"pipeline": name, "series": series, "what": what, "unit": "ms"}
                rows.append({**label, **row, "n": times.n, "engine": backend})
            what = (
                f"{name}, {series}: median ms from last readout to image without engine, its self-check and coil "
                "calibration"
            )
            headline.append(Headline.at_most(what, rest.quantile_ms(0.5), limit))
            check, engine = (parts[part].quantile_ms(0.5) for part in ("self-check", "engine"))
            what = f"{name}, {series}: the engine with its self-check, over the engine alone"
            headline.append(Headline.at_most(what, (engine + check) / engine, _CHECKED))
        progress(f"pipeline {name}: its first scan")
        first, later = first_scan(name)
        for what, ms in (("the first scan of a process", first), ("those after it", later)):
            what = f"last readout in to image out, {what}"
            rows.append(
                {"pipeline": name, "what": what, "unit": "ms", "median": round(ms, 2), "engine": backend}
            )
        what = f"{name}: first scan of a prepared size against those after it, last readout to image"
        headline.append(Headline.at_most(what, first / later, _FIRST))
    return BenchResult(name="learned", rows=rows, headline=headline)


def _times(pipeline: Pipeline, *, same_calibration: bool) -> tuple[StageTimes, dict[str, StageTimes], str]:
    """All but engine, self-check and calibration; everything by what it is; and the engine's backend."""
    (stage,) = (one for one in pipeline.stages if isinstance(one, RunEngine))
    rest = StageTimes()
    parts = {
        what: StageTimes()
        for what in (
            "last readout in to image out",
            "engine",
            "self-check",
            "everything else",
            "coil calibration, before",
        )
    }
    after: dict[str, StageTimes] = {label: StageTimes() for label in pipeline.labels}
    backend = ""
    frame, _ = LEARNED.frame()
    trace = Trace()
    with pipeline.open(Scan.from_xml(LEARNED.header_xml), trace) as run:
        for message in decode(LEARNED.noise_readout()):
            assert isinstance(message, Readouts)
            list(run.push(message))
        for repetition in range(_FRAMES + _COLD):
            LEARNED.number(frame, repetition)
            *blocks, last = _blocks(frame, repetition, same_calibration=same_calibration)
            calibrated = trace.stages["coil-maps"].total_ms
            for block in blocks:
                list(run.push(block))
            if not same_calibration:
                time.sleep(_BEFORE_THE_LAST_S)
            before = {label: times.total_ms for label, times in trace.stages.items()}
            ran, checked = stage.engine_times.total_ms, stage.check_times.total_ms
            took, image = _last(run, last)
            engine = stage.engine_times.total_ms - ran
            check = stage.check_times.total_ms - checked
            backend = " ".join(image.meta["ScansideBackend"][:2])
            if repetition < _COLD:
                continue
            rest.add(took - engine - check)
            parts["last readout in to image out"].add(took)
            parts["engine"].add(engine)
            parts["self-check"].add(check)
            parts["everything else"].add(took - engine - check)
            parts["coil calibration, before"].add(before["coil-maps"] - calibrated)
            for label, times in trace.stages.items():
                share = times.total_ms - before[label]
                after[label].add(share - engine - check if label == "engine" else share)
        list(run.finish(ScanEnd()))
    return (
        rest,
        {**parts, **{f"of everything else: {label}": times for label, times in after.items()}},
        backend,
    )


def _last(run: PipelineRun, block: Readouts) -> tuple[float, Image]:
    """Push the last readouts of a frame: milliseconds, and its image."""
    begun = time.perf_counter()
    images = [item for item in run.push(block) if isinstance(item, Image)]
    took = 1e3 * (time.perf_counter() - begun)
    (image,) = images
    if "ScansideFallback" in image.meta:
        raise ScansideError(f"the network made no image: {image.meta['ScansideFallback'][2]}")
    return took, image


def _blocks(frame: npt.NDArray[np.uint8], repetition: int, *, same_calibration: bool) -> Iterator[Readouts]:
    """The blocks of a frame, no two frames alike; or alike in their calibration lines alone."""
    for block in live_blocks(frame):
        louder = np.full((len(block), 1, 1), 1 + 1e-3 * repetition, np.float32)
        if same_calibration:
            louder[flagged(block.headers["flags"], *CALIBRATING)] = 1
        yield block.with_samples(block.samples * louder)
