"""Echo-planar volumes as a scanner sends them, trains of echoes in bursts: do images keep up, how late are they."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from scanside.bench.processes import Family
from scanside.bench.realtime import MOST_GROWTH, growth
from scanside.bench.result import BenchResult, Headline
from scanside.context import Context
from scanside.errors import ConfigError
from scanside.items import Image
from scanside.mrd.dtypes import TICK_MS
from scanside.mrd.flags import AcquisitionFlag
from scanside.mrd.readouts import Readouts
from scanside.pipeline import Pipeline, PipelineRun
from scanside.scan import Scan, ScanEnd
from scanside.simulate import (
    CoilConfig,
    DynamicsConfig,
    EchoPlanarConfig,
    GeometryConfig,
    PhantomConfig,
    SamplingConfig,
    ScanConfig,
    TimingConfig,
    play,
    simulate,
)
from scanside.simulate.echo_planar import ECHO_COUNTER
from scanside.threads import one_blas_thread
from scanside.trace import StageTimes

__all__ = ["CONFIG", "Volumes", "measure"]

PIPELINE = "epi"
TR_S = 2.5
"""Time from one volume to the next."""

CONFIG = ScanConfig(
    name="epi",
    phantom=PhantomConfig(supersampling=(1, 1, 1)),
    geometry=GeometryConfig(matrix=(96, 96, 1), n_slices=30),
    coils=CoilConfig(n_coils=32),
    timing=TimingConfig(dwell_us=2.5),
    sampling=SamplingConfig(
        acceleration=(2, 1),
        acs=(24, 0),
        acs_mode="separate",
        epi=EchoPlanarConfig(ramp_us=80, odd_even_rad=(0.5, 1.0)),
    ),
)
"""Volumes of 30 slices, 96², of 32 coils, R = 2, an echo every 520 µs."""

_VOLUMES = 8
_FAST = 3  # volumes that nobody waits for
_SAME = 1e-4  # images of equal samples differ by rounding only


class Volumes:
    """Series of volumes, all of the same samples.

    Args:
        config: of one volume; what is told of repetitions is overruled.
        tr_s: time from one to the next. Slices lie at equal distances in it, echoes at that of the trains.

    Attributes:
        before: noise and calibration lines.
    """

    def __init__(self, config: ScanConfig, tr_s: float) -> None:
        self._config, self.tr_s = config, tr_s
        self.n_slices = config.geometry.n_slices
        one = simulate(config.model_copy(update={"dynamics": DynamicsConfig()}))
        *self.before, self._volume = (item for item in one.items(1 << 20) if isinstance(item, Readouts))
        epi, grid = config.sampling.epi, one.grid
        assert epi is not None
        idx = self._volume.headers["idx"]
        spacing_us = epi.echo_spacing_us(epi.samples or grid.encoded_matrix[0], config.timing.dwell_us)
        self._times_s = (
            idx["slice"] * (tr_s / self.n_slices) + (1 + idx["user"][:, ECHO_COUNTER]) * spacing_us / 1e6
        )
        self._volume.headers["flags"] &= ~np.uint64(int(AcquisitionFlag.LAST_IN_MEASUREMENT))

    def header_xml(self, n: int) -> bytes:
        """The header of a series of n volumes."""
        return simulate(
            self._config.model_copy(update={"dynamics": DynamicsConfig(repetitions=n)})
        ).header_xml

    @property
    def n_readouts(self) -> int:
        """Of a volume."""
        return len(self._volume)

    def due_s(self, volume: int, slice_: int) -> float:
        """When the last line of a slice was measured, after the beginning of the first volume."""
        last = self._times_s[self._volume.headers["idx"]["slice"] == slice_].max()
        return float(volume * self.tr_s + last)

    def items(self, n: int) -> Iterator[Readouts]:
        """N volumes, one after the other, with time stamps; samples are in the same memory in all of them."""
        first = sum(map(len, self.before))
        for number in range(n):
            headers = self._volume.headers.copy()
            headers["idx"]["repetition"] = number
            headers["scan_counter"] = first + number * len(headers) + np.arange(len(headers))
            ticks = (number * self.tr_s + self._times_s) * 1e3 / TICK_MS
            headers["acquisition_time_stamp"] = np.ceil(ticks).astype(np.uint32)
            if number == n - 1:
                headers["flags"][-1] |= np.uint64(int(AcquisitionFlag.LAST_IN_MEASUREMENT))
            yield Readouts(headers, self._volume.samples)


@dataclass
class _Seen:
    """What was seen of a stream.

    Attributes:
        seconds: it took.
        cpu_s: processor time that it took.
        slices: of each image, how late it was after the last line of its slice, in ms.
        volumes: of each volume, how late its last image was after its last line, in ms.
        memory: resident bytes after each slice.
        ghosts: levels of the images.
        n_wrong: images that differ from that of the first volume.
    """

    seconds: float = 0.0
    cpu_s: float = 0.0
    slices: list[float] = field(default_factory=list)
    volumes: dict[int, float] = field(default_factory=dict)
    memory: list[int] = field(default_factory=list)
    ghosts: list[float] = field(default_factory=list)
    n_wrong: int = 0


def measure(progress: Callable[[str], None], *, volumes: int | None = None) -> BenchResult:
    """Volumes at the scanner's pace, and as fast as they can, beside each other.

    Args:
        progress: is told what is being measured.
        volumes: how many come at the scanner's pace, one every 2.5 s.

    Raises:
        ConfigError: there are no volumes.
    """
    n = _VOLUMES if volumes is None else volumes
    if n < 1:
        raise ConfigError(f"a bench of {n} volumes: expected 1 or more")
    progress(f"simulating {CONFIG.geometry.n_slices} slices, {CONFIG.coils.n_coils} coils")
    pipeline = Pipeline.load(PIPELINE)
    pipeline.prepare(Context(device="cpu"))
    series = Volumes(CONFIG, TR_S)
    progress("as fast as it can")
    _stream(pipeline, series, 1, lambda item: item)  # finds code and memory cold
    fast = _stream(pipeline, series, _FAST, lambda item: item)
    progress(f"{n} volumes at the scanner's pace, {n * TR_S:g} s")
    paced = _stream(pipeline, series, n, play)
    return BenchResult(
        name="epi", rows=_rows(fast, paced, series, n), headline=_headlines(fast, paced, series, n)
    )


def _stream(
    pipeline: Pipeline, series: Volumes, n: int, pace: Callable[[Iterator[Readouts]], Iterator[Any]]
) -> _Seen:
    """Send a series through a pipeline; noise and calibration lines are there before the clock begins."""
    seen, first = _Seen(), dict[int, npt.NDArray[np.generic]]()
    process = Family(os.getpid())
    with one_blas_thread(), pipeline.open(Scan.from_xml(series.header_xml(n))) as run:
        for item in series.before:
            for _ in run.push(item):
                pass
        begun, cpu = time.monotonic(), time.process_time()
        for image in _images(run, pace(series.items(n))):
            now = time.monotonic()
            volume, slice_ = int(image.header["repetition"]), int(image.header["slice"])
            late_ms = 1e3 * (now - begun - series.due_s(volume, slice_))
            seen.slices.append(late_ms)
            if slice_ == series.n_slices - 1:
                seen.volumes[volume] = late_ms
            seen.memory.append(process.footprint().server)
            seen.ghosts.append(float(image.meta["ScansideGhost"][0]))
            pixels = np.asarray(image.data)
            same = first.setdefault(slice_, pixels)
            seen.n_wrong += not np.linalg.norm(pixels - same) <= _SAME * np.linalg.norm(same)
        seen.seconds, seen.cpu_s = time.monotonic() - begun, time.process_time() - cpu
    return seen


def _images(run: PipelineRun, items: Iterator[Readouts]) -> Iterator[Image]:
    for item in items:
        yield from (made for made in run.push(item) if isinstance(made, Image))
    yield from (made for made in run.finish(ScanEnd()) if isinstance(made, Image))


def _rows(fast: _Seen, paced: _Seen, series: Volumes, n: int) -> list[dict[str, Any]]:
    config = CONFIG
    matrix, n_coils, r = config.geometry.matrix[0], config.coils.n_coils, config.sampling.acceleration[0]
    what = f"{series.n_slices} slices, {matrix}², R = {r:g}, {n_coils} coils"
    load = os.getloadavg()[0]
    return [
        {"what": f"readouts of a volume ({what})", "median": series.n_readouts},
        {
            "what": "a volume, as fast as it can",
            "unit": "s",
            "median": round(fast.seconds / _FAST, 2),
            "n": _FAST,
        },
        {
            "what": "processor time of a volume, as fast as it can",
            "unit": "s",
            "median": round(fast.cpu_s / _FAST, 2),
            "n": _FAST,
        },
        {"what": f"one volume every {series.tr_s:g} s: all", "unit": "s", "median": round(paced.seconds, 1)}
        | {"n": n},
        _row("image, after the last line of its slice", paced.slices),
        _row("last image of a volume, after its last line", list(paced.volumes.values())),
        {"what": "memory of the process at the end", "unit": "MiB", "median": paced.memory[-1] >> 20},
        {"what": "ghost level of the images", "unit": "%", "median": _percent(np.median(paced.ghosts))}
        | {"max": _percent(np.max(paced.ghosts))},
        {"what": "processes that want to run on this machine (load, one minute)", "median": round(load, 1)},
    ]


def _row(what: str, values_ms: list[float]) -> dict[str, Any]:
    times = StageTimes()
    for value in values_ms:
        times.add(value)
    figures = {
        name: round(times.quantile_ms(q), 1) for name, q in (("median", 0.5), ("p99", 0.99), ("max", 1.0))
    }
    return {"what": what, "unit": "ms", **figures, "n": times.n}


def _percent(share: float | np.floating[Any]) -> float:
    return round(100 * float(share), 2)


def _headlines(fast: _Seen, paced: _Seen, series: Volumes, n: int) -> list[Headline]:
    n_missing = n * series.n_slices - len(paced.slices) + paced.n_wrong
    return [
        Headline.at_least("times as fast as the scanner", series.tr_s * _FAST / fast.seconds, 1),
        Headline.at_most(
            "processor time of a volume, in times of a volume", fast.cpu_s / (series.tr_s * _FAST), 1
        ),
        Headline.at_most("images at the scanner's pace that lack or differ", n_missing, 0),
        Headline.at_most(
            "the latest image of all, in times of a volume", max(paced.slices) / (1e3 * series.tr_s), 1
        ),
        Headline.at_most(
            "memory in the last quarter against the first, once it is warm",
            growth(paced.memory),
            MOST_GROWTH,
        ),
    ]
