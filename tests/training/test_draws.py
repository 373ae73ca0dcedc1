"""The endless order of samples: every process its own, and the same after an interruption."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import chain, islice

import pytest

from scanside_training.data import EpochKeys, SampleKey
from scanside_training.draws import Draws


def batches(keys: Iterable[SampleKey], n: int, size: int = 2) -> list[tuple[SampleKey, ...]]:
    taken = list(islice(iter(keys), n * size))
    return [tuple(taken[i : i + size]) for i in range(0, n * size, size)]


def test_epochs_are_those_of_the_data_module() -> None:
    theirs = EpochKeys(6, 2)
    expected = []
    for epoch in range(3):
        theirs.set_epoch(epoch)
        expected += list(theirs)
    assert list(islice(Draws(2, 3), 18)) == expected


@pytest.mark.parametrize("n_ranks", [2, 3])
def test_processes_take_turns(n_ranks: int) -> None:
    alone = batches(Draws(2, 5), 4 * n_ranks)
    shares = [batches(Draws(2, 5, rank=rank, n_ranks=n_ranks), 4) for rank in range(n_ranks)]
    assert list(chain.from_iterable(zip(*shares, strict=True))) == alone
    assert len(set(chain.from_iterable(chain.from_iterable(shares)))) == 8 * n_ranks, "no sample twice"


def test_goes_on_in_the_middle_of_an_epoch() -> None:
    whole = batches(Draws(2, 5), 12)
    assert batches(Draws(2, 5, first=7), 5) == whole[7:]
    shares = [batches(Draws(2, 5, rank=rank, n_ranks=2, first=4), 2) for rank in range(2)]
    assert list(chain.from_iterable(zip(*shares, strict=True))) == whole[4:8], "on other processes too"
