"""Orders are balanced, drawn by lot, and the same again."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

import pytest
from tests.training.readers.conftest import form_of

from scanside_training.readers.design import draw_plan, pairs_of, williams

CASES = [f"c{i}" for i in range(12)]
READERS = ["a", "b", "c", "d"]


@pytest.mark.parametrize("n", range(1, 8))
def test_williams_squares(n: int) -> None:
    rows = williams(n)
    assert len(rows) == (2 * n if n % 2 and n > 1 else n)
    for column in zip(*rows, strict=True):
        assert set(Counter(column).values()) == {len(rows) // n}
    after = Counter(step for row in rows for step in pairwise(row))
    assert len(after) == n * (n - 1)
    assert len(set(after.values())) <= 1


def test_every_reader_sees_everything_once() -> None:
    methods = ("m", "n", "o")
    plan = draw_plan(form_of(readers=READERS, repeats=0.25), CASES, methods)
    for trials in plan.values():
        once = [(one.case, one.methods) for one in trials if not one.again]
        assert sorted(once) == sorted((case, (method,)) for case in CASES for method in methods)
        again = [(one.case, one.methods) for one in trials if one.again]
        assert len(again) == len(set(again)) == 3 * len(methods)
        assert len({case for case, _ in again}) == 3


@pytest.mark.parametrize("n_cases", [4, 5, 7, 12])
@pytest.mark.parametrize("n_methods", [2, 3, 4])
def test_methods_are_balanced_over_rounds(n_cases: int, n_methods: int) -> None:
    cases, methods = CASES[:n_cases], [f"m{i}" for i in range(n_methods)]
    plan = draw_plan(form_of(readers=READERS), cases, methods)
    n_rows = len(williams(n_methods))
    rounds: Counter[tuple[int, str]] = Counter()
    orders: Counter[tuple[str, ...]] = Counter()
    for trials in plan.values():
        own: Counter[tuple[str, ...]] = Counter()
        for case in cases:
            own[tuple(one.methods[0] for one in trials if one.case == case)] += 1
        for place, trial in enumerate(trials):
            rounds[place // n_cases, trial.methods[0]] += 1
        assert max(own.values()) - (min(own.values()) if len(own) == n_rows else 0) <= 1
        orders += own
    # Over all readers too, no order is used more than once more than another.
    assert max(orders.values()) - (min(orders.values()) if len(orders) == n_rows else 0) <= 1
    assert max(rounds.values()) - min(rounds.values()) <= n_rows // n_methods


def test_no_case_is_always_read_in_one_order() -> None:
    plan = draw_plan(form_of(readers=READERS), CASES, ("m", "n", "o", "p"))
    for case in CASES:
        orders = {tuple(one.methods for one in trials if one.case == case) for trials in plan.values()}
        assert len(orders) == 4


def test_sides_are_balanced() -> None:
    methods = ("m", "n", "o")
    form = form_of(readers=READERS, mode="side-by-side", repeats=0.5)
    assert pairs_of(form, methods) == [("m", "n"), ("m", "o"), ("n", "o")]
    plan = draw_plan(form, CASES, methods)
    for trials in plan.values():
        sides = Counter(one.methods for one in trials if not one.again)
        assert set(sides.values()) == {6}
        assert len(sides) == 6
        first = {(one.case, frozenset(one.methods)): one.methods for one in trials if not one.again}
        assert all(
            one.methods == first[one.case, frozenset(one.methods)][::-1] for one in trials if one.again
        )
    for case in CASES:
        shown = Counter(
            one.methods for trials in plan.values() for one in trials if one.case == case and not one.again
        )
        assert set(shown.values()) == {2}
    control = form_of(mode="side-by-side", pairs_with="o")
    assert pairs_of(control, methods) == [("m", "o"), ("n", "o")]


def test_sides_do_not_go_with_rounds() -> None:
    """With four pairs, each comes in a round by one row of the square only: its sides must still differ there."""
    form = form_of(readers=["a"], mode="side-by-side", pairs_with="o")
    cases = [f"c{i}" for i in range(64)]
    (trials,) = draw_plan(form, cases, ("o", "p", "q", "r", "s")).values()
    seen = Counter((place // 64, one.methods) for place, one in enumerate(trials))
    assert len(seen) == 4 * 8


def test_a_case_comes_again_after_half_of_the_others() -> None:
    for trials in draw_plan(form_of(readers=READERS), CASES, ("m", "n", "o")).values():
        for case in CASES:
            places = [place for place, one in enumerate(trials) if one.case == case]
            assert min(b - a for a, b in pairwise(places)) > len(CASES) // 2


@pytest.mark.parametrize("repeats", [0.01, 0.25, 0.5, 1.0])
def test_repeats_come_late(repeats: float) -> None:
    for trials in draw_plan(form_of(readers=READERS, repeats=repeats), CASES, ("m", "n")).values():
        first = {(one.case, one.methods): place for place, one in enumerate(trials) if not one.again}
        gaps = [place - first[one.case, one.methods] for place, one in enumerate(trials) if one.again]
        assert len(gaps) == 2 * max(1, round(12 * repeats))
        assert min(gaps) > len(CASES) // 2
        if repeats <= 0.5:
            assert sum(a.case == b.case for a, b in pairwise(trials)) == 0


def test_the_same_again_and_another_by_another_seed() -> None:
    form = form_of(readers=READERS, repeats=0.25)
    plan = draw_plan(form, CASES, ("m", "n"))
    assert draw_plan(form, CASES, ("m", "n")) == plan
    assert draw_plan(form_of(readers=READERS, repeats=0.25, seed=1), CASES, ("m", "n")) != plan
    orders = [tuple(one.case for one in trials) for trials in plan.values()]
    assert len(set(orders)) == len(READERS)


def test_one_case_and_one_method() -> None:
    (trials,) = draw_plan(form_of(readers=["a"], repeats=0.1), ["c"], ["m"]).values()
    assert [one.again for one in trials] == [False, True]
