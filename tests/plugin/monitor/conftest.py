"""A pool that only plays events, and what tests of the live page need beside it."""

from __future__ import annotations

import http.client
import importlib.util
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic, sleep, time
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import pytest

from scanside_gadgetron.monitor import MonitorConfig, start_monitor
from scanside_gadgetron.pool import events

NOW = time()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    missing = [
        name for name in ("starlette", "uvicorn", "prometheus_client") if not importlib.util.find_spec(name)
    ]
    for item in items:
        # Those that run without torch run without a web server too.
        if (
            missing
            and Path(__file__).parent in item.path.parents
            and not item.get_closest_marker("torch_free")
        ):
            item.add_marker(
                pytest.mark.skip(reason=f"needs {', '.join(missing)}: pip install 'scanside[server]'")
            )


@dataclass
class PlayedPool:
    """Tells what a test has it tell."""

    queue_depth: int = 0
    reason: str = ""
    listeners: list[Callable[[events.Event], None]] = field(default_factory=list)

    def subscribe(self, listener: Callable[[events.Event], None]) -> None:
        self.listeners.append(listener)

    def not_ready(self) -> str:
        return self.reason

    def tell(self, *told: events.Event) -> None:
        for event in told:
            for listener in self.listeners:
                listener(event)


@dataclass
class Shown:
    """A running monitor and the pool that it watches."""

    monitor: Any
    pool: PlayedPool

    def get(
        self, path: str, headers: dict[str, str] | None = None
    ) -> tuple[int, http.client.HTTPMessage, bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self.monitor.port, timeout=300)
        try:
            connection.request("GET", path, headers=headers or {})
            answer = connection.getresponse()
            return answer.status, answer.headers, answer.read()
        finally:
            connection.close()

    def put(self, session: str, name: str, array: npt.NDArray[Any]) -> str:
        """Put a picture where a worker would; gives its name."""
        folder = self.monitor.session_folder(session)
        folder.mkdir(exist_ok=True)
        np.save(folder / name, array)
        return name

    def settle(self, session: str, revision_of: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """The detail of a session once something holds of it."""

        def found() -> dict[str, Any] | None:
            status, _, body = self.get(f"/api/sessions/{session}")
            detail = json.loads(body) if status == 200 else None
            return detail if detail is not None and revision_of(detail) else None

        return until(found)


def until(get: Callable[[], Any], seconds: float = 300) -> Any:
    """What a function gives once that is true."""
    deadline = monotonic() + seconds
    while not (value := get()):
        assert monotonic() < deadline, "it did not happen in time"
        sleep(0.02)
    return value


@pytest.fixture
def show(tmp_path: Path) -> Iterator[Callable[..., Shown]]:
    """Starts monitors, with settings, and stops them."""
    started = []

    def start(**settings: Any) -> Shown:
        pool = PlayedPool()
        config = MonitorConfig(**{"port": 0, "folder": tmp_path / "live", **settings})
        monitor = start_monitor(pool.subscribe, pool, config)
        started.append(monitor)
        return Shown(monitor, pool)

    yield start
    for monitor in started:
        monitor.stop()


class Story:
    """Events as a pool tells them."""

    NOW = NOW
    AXIAL: ClassVar[dict[str, list[float]]] = {
        "position": [0.0, 0.0, 10.0],
        "read_dir": [1.0, 0.0, 0.0],
        "phase_dir": [0.0, 1.0, 0.0],
        "slice_dir": [0.0, 0.0, 1.0],
        "field_of_view": [240.0, 210.0, 3.0],
    }

    def worker_ready(self, number: int = 0, pid: int = 1) -> list[events.Event]:
        engine = {"bundle": "student 1.0", "backend": "openvino", "precision": "fp32", "weights": "ab" * 32}
        pipelines = {"student": [engine], "grappa": []}
        return [
            events.WorkerStarted(time=NOW, worker=number, pid=pid, device="cpu"),
            events.WorkerReady(time=NOW + 2, worker=number, seconds=2.0, pipelines=pipelines),
        ]

    def opened(
        self,
        session: str = "s1",
        *,
        pipeline: str = "student",
        worker: int = 0,
        start: float = NOW,
        **scan: Any,
    ) -> list[events.Event]:
        stages = ["noise", "oversampling", "accumulate", "engine", "finish"]
        facts = {
            "protocol": "t2_tse_tra",
            "matrix": [256, 224, 1],
            "field_of_view_mm": [240.0, 210.0, 3.0],
            "n_coils": 12,
            "acceleration": [3, 1],
            **scan,
        }
        peer = "127.0.0.1:40000"
        return [
            events.SessionQueued(time=start, session=session, peer=peer, depth=1),
            events.SessionStarted(time=start + 0.5, session=session, worker=worker, peer=peer, waited_s=0.5),
            events.SessionOpened(
                time=start + 1, session=session, pipeline=pipeline, stages=stages, scan=facts
            ),
        ]

    def image(self, index: int = 0, file: str = "", session: str = "s1", **more: Any) -> events.ImageMade:
        facts = {"image_series_index": 1, "image_type": "magnitude", "slice": index, **self.AXIAL}
        facts |= more.pop("facts", {})
        told = {"time": NOW + 2 + index, "latency_ms": 12.5, **more}
        return events.ImageMade(session=session, index=index, file=file, facts=facts, **told)

    def progress(self, n_readouts: int, n_images: int = 0, session: str = "s1") -> events.Progress:
        return events.Progress(
            time=NOW + 3, session=session, n_readouts=n_readouts, n_images=n_images, expected_readouts=200
        )

    def stage(
        self, stage: str, begin: float, ms: float, items: int = 1, session: str = "s1"
    ) -> events.StageRan:
        return events.StageRan(
            time=NOW + 3, session=session, stage=stage, begin=begin, duration_ms=ms, items=items
        )

    def ended(self, session: str = "s1", outcome: str = "done", **more: Any) -> events.SessionEnded:
        told = {"n_readouts": 100, "n_images": 1, "seconds": 4.0, "time": NOW + 9, **more}
        return events.SessionEnded.model_validate({"session": session, "outcome": outcome, **told})


@pytest.fixture
def story() -> Story:
    return Story()
