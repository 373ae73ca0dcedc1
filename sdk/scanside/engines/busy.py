"""How much of some time this process waited for processors that others had, as far as the system tells."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import NamedTuple

__all__ = ["Waiting"]

_TASKS = Path("/proc/self/task")
_STAT = Path("/proc/stat")
_STEAL = 7
_USED = (0, 1, 2, 5, 6)  # user, nice, system, irq, softirq: all that is neither idle nor stolen


class _Reading(NamedTuple):
    """Seconds since some time in the past."""

    clock: float
    own: float
    delayed: float
    used: float
    stolen: float


class Waiting:
    """Looks when it is made, and at each `share`.

    The threads of a process wait for one another too; that they had to wait for others is believed only as far as
    others used the processors meanwhile. What the machine's host took from it counts fully.

    Attributes:
        known: whether this system tells at all.
    """

    def __init__(self) -> None:
        self._before = _read()
        self.known = self._before is not None

    def share(self) -> float | None:
        """Seconds waited for every second since it was made, 0 on a quiet machine; None where nothing is known."""
        before, now = self._before, _read()
        if before is None or now is None:
            return None
        passed = max(now.clock - before.clock, 1e-6)
        others = max((now.used - before.used) - (now.own - before.own), 0.0)
        waited = min(max(now.delayed - before.delayed, 0.0), others)
        return (waited + max(now.stolen - before.stolen, 0.0)) / passed


def _read() -> _Reading | None:
    try:
        fields = [int(field) for field in _STAT.read_text(encoding="ascii").splitlines()[0].split()[1:]]
        used, stolen = sum(fields[i] for i in _USED), fields[_STEAL]
        delayed = sum(_delay(task) for task in _TASKS.iterdir())
    except (OSError, ValueError, IndexError):
        return None
    tick = os.sysconf("SC_CLK_TCK")
    return _Reading(time.perf_counter(), time.process_time(), delayed / 1e9, used / tick, stolen / tick)


def _delay(task: Path) -> int:
    """Nanoseconds that a thread was ready to run and did not."""
    try:
        return int((task / "schedstat").read_text(encoding="ascii").split()[1])
    except FileNotFoundError:
        if task.exists():
            raise  # this system does not tell
        return 0  # it has just ended
