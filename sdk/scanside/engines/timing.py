"""Times of calls that are compared: each in turn, several rounds, and of each the lowest median."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeVar

from scanside.engines.busy import Waiting

__all__ = ["QUIET", "REACH", "Timed", "calls_in_turn", "time_in_turn"]

QUIET = 0.1
"""Largest share of a turn that is lost to other work on a machine that counts as quiet."""

REACH = 2.0
"""How many times the fastest time a slower one may be and still be worth another look."""

_LOOKS, _ROUNDS, _MOST_ROUNDS = 2, 3, 8
_TURN_S = 0.1
_MOST_CALLS = 7
_LONGEST_S = 10.0
_ROUNDS_OF_CALLS, _CALLS, _LONGEST_CALLS_S = 5, 3, 3.0
_COLD_S = 0.2  # a call that takes longer does not notice that another engine ran before it

T = TypeVar("T")


@dataclass(frozen=True)
class Timed:
    """What is known of the time of a call.

    Attributes:
        ms: the lowest of the medians of its turns.
        busy: share of the time that other work took, in the quietest of its turns; None where the system does not
            tell.
    """

    ms: float
    busy: float | None

    @property
    def quiet(self) -> bool:
        """Whether nothing else was in its way. Where the system does not tell, that is believed."""
        return self.busy is None or self.busy <= QUIET


def time_in_turn(
    calls: Mapping[T, Callable[[], object]],
    *,
    longest_s: float = _LONGEST_S,
    waiting: Callable[[], Waiting] = Waiting,
) -> dict[T, Timed]:
    """Time calls against each other.

    Whatever else the machine does meets all of them alike. Each gets two turns, those within reach of the fastest get
    three, and more while other work is in the way.

    Args:
        calls: that have been made once before, so that none of them finds code and memory cold.
        longest_s: no turn is begun later, except everyone's first.
        waiting: tells how busy the machine is, see `scanside.engines.busy`.
    """
    turns: dict[T, list[Timed]] = {name: [] for name in calls}
    begun = time.perf_counter()
    for n in range(_MOST_ROUNDS):
        for name, call in calls.items():
            if n and time.perf_counter() - begun > longest_s:
                return {name: _best(own) for name, own in turns.items()}
            if n == 0 or _in_reach(name, turns):
                turns[name].append(_turn(call, waiting()))
        wanted = [own for name, own in turns.items() if _in_reach(name, turns)]
        if n + 1 >= _ROUNDS and all(_best(own).quiet for own in wanted):
            break
    return {name: _best(own) for name, own in turns.items()}


def _in_reach(name: T, turns: Mapping[T, list[Timed]]) -> bool:
    fastest = min(one.ms for all_of_one in turns.values() for one in all_of_one)
    return len(turns[name]) < _LOOKS or _best(turns[name]).ms <= REACH * fastest


def _best(turns: list[Timed]) -> Timed:
    known = [one.busy for one in turns if one.busy is not None]
    return Timed(min(one.ms for one in turns), min(known, default=None))


def _turn(call: Callable[[], object], waiting: Waiting) -> Timed:
    """The median of as many calls as fit into a turn."""
    times = [_seconds(call)]
    if times[0] < _COLD_S:
        fit = int(_TURN_S / max(times[0], 1e-6))
        times = [_seconds(call) for _ in range(min(max(fit, 1), _MOST_CALLS))]
    return Timed(1e3 * statistics.median(times), waiting.share())


def _seconds(call: Callable[[], object]) -> float:
    begun = time.perf_counter()
    call()
    return time.perf_counter() - begun


def calls_in_turn(calls: Mapping[T, Callable[[], object]]) -> dict[T, list[float]]:
    """Times in ms of all calls, in several rounds of a few calls each, so that nothing meets one of them alone.

    Args:
        calls: any that take longer get fewer rounds.
    """
    times: dict[T, list[float]] = {name: [] for name in calls}
    for _ in range(_ROUNDS_OF_CALLS):
        for name, call in calls.items():
            if sum(times[name]) < 1e3 * _LONGEST_CALLS_S:
                call()  # this one finds code and memory cold
                times[name] += [1e3 * _seconds(call) for _ in range(_CALLS)]
    return times
