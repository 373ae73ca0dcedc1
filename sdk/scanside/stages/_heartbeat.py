"""Triggers of the heart: where they are found, and which intervals between them can be beats."""

from __future__ import annotations

from collections.abc import Iterator
from statistics import median
from typing import Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from scanside.mrd.dtypes import TICK_MS, Headers
from scanside.mrd.readouts import Waveform

__all__ = ["Beats", "Clock", "Flaw", "StampTriggers", "WaveformTriggers"]

_DAY = int(24 * 3600e3 / TICK_MS)

Flaw: TypeAlias = Literal["short", "long"]
"""A false trigger makes an interval short, a missing one makes it long."""

_REMEMBERED = 9  # intervals whose median says how fast the heart beats
_ENOUGH = 3  # so many make a median
_SAME_MS = 20.0  # time stamps are coarse: triggers closer than this are one


class Clock:
    """The time stamps of one scan as times that go on at midnight, where scanners count from 0 again."""

    def __init__(self) -> None:
        self._first: int | None = None

    def ms(self, stamps: npt.ArrayLike) -> npt.NDArray[np.float64]:
        """Times in ms, after the midnight before the first stamp that was asked for.

        Args:
            stamps: ticks, of any shape.
        """
        ticks = np.asarray(stamps, np.int64)
        if self._first is None and ticks.size:
            self._first = int(ticks.flat[0])
        # No scan takes half a day: what looks so is a day later, or earlier.
        begun = (self._first or 0) - _DAY // 2
        return ((ticks - begun) % _DAY + begun).astype(np.float64) * TICK_MS


class WaveformTriggers:
    """Triggers in a waveform: where one of its channels rises above a threshold.

    Args:
        channel: which channel; −1 is the last, where scanners put trigger marks.
        threshold: see above.
        clock: of the scan.

    Attributes:
        covered_ms: up to when the waveform has come, by the clock of the time stamps.
    """

    def __init__(self, channel: int, threshold: int, clock: Clock) -> None:
        self._channel = channel
        self._threshold = threshold
        self._clock = clock
        self._high = False
        self.covered_ms = -np.inf

    def find(self, waveform: Waveform) -> Iterator[float]:
        """Times of the triggers in the next piece, in ms."""
        high = waveform.data[self._channel] > self._threshold
        rises = high & ~np.concatenate([[self._high], high[:-1]])
        sample_ms = float(waveform.header["sample_time_us"]) / 1e3
        begun = float(self._clock.ms(waveform.header["time_stamp"]))
        yield from (begun + np.flatnonzero(rises) * sample_ms).tolist()
        self._high = bool(high[-1]) if len(high) else self._high
        self.covered_ms = begun + len(high) * sample_ms


class StampTriggers:
    """Triggers in the physiology time stamps of readouts, which count from the last trigger on.

    Args:
        clock: of the scan.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._stamp = 0

    def find(self, headers: Headers) -> Iterator[float]:
        """Times of the triggers that the next readouts ``(n,)`` tell of, in ms."""
        stamps = headers["physiology_time_stamp"][:, 0].astype(np.int64)
        before = np.concatenate([[self._stamp], stamps[:-1]])
        begun = (stamps < before) | ((before == 0) & (stamps > 0))
        self._stamp = int(stamps[-1]) if len(stamps) else self._stamp
        times = headers["acquisition_time_stamp"].astype(np.int64) - stamps
        yield from self._clock.ms(times[begun]).tolist()


class Beats:
    """The beats of a heart, and which of them are none.

    An interval is no beat where it is shorter or longer than any heart's, or than this heart's by more than a
    tolerance. How fast this heart beats is the median of the latest intervals that any heart may have: one false
    trigger does not change it, and a heart that becomes faster is followed.

    Args:
        limits_ms: shortest and longest interval.
        tolerance: largest deviation from the median, as a part of it.

    Attributes:
        triggers_ms: times of the triggers, ascending.
        flaws: for every interval between two triggers in what way it is no beat, or None.
    """

    def __init__(self, limits_ms: tuple[float, float], tolerance: float) -> None:
        self._limits = limits_ms
        self._tolerance = tolerance
        self._latest: list[float] = []
        self.triggers_ms: list[float] = []
        self.flaws: list[Flaw | None] = []

    @property
    def usual_ms(self) -> float | None:
        """The median interval; None before there are any."""
        return median(self._latest) if self._latest else None

    def judge(self, interval_ms: float) -> Flaw | None:
        """In what way an interval is no beat, or None."""
        shortest, longest = self._limits
        usual = self.usual_ms
        if usual is not None and len(self._latest) >= _ENOUGH:
            shortest = max(shortest, (1 - self._tolerance) * usual)
            longest = min(longest, (1 + self._tolerance) * usual)
        if interval_ms < shortest:
            return "short"
        return "long" if interval_ms > longest else None

    def add(self, time_ms: float, *, refuse_early: bool = False) -> Flaw | None:
        """A trigger.

        Args:
            time_ms: its time; one that is not later than the last is none.
            refuse_early: do not take it if it comes too early.

        Returns:
            What is wrong with the interval that it ends, or None.
        """
        if not self.triggers_ms:
            self.triggers_ms.append(time_ms)
            return None
        interval = time_ms - self.triggers_ms[-1]
        if interval < _SAME_MS:
            return None
        flaw = self.judge(interval)
        if flaw == "short" and refuse_early:
            return flaw
        if self._limits[0] <= interval <= self._limits[1]:
            self._latest = [*self._latest[1 - _REMEMBERED :], interval]
        self.triggers_ms.append(time_ms)
        self.flaws.append(flaw)
        return flaw

    def of(self, times_ms: npt.NDArray[np.float64]) -> npt.NDArray[np.intp]:
        """Number of the last trigger up to each time; −1 before the first."""
        return np.searchsorted(np.asarray(self.triggers_ms), times_ms, side="right") - 1
