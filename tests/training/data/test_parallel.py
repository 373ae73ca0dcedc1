"""The same comes out whoever does the work."""

from __future__ import annotations

import os

import pytest

from scanside_training.data.parallel import each


def with_process(number: int) -> tuple[int, int]:
    return number**2, os.getpid()


@pytest.mark.filterwarnings("ignore:.*use of fork.*:DeprecationWarning")
@pytest.mark.parametrize("n", [3, 40])
def test_in_order(n: int) -> None:
    results, processes = zip(*each(with_process, range(n)), strict=True)
    assert results == tuple(number**2 for number in range(n))
    several = n > 3 and len(os.sched_getaffinity(0)) > 1
    assert (os.getpid() not in processes) == several


def fails(number: int) -> int:
    raise ValueError(f"not {number}")


@pytest.mark.filterwarnings("ignore:.*use of fork.*:DeprecationWarning")
def test_errors_arrive() -> None:
    with pytest.raises(ValueError, match="not 0"):
        each(fails, range(40))
