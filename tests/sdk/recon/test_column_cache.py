"""Factorised columns for repetitions."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest
import torch

from scanside.errors import NonFiniteError
from scanside.recon import column_cache
from scanside.recon.column_cache import ColumnCache
from scanside.recon.columns import ColumnSystem, factorise, system_bytes

N1, N0, WEIGHT = 12, 5, 0.1


def some_maps(seed: int = 1) -> torch.Tensor:
    return torch.randn(3, N1, N0, dtype=torch.complex64, generator=torch.Generator().manual_seed(seed))


def a_mask(step: int = 2) -> torch.Tensor:
    mask = torch.zeros(N1, dtype=torch.bool)
    mask[::step] = True
    return mask


@pytest.fixture
def cache() -> Iterator[ColumnCache]:
    cache = ColumnCache()
    yield cache
    cache.close()


def test_repetitions_take_the_same_system(cache: ColumnCache, made_by: list[str]) -> None:
    first = cache.get(some_maps(), a_mask(), WEIGHT)
    assert cache.get(some_maps(), a_mask(), WEIGHT) is first  # tensors of their own, the same values
    assert len(made_by) == 1


@pytest.mark.parametrize("changed", ["maps", "mask", "weight", "size"])
def test_nothing_else_is_taken_for_it(cache: ColumnCache, changed: str) -> None:
    first = cache.get(some_maps(), a_mask(), WEIGHT)
    maps, mask, weight = some_maps(), a_mask(), WEIGHT
    if changed == "maps":
        maps[2, 3, 1] *= 1.0001
    elif changed == "mask":
        mask = a_mask(3)
    elif changed == "weight":
        weight *= 1.01
    else:
        maps = maps[..., 1:]
    other = cache.get(maps, mask, weight)
    assert other is not first
    torch.testing.assert_close(other.kept(), factorise(maps, mask, weight).kept())


def test_maps_that_were_changed_in_place(cache: ColumnCache) -> None:
    maps = some_maps()
    first = cache.get(maps, a_mask(), WEIGHT)
    maps *= 2
    assert cache.get(maps, a_mask(), WEIGHT) is not first
    assert cache.get(some_maps(), a_mask(), WEIGHT) is first


def test_begun_beside(cache: ColumnCache, made_by: list[str]) -> None:
    cache.begin(some_maps(), a_mask(), WEIGHT)
    cache.begin(some_maps(), a_mask(), WEIGHT)
    system = cache.get(some_maps(), a_mask(), WEIGHT)
    torch.testing.assert_close(system.kept(), factorise(some_maps(), a_mask(), WEIGHT).kept())
    assert len(made_by) == 1
    assert made_by[0] != threading.current_thread().name


def test_what_is_begun_is_that_of_its_moment(cache: ColumnCache, monkeypatch: pytest.MonkeyPatch) -> None:
    changed = threading.Event()

    def late(maps: torch.Tensor, mask: torch.Tensor, weight: float) -> ColumnSystem:
        assert changed.wait(60)
        return factorise(maps, mask, weight)

    monkeypatch.setattr(column_cache, "factorise", late)
    maps = some_maps()
    cache.begin(maps, a_mask(), WEIGHT)
    maps.zero_()
    changed.set()
    system = cache.get(some_maps(), a_mask(), WEIGHT)
    torch.testing.assert_close(system.kept(), factorise(some_maps(), a_mask(), WEIGHT).kept())


@pytest.mark.parametrize("begun", [True, False])
def test_errors_reach_whoever_asks(cache: ColumnCache, begun: bool) -> None:
    broken = some_maps()
    broken[0, 0, 0] = torch.nan
    if begun:
        cache.begin(broken, a_mask(), WEIGHT)
    for _ in range(2):
        with pytest.raises(NonFiniteError, match="coil maps"):
            cache.get(broken, a_mask(), WEIGHT)
    system = cache.get(some_maps(), a_mask(), WEIGHT)
    assert cache.n_bytes == system.n_bytes + broken.nbytes  # nothing is held of what failed


def test_memory_is_bounded(made_by: list[str]) -> None:
    one = system_bytes(N1, N0) + some_maps().nbytes
    cache = ColumnCache(most_bytes=2 * one)
    for seed in (1, 2, 1, 3):  # the second one is used longest ago when the third comes
        cache.get(some_maps(seed), a_mask(), WEIGHT)
        assert cache.n_bytes <= 2 * one
    assert cache.find(some_maps(1), a_mask(), WEIGHT) is not None
    assert cache.find(some_maps(2), a_mask(), WEIGHT) is None
    assert len(made_by) == 3
    small = ColumnCache(most_bytes=1)
    first = small.get(some_maps(), a_mask(), WEIGHT)
    assert small.get(some_maps(), a_mask(), WEIGHT) is first


def test_close_ends_what_was_begun(monkeypatch: pytest.MonkeyPatch) -> None:
    begun, go_on = threading.Event(), threading.Event()
    ended: list[bool] = []

    def slow(maps: torch.Tensor, mask: torch.Tensor, weight: float) -> ColumnSystem:
        begun.set()
        assert go_on.wait(60)
        ended.append(True)
        return factorise(maps, mask, weight)

    monkeypatch.setattr(column_cache, "factorise", slow)
    cache = ColumnCache()
    cache.begin(some_maps(1), a_mask(), WEIGHT)
    cache.begin(some_maps(2), a_mask(), WEIGHT)  # waits for its turn
    assert begun.wait(60)
    threading.Timer(0.05, go_on.set).start()
    cache.close()
    assert ended == [True]
    assert not any(thread.name.startswith("scanside-columns") for thread in threading.enumerate())
    assert cache.n_bytes == 0
    cache.begin(some_maps(), a_mask(), WEIGHT)  # the next scan
    cache.close()
