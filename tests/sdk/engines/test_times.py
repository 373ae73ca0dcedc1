"""Times of engines: taken against each other, kept, and taken again when they cannot be relied on."""

from __future__ import annotations

import fcntl
import logging
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from scanside.engines import times as module
from scanside.engines.cache import CacheEntry, EngineCache, EngineKey
from scanside.engines.choice import Candidate
from scanside.engines.manifest import AcceptanceReport, Check
from scanside.engines.taken_times import Times
from scanside.engines.times import Runners, Timekeeper, kept_times
from scanside.engines.timing import Timed
from scanside.errors import EngineError


def candidate(name: str, *, passed: bool = True) -> Candidate:
    key = EngineKey(
        weights_sha256="w",
        graph_sha256="g",
        shape=(8, 6),
        precision="fp32",
        backend=name,
        versions={},
        hardware="cpu",
    )
    report = AcceptanceReport.model_construct(
        backend=name, checks=(Check(name="runs", passed=passed),), median_ms=31_931.0
    )
    return Candidate(name, "fp32", CacheEntry(key, report, Path("nowhere")))


EAGER, OPENVINO, ONNX = (candidate(name) for name in ("eager", "openvino", "onnxruntime"))


class Bench:
    """Engines that take known times, on a machine that is as busy as it is told."""

    def __init__(self, cache: EngineCache, monkeypatch: pytest.MonkeyPatch) -> None:
        self.busy: float | None = 0.0
        self.ms = {"eager": 60.0, "openvino": 12.0, "onnxruntime": 20.0}
        self.broken = ""
        self.n = 0
        self.cache = cache
        self._names: dict[str, str] = {}
        monkeypatch.setattr(module, "time_in_turn", self._time)
        monkeypatch.setattr(module, "read_check", lambda _: SimpleNamespace(inputs=()))

    def times(self, *candidates: Candidate, measure: bool = True) -> Times | None:
        """As a new process."""
        manifest = SimpleNamespace(weights_sha256="w")
        source: Any = SimpleNamespace(shape=(8, 6), n_coils=None, bundle=SimpleNamespace(manifest=manifest))
        runners: Any = Runners(source)
        runners.load = self._load
        return Timekeeper(runners, self.cache).times(candidates, measure=measure)

    def _load(self, entry: CacheEntry) -> str:
        if entry.key.backend == self.broken:
            raise EngineError("damaged")
        self._names[entry.key.digest] = entry.key.backend
        return entry.key.backend

    def _time(self, calls: Mapping[str, Callable[[], object]]) -> dict[str, Timed]:
        self.n += 1
        return {name: Timed(self.ms[self._names[name]], self.busy) for name in calls}


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    return Bench(EngineCache(tmp_path / "engines"), monkeypatch)


def test_taken_once_for_the_same_engines(bench: Bench) -> None:
    first = bench.times(EAGER, OPENVINO)
    assert first is not None
    assert [str(one) for one in first.engines] == ["eager fp32 60.0 ms", "openvino fp32 12.0 ms"]
    assert bench.times(OPENVINO, EAGER) == first
    assert bench.n == 1
    assert kept_times(bench.cache) == [first]


def test_nothing_is_timed_while_a_scan_waits(bench: Bench) -> None:
    assert bench.times(EAGER, OPENVINO, measure=False) is None
    bench.busy = 0.5
    busy = bench.times(EAGER, OPENVINO)
    assert bench.times(EAGER, OPENVINO, measure=False) == busy
    assert bench.n == 1


@pytest.mark.parametrize("others", [(), (candidate("onnxruntime", passed=False),)])
def test_one_engine_is_no_choice(bench: Bench, others: tuple[Candidate, ...]) -> None:
    assert bench.times(EAGER, *others) is None
    assert bench.n == 0


def test_another_engine_or_number_of_threads(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    bench.times(EAGER, OPENVINO)
    three = bench.times(EAGER, OPENVINO, ONNX)
    assert three is not None
    assert len(three.engines) == 3
    monkeypatch.setattr(torch, "get_num_threads", lambda: 77)
    more = bench.times(EAGER, OPENVINO)
    assert more is not None
    assert more.threads == 77
    assert bench.n == 3


def test_times_of_a_busy_machine_are_taken_again(bench: Bench) -> None:
    bench.busy, bench.ms["openvino"] = 2.0, 31_931.0
    first = bench.times(EAGER, OPENVINO)
    assert first is not None
    assert len(first.busy) == 2
    bench.busy, bench.ms["openvino"] = 0.01, 12.0
    second = bench.times(EAGER, OPENVINO)
    assert second is not None
    assert second.busy == ()
    assert [one.ms for one in second.engines] == [60.0, 12.0]
    bench.ms["openvino"] = 31_931.0
    assert bench.times(EAGER, OPENVINO) == second, "quiet ones are good"
    assert bench.n == 2


def test_of_two_busy_times_the_less_busy_stays(bench: Bench) -> None:
    bench.busy = 0.3
    first = bench.times(EAGER, OPENVINO)
    bench.busy = 0.6
    assert bench.times(EAGER, OPENVINO) == first
    bench.busy = 0.2
    assert bench.times(EAGER, OPENVINO) != first
    assert bench.n == 3


def test_others_that_are_at_it_are_waited_for_but_not_for_ever(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(module, "_PATIENCE_S", 0.0)
    with bench.cache.alone("times", 0.0) as alone:
        assert alone
        assert bench.times(EAGER, OPENVINO) is None
    assert bench.n == 0
    assert "engines are not timed now" in caplog.text
    assert bench.times(EAGER, OPENVINO) is not None


def test_times_that_another_process_took_meanwhile(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    flock = fcntl.flock

    def after_another(*args: Any) -> None:
        monkeypatch.setattr(fcntl, "flock", flock)
        assert bench.times(EAGER, OPENVINO) is not None
        flock(*args)

    monkeypatch.setattr(fcntl, "flock", after_another)
    assert bench.times(EAGER, OPENVINO) is not None
    assert bench.n == 1


def test_engine_that_cannot_be_loaded(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    bench.broken = "openvino"
    times = bench.times(EAGER, OPENVINO)
    assert times is not None
    assert [one.backend for one in times.engines] == ["eager"]
    assert "engine openvino fp32 is not timed: damaged" in caplog.text


def test_damaged_times_are_taken_again(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    first = bench.times(EAGER, OPENVINO)
    (path,) = (bench.cache.folder / ".times").iterdir()
    path.write_text('{"engines": []}')
    assert kept_times(bench.cache) == []
    second = bench.times(EAGER, OPENVINO)
    assert first is not None
    assert second is not None
    assert replace_created(second) == replace_created(first)
    assert "engines are timed again" in caplog.text


def replace_created(times: Times) -> Times:
    return times.model_copy(update={"created": None})


def test_a_cache_that_cannot_be_written(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    """Then a process keeps them for itself."""
    caplog.set_level(logging.WARNING)
    bench.cache.folder.parent.mkdir(exist_ok=True)
    bench.cache.folder.write_text("no folder")
    one = replace(
        EAGER, entry=replace(EAGER.entry, key=EAGER.entry.key.model_copy(update={"hardware": "no folder"}))
    )  # type: ignore[type-var,union-attr]
    first = bench.times(one, OPENVINO)
    assert first is not None
    assert bench.times(one, OPENVINO) == first
    assert bench.n == 1
    assert "the engine cache" in caplog.text
