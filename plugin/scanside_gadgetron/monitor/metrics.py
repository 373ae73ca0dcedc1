"""Prometheus metrics of a pool of workers.

Counters and histograms are fed by events, which all arrive in the server's own process; gauges are read when
somebody asks. Names and units follow https://prometheus.io/docs/practices/naming/.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from scanside._version import __version__
from scanside_gadgetron.monitor.contract import PoolState
from scanside_gadgetron.monitor.session import CHECKS, check_of, classify, ghost_of
from scanside_gadgetron.monitor.state import LiveState
from scanside_gadgetron.pool.events import (
    Event,
    ImageMade,
    Progress,
    SessionEnded,
    SessionOpened,
    SessionRefused,
    SessionStarted,
    StageRan,
    Warned,
    WorkerEnded,
    WorkerReady,
)

__all__ = ["Metrics"]

_STAGE_SECONDS = (0.0001, 0.0003, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0)
_IMAGE_SECONDS = (0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0)
_SESSION_SECONDS = (0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1000.0, 3000.0)

_CHECK_DB = (-10.0, -5.0, -2.0, -1.0, -0.5, 0.0, 0.5, 1.0, 2.0, 5.0, 10.0)

_GHOST_RATIOS = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5)

_MOST_NAMES = 64
"""Names that hosts or sites choose become labels; a host must not be able to fill Prometheus with them."""

_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


class Metrics:
    """What Prometheus asks for.

    Args:
        live: sessions and workers.
        pool: knows its queue and whether it is ready.

    Attributes:
        registry: its own, so that two servers in one process do not mix.
    """

    def __init__(self, live: LiveState, pool: PoolState) -> None:
        self.registry = registry = CollectorRegistry()
        self._readouts_of: dict[str, int] = {}
        self._pipeline_of: dict[str, str] = {}
        self._pipelines = _Names()
        self._stages = _Names()

        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(name, text, labels, registry=registry)

        def histogram(name: str, text: str, buckets: tuple[float, ...], *labels: str) -> Histogram:
            return Histogram(name, text, labels, buckets=buckets, registry=registry)

        self._sessions = counter("scanside_sessions", "Sessions that are over.", "outcome")
        self._refused = counter("scanside_sessions_refused", "Connections that were turned away.", "reason")
        self._images = counter("scanside_images", "Images that left.", "pipeline")
        self._readouts = counter("scanside_readouts", "Readouts that came in.")
        self._fallbacks = counter(
            "scanside_fallbacks",
            "Images that a classical reconstruction made in place of an engine.",
            "reason",
        )
        self._checks = counter(
            "scanside_self_checks",
            "Images of engines that were checked by lines they were not given, by what these say of them.",
            "verdict",
        )
        self._check_db = histogram(
            "scanside_self_check_gain_db",
            "How much better than the fallback an engine predicts lines that it was not given.",
            _CHECK_DB,
        )
        self._ghosts = histogram(
            "scanside_ghost_ratio",
            "Nyquist ghost of echo-planar images as a share of the signal.",
            _GHOST_RATIOS,
            "pipeline",
        )
        self._warnings = counter("scanside_warnings", "Warnings to the operator.")
        self._restarts = counter("scanside_worker_restarts", "Workers that were replaced.", "reason")
        self.dropped = counter(
            "scanside_monitor_events_dropped", "Events that the monitor was too slow for and did not see."
        )
        self._stage_seconds = histogram(
            "scanside_stage_duration_seconds", "Time of a stage for one item.", _STAGE_SECONDS, "stage"
        )
        self._image_seconds = histogram(
            "scanside_image_latency_seconds",
            "From the arrival of what completed an image to its leaving.",
            _IMAGE_SECONDS,
            "pipeline",
        )
        self._session_seconds = histogram(
            "scanside_session_duration_seconds", "From the first byte to the end.", _SESSION_SECONDS
        )
        self._waited = histogram(
            "scanside_session_wait_seconds", "In the queue for a worker.", _SESSION_SECONDS
        )
        self._load_seconds = histogram(
            "scanside_worker_load_seconds", "Until a worker's engines were warm.", _SESSION_SECONDS
        )
        # Series that do not exist yet make alerts blind: those with known labels begin at zero.
        for outcome in ("done", "failed", "lost"):
            self._sessions.labels(outcome)
        for verdict in CHECKS:
            self._checks.labels(verdict)
        for reason in ("died", "hung", "leaked", "reloaded"):
            self._restarts.labels(reason)
        Gauge("scanside_build_info", "Version of Scanside.", ["version"], registry=registry).labels(
            __version__
        ).set(1)
        registry.register(_Now(live, pool))
        ProcessCollector(registry=registry)

    def take(self, event: Event) -> None:
        """Count an event."""
        match event:
            case SessionStarted():
                self._waited.observe(event.waited_s)
            case SessionOpened():
                self._pipeline_of[event.session] = self._pipelines.label(event.pipeline)
            case Progress():
                self._count_readouts(event.session, event.n_readouts)
            case ImageMade():
                pipeline = self._pipeline_of.get(event.session, "")
                self._images.labels(pipeline).inc()
                self._image_seconds.labels(pipeline).observe(event.latency_ms / 1e3)
                if event.fallback is not None:
                    self._fallbacks.labels(classify(event.fallback)).inc()
                if (ghost := ghost_of(event.facts)) is not None:
                    self._ghosts.labels(pipeline).observe(ghost)
                if (check := check_of(event.facts)) is not None:
                    verdict, db = check
                    self._checks.labels(verdict).inc()
                    if db is not None:
                        self._check_db.observe(db)
            case StageRan():
                observe = self._stage_seconds.labels(self._stages.label(event.stage)).observe
                for _ in range(event.items):
                    observe(event.duration_ms / 1e3 / event.items)
            case Warned():
                self._warnings.inc()
            case SessionRefused():
                self._refused.labels(event.reason).inc()
            case SessionEnded():
                self._end(event)
            case WorkerReady():
                self._load_seconds.observe(event.seconds)
            case WorkerEnded() if event.reason != "stopped":
                self._restarts.labels(event.reason).inc()

    def _end(self, event: SessionEnded) -> None:
        self._count_readouts(event.session, event.n_readouts)
        self._readouts_of.pop(event.session, None)
        self._pipeline_of.pop(event.session, None)
        if event.outcome != "query":
            self._sessions.labels(event.outcome).inc()
            self._session_seconds.observe(event.seconds)

    def _count_readouts(self, session: str, n_readouts: int) -> None:
        before = self._readouts_of.get(session, 0)
        if n_readouts > before:
            self._readouts.inc(n_readouts - before)
            self._readouts_of[session] = n_readouts


class _Names:
    """The first few names as they are, all others as ``other``."""

    def __init__(self) -> None:
        self._known: set[str] = set()

    def label(self, name: str) -> str:
        if len(self._known) < _MOST_NAMES:
            self._known.add(name)
        return name if name in self._known else "other"


class _Now(Collector):
    """Gauges: how things are at the moment of asking."""

    def __init__(self, live: LiveState, pool: PoolState) -> None:
        self._live = live
        self._pool = pool

    def collect(self) -> Iterator[Metric]:
        workers = self._live.workers()
        yield _gauge("scanside_ready", "Whether sessions can be taken.", float(not self._pool.not_ready()))
        yield _gauge("scanside_queue_depth", "Connections that wait for a worker.", self._pool.queue_depth)
        yield _gauge("scanside_sessions_running", "Sessions that run.", self._live.count("running"))
        states = GaugeMetricFamily("scanside_workers", "Worker processes.", labels=["state"])
        for state in ("loading", "ready", "busy"):
            states.add_metric([state], sum(worker.state == state for worker in workers))
        yield states
        resident = GaugeMetricFamily(
            "scanside_worker_resident_memory_bytes",
            "Memory of a worker, engines included.",
            labels=["worker"],
        )
        gpu = GaugeMetricFamily(
            "scanside_worker_gpu_memory_bytes", "Memory of a worker on its GPU.", labels=["worker", "device"]
        )
        engines = GaugeMetricFamily(
            "scanside_engine_info",
            "Workers that hold an engine ready.",
            labels=["pipeline", "bundle", "backend", "precision", "weights"],
        )
        held: dict[tuple[str, ...], int] = {}
        for worker in workers:
            if (size := _resident_bytes(worker.pid)) is not None:
                resident.add_metric([str(worker.id)], size)
            if worker.gpu_bytes is not None:
                gpu.add_metric([str(worker.id), worker.device], worker.gpu_bytes)
            for pipeline, loaded in worker.pipelines.items():
                for engine in loaded:
                    told = (engine.get(key, "") for key in ("bundle", "backend", "precision", "weights"))
                    key = (pipeline, *told)
                    held[key] = held.get(key, 0) + 1
        for key, n in held.items():
            engines.add_metric(key, n)
        yield from (resident, gpu, engines)


def _gauge(name: str, text: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(name, text, value=value)


def _resident_bytes(pid: int) -> int | None:
    """What a process holds in memory, as Linux tells in ``/proc/PID/statm``; None if it is gone."""
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * _PAGE_BYTES
    except (OSError, ValueError, IndexError):
        return None
