"""Calls that are timed against each other."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import pytest

from scanside.engines import timing
from scanside.engines.busy import Waiting
from scanside.engines.timing import Timed, calls_in_turn, time_in_turn


class Machine:
    """Calls whose times are known, by a clock that only they move."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, busy: Iterable[float | None] = ()) -> None:
        self.now = 0.0
        self.called: list[str] = []
        self._busy = iter(busy)
        monkeypatch.setattr(timing.time, "perf_counter", lambda: self.now)

    def call(
        self, name: str, ms: float, slow_at: tuple[int, ...] = (), slow: float = 60.0
    ) -> Callable[[], None]:
        """One that takes so long, at some of its calls (from 0) so many times as long."""

        def run() -> None:
            n = self.called.count(name)
            self.called.append(name)
            self.now += 1e-3 * ms * (slow if n in slow_at else 1)

        return run

    def waiting(self) -> Waiting:
        """Tells what it was given for each turn, then that it is quiet."""
        share = next(self._busy, 0.0)
        waiting = Waiting()
        waiting.share = lambda: share  # type: ignore[method-assign]
        return waiting

    @property
    def turns(self) -> list[str]:
        """Whose turn it was, call after call of one counted once."""
        return [b for a, b in zip(["", *self.called], self.called, strict=False) if a != b]


def test_each_in_turn_and_several_rounds(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine(monkeypatch)
    calls = {"a": machine.call("a", 10), "b": machine.call("b", 12)}
    times = time_in_turn(calls, waiting=machine.waiting)
    assert machine.turns == ["a", "b"] * 3
    assert {name: round(one.ms, 6) for name, one in times.items()} == {"a": 10, "b": 12}
    assert all(one.quiet for one in times.values())


def test_what_happens_once_is_not_what_an_engine_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first look at an engine falls on a moment in which the machine was busy, seen or not."""
    for busy in (3.0, 0.0, None):
        machine = Machine(monkeypatch, busy=[busy])
        calls = {"a": machine.call("a", 10, slow_at=(0,)), "b": machine.call("b", 12)}
        times = time_in_turn(calls, waiting=machine.waiting)
        assert {name: round(one.ms, 6) for name, one in times.items()} == {"a": 10, "b": 12}
        assert times["a"].quiet


def test_those_out_of_reach_are_not_called_again(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine(monkeypatch)
    calls = {"fast": machine.call("fast", 300), "slow": machine.call("slow", 1500)}
    times = time_in_turn(calls, waiting=machine.waiting)
    assert machine.called == ["fast", "slow", "fast", "slow", "fast"]
    assert times["slow"] == Timed(1500.0, 0.0)


def test_more_rounds_while_the_machine_is_busy_and_an_end_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine(monkeypatch, busy=[0.5] * 7)
    calls = {"a": machine.call("a", 300), "b": machine.call("b", 310)}
    times = time_in_turn(calls, waiting=machine.waiting)
    assert machine.turns == ["a", "b"] * 5, "the first quiet turns were the eighth and the ninth"
    assert [one.busy for one in times.values()] == [0.0, 0.0]
    machine = Machine(monkeypatch, busy=[0.5] * 1000)
    calls = {"a": machine.call("a", 1500), "b": machine.call("b", 1510)}
    times = time_in_turn(calls, longest_s=5.0, waiting=machine.waiting)
    assert machine.turns == ["a", "b", "a", "b"], "no turn was to begin after five seconds"
    assert not any(one.quiet for one in times.values())


def test_a_system_that_does_not_tell_is_believed_to_be_quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine(monkeypatch, busy=[None] * 1000)
    times = time_in_turn({"a": machine.call("a", 10)}, waiting=machine.waiting)
    assert times == {"a": Timed(pytest.approx(10), None)}
    assert times["a"].quiet


def test_all_calls_of_some_that_are_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine(monkeypatch)
    calls = {"a": machine.call("a", 10, slow_at=(0, 4)), "b": machine.call("b", 600)}
    times = calls_in_turn(calls)
    assert machine.turns == ["a", "b", "a", "b", "a"], "that after a long one, others go on"
    assert times["a"] == pytest.approx([10.0] * 15)
    assert times["b"] == pytest.approx([600.0] * 6)
