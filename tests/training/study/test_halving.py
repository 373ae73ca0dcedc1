"""Who goes on, of trials whose worth is known."""

from __future__ import annotations

import math
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scanside_training.study.halving import Halving


def played(values: list[float], rungs: tuple[int, ...], reduction: int) -> list[tuple[int, int]]:
    """All jobs, where a trial is as good on every rung."""
    halving = Halving(len(values), rungs, reduction)
    jobs = []
    while (job := halving.next()) is not None:
        jobs.append(job)
        halving.tell(*job, values[job[0]])
    return jobs


def test_trials_in_order_of_their_worth_are_halved_as_in_the_paper() -> None:
    """Nine trials that get worse: as with synchronous halving 9, 3 and 1, each promoted as soon as it is sure."""
    jobs = played([-float(i) for i in range(9)], (1, 3, 9), 3)
    assert Counter(rung for _, rung in jobs) == {0: 9, 1: 3, 2: 1}
    assert jobs[:4] == [(0, 0), (1, 0), (2, 0), (0, 1)], "promoted before the others began"
    assert jobs[-1] == (0, 2)


def test_trials_that_get_better_overtake() -> None:
    """What is promoted early is overtaken: asynchronous halving trains more than the synchronous one, not less."""
    jobs = played([float(i) for i in range(9)], (1, 3, 9), 3)
    counts = Counter(rung for _, rung in jobs)
    assert counts[0] == 9
    assert counts[1] >= 3
    assert (8, 2) in jobs


@given(seed=st.integers(0, 200), n=st.integers(9, 40), reduction=st.integers(2, 3))
def test_the_best_gets_to_the_end_and_few_others(seed: int, n: int, reduction: int) -> None:
    values = list(np.random.default_rng(seed).permutation(n).astype(float))
    jobs = played(values, (1, 2, 4), reduction)
    assert len(set(jobs)) == len(jobs), "nothing is trained twice"
    assert (values.index(max(values)), 2) in jobs
    for trial, rung in jobs:
        assert rung == 0 or jobs.index((trial, rung - 1)) < jobs.index((trial, rung))
    counts = Counter(rung for _, rung in jobs)
    assert counts[0] == n
    assert n // reduction <= counts[1] < n


def test_without_rungs_everybody_is_trained_to_the_end() -> None:
    halving = Halving(4, (7,), 2)
    assert played([0.0] * 4, (7,), 2) == [(i, 0) for i in range(4)]
    assert halving.n_steps == 28


def test_failed_trials_do_not_go_on() -> None:
    assert played([-math.inf] * 4, (1, 2), 2) == [(i, 0) for i in range(4)]
    jobs = played([-math.inf, 1.0, -math.inf, -math.inf], (1, 2), 2)
    assert [job for job in jobs if job[1]] == [(1, 1)]


def test_steps() -> None:
    halving = Halving(9, (10, 30, 50), 3)
    assert [halving.steps(rung) for rung in range(3)] == [10, 20, 20]
    assert halving.n_steps == pytest.approx(9 * 10 + 3 * 20 + 20)
