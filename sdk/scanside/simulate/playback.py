"""Playing a stream at the pace of the scanner."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Literal

import numpy as np

from scanside.mrd.dtypes import TICK_MS
from scanside.mrd.readouts import Readouts, Waveform

__all__ = ["Speed", "play"]

Speed = Literal["max", "realtime"] | float


def play(
    items: Iterable[Readouts | Waveform],
    speed: Speed = "realtime",
    *,
    longest_wait_s: float = 10.0,
    cancel: threading.Event | None = None,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], object] | None = None,
) -> Iterator[Readouts | Waveform]:
    """Hand on a stream as its time stamps (2.5 ms units) ask for.

    Readouts come one time stamp at a time: blocks are cut where the stamp changes. An item is held back until its
    time has come, never dropped; a consumer that is too slow gets the late items at once. Longer pauses are cut
    short, and a stamp that runs backwards (another scan, midnight) starts the clock anew.

    Args:
        items: the stream.
        speed: ``max`` hands everything on as it is, ``realtime`` keeps the scanner's pace, a number is a factor
            to it: 2 plays twice as fast.
        longest_wait_s: upper bound of a single wait.
        cancel: ends the stream when set, also in the middle of a wait.
        clock: seconds that never run backwards.
        sleep: waits for some seconds; default is to wait for `cancel`.

    Raises:
        ValueError: `speed` is neither of the names nor a positive, finite number.
    """
    factor = _factor(speed)
    stop = cancel if cancel is not None else threading.Event()
    return _paced(items, factor, longest_wait_s, stop, clock, sleep if sleep is not None else stop.wait)


def _paced(
    items: Iterable[Readouts | Waveform],
    factor: float,
    longest_wait_s: float,
    stop: threading.Event,
    clock: Callable[[], float],
    sleep: Callable[[float], object],
) -> Iterator[Readouts | Waveform]:
    pieces = items if math.isinf(factor) else (piece for item in items for piece in _by_time(item))
    due: float | None = None
    previous = 0
    for piece in pieces:
        if not math.isinf(factor):
            stamp = _release_tick(piece)
            if due is None or stamp < previous:
                due = clock()
            else:
                due += min((stamp - previous) * TICK_MS / 1e3 / factor, longest_wait_s)
            previous = stamp
            while (left := due - clock()) > 0 and not stop.is_set():
                sleep(left)
        if stop.is_set():
            return
        yield piece


def _factor(speed: Speed) -> float:
    if speed == "max":
        return math.inf
    factor = 1.0 if speed == "realtime" else float(speed)
    if not 0 < factor < math.inf:
        raise ValueError(f"speed is 'max', 'realtime' or a positive number, got {speed!r}")
    return factor


def _by_time(item: Readouts | Waveform) -> Iterator[Readouts | Waveform]:
    if isinstance(item, Waveform):
        yield item
        return
    cuts = np.flatnonzero(np.diff(item.headers["acquisition_time_stamp"].astype(np.int64))) + 1
    for start, end in zip([0, *cuts], [*cuts, len(item)], strict=True):
        yield item.select(slice(int(start), int(end)))


def _release_tick(item: Readouts | Waveform) -> int:
    """When the scanner could have sent an item: a waveform is complete only with its last sample."""
    if isinstance(item, Readouts):
        return int(item.headers["acquisition_time_stamp"][0])
    length_ms = int(item.header["number_of_samples"]) * float(item.header["sample_time_us"]) / 1e3
    return int(item.header["time_stamp"]) + math.ceil(length_ms / TICK_MS)
