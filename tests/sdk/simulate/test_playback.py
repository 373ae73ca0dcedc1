"""Playback against a clock that the test turns."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import numpy as np
import pytest

from scanside.mrd.dtypes import WAVEFORM_HEADER
from scanside.mrd.readouts import Readouts, Waveform
from scanside.simulate.playback import play

pytestmark = pytest.mark.torch_free


class Clock:
    """Time that passes only while somebody sleeps."""

    def __init__(self) -> None:
        self.now = 50.0
        self.slept: list[float] = []

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds


def block(*stamps: int) -> Readouts:
    headers = Readouts.empty_headers(len(stamps))
    headers["acquisition_time_stamp"] = stamps
    headers["scan_counter"] = np.arange(len(stamps))
    return Readouts(headers, np.zeros((len(stamps), 1, 4), np.complex64))


def waveform(stamp: int, n_samples: int) -> Waveform:
    header = np.zeros(1, WAVEFORM_HEADER)[0]
    header["time_stamp"], header["number_of_samples"], header["sample_time_us"] = stamp, n_samples, 2500.0
    return Waveform(header, np.zeros((1, n_samples), np.uint32))


def released(items: list[Readouts | Waveform], speed: float | str) -> list[tuple[float, int]]:
    clock = Clock()
    stream = play(items, speed, clock=clock, sleep=clock.sleep)  # type: ignore[arg-type]
    return [(clock.now - 50.0, len(item) if isinstance(item, Readouts) else -1) for item in stream]


@pytest.mark.parametrize(("speed", "factor"), [("realtime", 1.0), (2.0, 2.0), (0.5, 0.5)])
def test_items_come_at_their_time(speed: float | str, factor: float) -> None:
    items: list[Readouts | Waveform] = [block(1000, 1002, 1002, 1010), waveform(1000, 20), block(1040)]
    times = released(items, speed)
    assert [count for _, count in times] == [1, 2, 1, -1, 1]
    expected = np.array([0.0, 0.005, 0.025, 0.05, 0.1]) / factor
    np.testing.assert_allclose([at for at, _ in times], expected, atol=1e-9)


def test_at_full_speed_blocks_pass_untouched() -> None:
    items = [block(1, 500, 900), block(2000)]
    clock = Clock()
    assert all(a is b for a, b in zip(play(items, "max", clock=clock, sleep=clock.sleep), items, strict=True))
    assert clock.slept == []


def test_a_slow_consumer_gets_late_items_at_once() -> None:
    clock = Clock()
    stream = play([block(0, 40, 80, 400)], "realtime", clock=clock, sleep=clock.sleep)
    next(stream)
    clock.now += 0.5
    next(stream)
    next(stream)
    assert clock.slept == []
    next(stream)
    assert clock.now == pytest.approx(51.0)


def test_long_pauses_are_cut_and_time_may_restart() -> None:
    clock = Clock()
    stream = play([block(0), block(400_000), block(3)], longest_wait_s=2.0, clock=clock, sleep=clock.sleep)
    assert len(list(stream)) == 3
    assert sum(clock.slept) == pytest.approx(2.0)


def test_cancelling_ends_a_wait() -> None:
    cancel = threading.Event()
    taken = 0

    def source() -> Iterator[Readouts]:
        nonlocal taken
        for n in range(100):
            taken += 1
            yield block(n * 4000)

    stream = play(source(), "realtime", cancel=cancel)
    next(stream)
    threading.Timer(0.05, cancel.set).start()
    assert list(stream) == []
    assert taken == 2


@pytest.mark.parametrize("speed", [0.0, -1.0, float("nan"), float("inf"), "fast"])
def test_impossible_speeds_are_refused_at_once(speed: float | str) -> None:
    with pytest.raises(ValueError, match=r"speed|convert"):
        play([], speed)  # type: ignore[arg-type]
