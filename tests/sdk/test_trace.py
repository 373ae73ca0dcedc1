"""Where the time goes."""

from __future__ import annotations

from collections.abc import Iterator
from time import sleep

import numpy as np
import pytest

from scanside.items import Image
from scanside.pipeline import Pipeline
from scanside.scan import ScanEnd
from scanside.stage import Stage
from scanside.testing import small_image, small_scan
from scanside.trace import StageTimes, Trace


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
            sleep(0.02)
            yield item
        sleep(0.02)


class Slower(Stage[Image, Image]):
    def process(self, item: Image) -> Iterator[Image]:
        sleep(0.05)
        yield item


def test_a_stage_is_charged_for_its_own_time_only() -> None:
    trace = Trace()
    pipeline = Pipeline([Slow(), Slower()], input=[Image])
    with pipeline.open(small_scan(), trace) as run:
        for _ in run.push(small_image()):
            sleep(0.03)  # nor is the transport's time a stage's
        list(run.finish(ScanEnd()))
    slow, slower = trace.summary()
    assert (slow["stage"], slower["stage"]) == ("slow", "slower")
    assert slow["total_ms"] == pytest.approx(60, abs=25)
    assert slower["total_ms"] == pytest.approx(100, abs=25)
    # One item was processed and the end of the scan; the second stage had two images and the end.
    assert (slow["items"], slower["items"]) == (2, 3)


def test_stages_are_listed_in_order_even_if_idle() -> None:
    trace = Trace()
    pipeline = Pipeline([Slower(), Slow()], input=[Image])
    with pipeline.open(small_scan(), trace):
        pass
    assert [(row["stage"], row["items"]) for row in trace.summary()] == [("slower", 0), ("slow", 0)]


def test_latency_of_an_image() -> None:
    trace = Trace()
    trace.arrived()
    sleep(0.01)
    trace.arrived()
    sleep(0.02)
    trace.image_left()
    assert trace.image_latency.n == 1
    assert 20 <= trace.image_latency.total_ms < 60
