"""Where the time goes: a latency trace per stage.

Time that a stage spends waiting for a later stage does not count for it: stages are generators that are asked
for one item at a time, and only the time inside a stage's own code is booked on it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from time import perf_counter_ns

__all__ = ["StageTimes", "Trace"]


_KEPT = 10_000  # latest durations kept for quantiles, so that an endless series needs no endless memory


class StageTimes:
    """Times of one stage: totals over everything, quantiles over the latest items.

    Attributes:
        n: how many items.
        total_ms: sum over all items and what came between and after them, in ms.
    """

    def __init__(self) -> None:
        self.n = 0
        self.total_ms = 0.0
        self._latest_ms: deque[float] = deque(maxlen=_KEPT)

    def add(self, duration_ms: float, *, item: bool = True) -> None:
        """Book the time of one item; or, if it is none, time that counts for the total only."""
        self.total_ms += duration_ms
        if not item:
            return
        self.n += 1
        self._latest_ms.append(duration_ms)

    def quantile_ms(self, q: float) -> float:
        """Quantile of the time per item in ms, 0 ≤ q ≤ 1, nearest rank; 0 without items."""
        if not self._latest_ms:
            return 0.0
        ordered = sorted(self._latest_ms)
        return ordered[min(len(ordered) - 1, int(q * len(ordered)))]


class Trace:
    """Collects the times of a run; one per scan, written by one thread.

    Attributes:
        stages: times by stage name, in the order of the pipeline.
        image_latency: for each image, from the arrival of the item that completed it until it left.
        working: the stage whose code runs at this moment and since when, by `time.perf_counter_ns`; None between
            two stages. A watchdog reads it from another thread.
    """

    def __init__(self) -> None:
        self.stages: dict[str, StageTimes] = {}
        self.image_latency = StageTimes()
        self.working: tuple[str, int] | None = None
        self._arrived_ns = 0

    def begin(self, stages: Iterable[str]) -> None:
        """Name the stages, so that they are listed in their order."""
        for name in stages:
            self.stages[name] = StageTimes()

    def enter(self, stage: str) -> int:
        """A stage's code begins to run; gives the time."""
        begun = perf_counter_ns()
        self.working = stage, begun
        return begun

    def leave(self, begun: int) -> int:
        """The stage's code gave something or is done; gives how long it ran, in ns."""
        self.working = None
        return perf_counter_ns() - begun

    def add(self, stage: str, duration_ns: int, *, item: bool = True) -> None:
        """Book a duration on a stage, as a new item or as a part of the total only."""
        self.stages[stage].add(duration_ns / 1e6, item=item)

    def arrived(self) -> None:
        """An item came off the transport."""
        self._arrived_ns = perf_counter_ns()

    def image_left(self) -> None:
        """An image went to the transport."""
        self.image_latency.add((perf_counter_ns() - self._arrived_ns) / 1e6)

    def summary(self) -> list[dict[str, float | int | str]]:
        """One row per stage: name, items, total, median and 99th percentile in ms."""
        return [
            {
                "stage": name,
                "items": times.n,
                "total_ms": times.total_ms,
                "median_ms": times.quantile_ms(0.5),
                "p99_ms": times.quantile_ms(0.99),
            }
            for name, times in self.stages.items()
        ]
