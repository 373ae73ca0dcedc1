"""Where the time goes."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from scanside import trace as trace_module
from scanside.errors import StageError
from scanside.items import Image
from scanside.pipeline import Pipeline
from scanside.scan import Scan, ScanEnd
from scanside.stage import Stage
from scanside.testing import small_image, small_scan
from scanside.trace import StageTimes, Trace


class Clock:
    """A clock that only moves when it is told to, so that no other process can make anything take longer."""

    def __init__(self) -> None:
        self.now_ns = 0

    def __call__(self) -> int:
        return self.now_ns

    def spend(self, ms: int) -> None:
        self.now_ns += ms * 1_000_000


clock = Clock()


@pytest.fixture(autouse=True)
def _clock(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trace_module, "perf_counter_ns", clock)


def test_totals_and_quantiles() -> None:
    times = StageTimes()
    assert (times.n, times.total_ms, times.quantile_ms(0.5)) == (0, 0.0, 0.0)
    for value in np.random.default_rng(0).permutation(100):
        times.add(float(value))
    assert times.n == 100
    assert times.total_ms == sum(range(100))
    assert times.quantile_ms(0.5) == 50
    assert times.quantile_ms(0.99) == 99
    assert times.quantile_ms(0.0) == 0
    assert times.quantile_ms(1.0) == 99


def test_an_endless_series_needs_no_endless_memory() -> None:
    times = StageTimes()
    for _ in range(20_000):
        times.add(1.0)
    times.add(5.0)
    assert times.n == 20_001
    assert times.total_ms == 20_005
    assert len(times._latest_ms) == 10_000
    assert times.quantile_ms(1.0) == 5.0


class Slow(Stage[Image, Image]):
    """Takes 20 ms before each of two images, and 20 ms after them."""

    def process(self, item: Image) -> Iterator[Image]:
        for _ in range(2):
            clock.spend(20)
            yield item
        clock.spend(20)


class Slower(Stage[Image, Image]):
    def process(self, item: Image) -> Iterator[Image]:
        clock.spend(50)
        yield item


def test_a_stage_is_charged_for_its_own_time_only() -> None:
    trace = Trace()
    pipeline = Pipeline([Slow(), Slower()], input=[Image])
    with pipeline.open(small_scan(), trace) as run:
        for _ in run.push(small_image()):
            clock.spend(30)  # nor is the transport's time a stage's
        list(run.finish(ScanEnd()))
    slow, slower = trace.summary()
    assert (slow["stage"], slower["stage"]) == ("slow", "slower")
    assert slow["total_ms"] == 60
    assert slower["total_ms"] == 100
    # One item was processed; the second stage had two images. The end of the scan gave nothing.
    assert (slow["items"], slower["items"]) == (1, 2)
    assert slower["median_ms"] == 50


class AtTheEnd(Slower):
    """Holds its images back, and takes 20 ms at the end in any case."""

    def open(self, scan: Scan) -> None:
        self._held: list[Image] = []

    def process(self, item: Image) -> Iterator[Image]:
        self._held.append(item)
        return iter(())

    def finish(self, end: ScanEnd) -> Iterator[Image]:
        clock.spend(20)
        yield from self._held


@pytest.mark.parametrize(("n_images", "n_items"), [(0, 0), (1, 2), (2, 3)])
def test_the_end_is_an_item_where_it_gives_something(n_images: int, n_items: int) -> None:
    trace = Trace()
    with Pipeline([AtTheEnd()], input=[Image]).open(small_scan(), trace) as run:
        for _ in range(n_images):
            assert list(run.push(small_image())) == []
        assert len(list(run.finish(ScanEnd()))) == n_images
    (row,) = trace.summary()
    assert row["items"] == n_items
    assert row["total_ms"] == 20, "its time counts in any case"


def test_stages_are_listed_in_order_even_if_idle() -> None:
    trace = Trace()
    pipeline = Pipeline([Slower(), Slow()], input=[Image])
    with pipeline.open(small_scan(), trace):
        pass
    assert [(row["stage"], row["items"]) for row in trace.summary()] == [("slower", 0), ("slow", 0)]


def test_latency_of_an_image() -> None:
    trace = Trace()
    trace.arrived()
    clock.spend(10)
    trace.arrived()
    clock.spend(20)
    trace.image_left()
    assert trace.image_latency.n == 1
    assert trace.image_latency.total_ms == 20


def test_stage_at_work_is_known_while_it_works() -> None:
    seen: list[tuple[str, str | None]] = []
    trace = Trace()

    def look(where: str) -> None:
        seen.append((where, None if trace.working is None else trace.working[0]))

    class Looking(Stage[Image, Image]):
        def __init__(self, name: str, *, fails: bool = False) -> None:
            super().__init__()
            self.name, self.fails = name, fails

        def open(self, scan: Scan) -> None:
            look(f"{self.name} opens")

        def process(self, item: Image) -> Iterator[Image]:
            look(f"{self.name} before")
            if self.fails:
                raise ValueError("told to fail")
            yield item
            look(f"{self.name} after")

    pipeline = Pipeline([Looking("a"), Looking("b")], input=[Image], labels=["a", "b"])
    with pipeline.open(small_scan(), trace) as run:
        look("between")
        for _ in run.push(small_image()):
            look("outside")
    assert seen == [
        ("a opens", "a"),
        ("b opens", "b"),
        ("between", None),
        ("a before", "a"),
        ("b before", "b"),
        ("outside", None),
        ("b after", "b"),
        ("a after", "a"),
    ]
    failing = Pipeline([Looking("a"), Looking("b", fails=True)], input=[Image], labels=["a", "b"])
    with pytest.raises(StageError), failing.open(small_scan(), trace) as run:
        list(run.push(small_image()))
    assert trace.working is None
