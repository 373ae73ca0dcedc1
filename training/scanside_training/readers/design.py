"""In which order readers see what: drawn by lot, and balanced.

Each reader goes through the cases once for each method (or pair of methods). Which method of a case comes in which
round is a row of a Williams square, so that over cases and readers every method comes equally often in every round
and after every other one; rows are dealt out in turn, so that none is used more than once more than another.

Williams, *Experimental designs balanced for the estimation of residual effects of treatments*, Aust J Sci Res A
2:149-168 (1949).
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations, pairwise
from math import gcd

import numpy as np

from scanside_training.data.settings import Settings
from scanside_training.readers.form import Form

__all__ = ["Trial", "draw_plan", "pairs_of", "williams"]

_TRIES = 50
"""Draws of where second showings come, of which the one with fewest neighbours of the same case is taken."""


class Trial(Settings):
    """What a reader sees at once."""

    case: str
    methods: tuple[str, ...]
    """One, or the left and the right one."""
    again: bool = False
    """Whether the reader has seen it before, perhaps with its sides changed."""


def williams(n: int) -> list[list[int]]:
    """Orders of n treatments in which each comes equally often at every place and after every other one.

    Returns:
        n rows where n is even or 1, else 2n.
    """
    first = [(n - place // 2) % n if place % 2 == 0 else (place + 1) // 2 for place in range(n)]
    rows = [[(one + shift) % n for one in first] for shift in range(n)]
    return rows + [row[::-1] for row in rows] if n % 2 and n > 1 else rows


def pairs_of(form: Form, methods: Sequence[str]) -> list[tuple[str, ...]]:
    """What is shown of a case: single methods, or pairs of them without regard to sides."""
    if form.mode == "single":
        return [(name,) for name in methods]
    pairs = combinations(methods, 2)
    return [pair for pair in pairs if form.pairs_with is None or form.pairs_with in pair]


def draw_plan(form: Form, cases: Sequence[str], methods: Sequence[str]) -> dict[str, tuple[Trial, ...]]:
    """What each reader sees, in order; the same for the same form, cases and methods.

    A case comes again, with another method, after at least half of the others. The same image (or pair, with sides
    changed) is shown a second time after at least as many trials.

    Args:
        form: readers, mode, repeats and seed.
        cases: their names.
        methods: names of all that is rated.
    """
    shown = pairs_of(form, methods)
    squares = williams(len(shown))
    n, n_rows = len(cases), len(squares)
    lots = np.random.default_rng([form.seed, 0])
    dealt = lots.permutation(n)
    n_twice = max(1, round(form.repeats * n)) if form.repeats else 0
    left = n % n_rows
    orbit = n_rows // gcd(left, n_rows)
    plan: dict[str, tuple[Trial, ...]] = {}
    turned = np.zeros((len(shown), n), bool)
    for number, reader in enumerate(form.readers):
        lots = np.random.default_rng([form.seed, number + 1])
        # Readers go on dealing where the one before ended; when that comes round, they begin one row later.
        shift = number * left + number // orbit
        rows = [squares[(int(dealt[i]) + shift) % n_rows] for i in range(n)]
        # Every second reader sees each pair with the sides of the one before changed.
        turned = ~turned if number % 2 else _halves(lots, len(shown), n)
        once = []
        mixed = [int(i) for i in lots.permutation(n)]
        for place in range(len(shown)):
            for i in _order(lots, mixed):
                which = rows[i][place]
                sides = shown[which][::-1] if turned[which, i] else shown[which]
                once.append(Trial(case=cases[i], methods=sides))
        # Of the half that comes first in each round, so that some of the others always come between.
        twice = {cases[i] for i in mixed[:n_twice]}
        plan[reader] = tuple(_with_repeats(once, twice, lots))
    return plan


def _halves(
    lots: np.random.Generator, n_pairs: int, n_cases: int
) -> np.ndarray[tuple[int, int], np.dtype[np.bool_]]:
    """Which pairs have their sides changed: of each pair half of the cases, drawn by lot; of the odd one, in turn."""
    first = lots.integers(2)
    changed = [(np.arange(n_cases) + first + pair) % 2 == 0 for pair in range(n_pairs)]
    return np.stack([lots.permutation(row) for row in changed])


def _order(lots: np.random.Generator, mixed: list[int]) -> list[int]:
    """Cases in the order of a round: halves that stay, each mixed anew, keep showings of a case apart."""
    halves = mixed[: -(-len(mixed) // 2)], mixed[-(-len(mixed) // 2) :]
    return [int(i) for half in halves for i in lots.permutation(half)]


def _with_repeats(once: list[Trial], twice: set[str], lots: np.random.Generator) -> list[Trial]:
    """The trials, and those of some cases a second time, later."""
    again = [(i, trial) for i, trial in enumerate(once) if trial.case in twice]
    if not again:
        return once
    drawn = []
    for _ in range(_TRIES):
        keyed = [(float(i), trial) for i, trial in enumerate(once)]
        for i, trial in again:
            later = i + len(once) * lots.uniform(0.5, 1.0)
            keyed.append((later, Trial(case=trial.case, methods=trial.methods[::-1], again=True)))
        drawn.append([trial for _, trial in sorted(keyed, key=lambda one: one[0])])
    return min(drawn, key=lambda trials: sum(a.case == b.case for a, b in pairwise(trials)))
