"""Which jumps of scan counters may have cost lines, and which counters tell nothing."""

from __future__ import annotations

import numpy as np
import pytest

from scanside.losses import ScanCounters

pytestmark = pytest.mark.torch_free


def followed(*blocks: list[int]) -> ScanCounters:
    counters = ScanCounters()
    for block in blocks:
        counters.follow(np.array(block, np.uint32))
    return counters


def test_gaps_within_and_between_blocks() -> None:
    counters = followed(list(range(5, 30)), [31], [32, 33, 36, *range(37, 60)])
    assert counters.gaps(5, 59, last_came=True) == [(29, 31), (33, 36)]
    assert counters.gaps(36, 59, last_came=True) == [(33, 36)], "its first line may be what was lost"
    assert counters.gaps(5, 29, last_came=True) == []
    assert counters.gaps(5, 29, last_came=False) == [(29, 31)], "its last line may be what was lost"


def test_counters_that_mean_nothing() -> None:
    assert followed([0] * 40).gaps(0, 0, last_came=True) == []
    assert followed([*range(20), *range(10, 30), 40]).gaps(0, 40, last_came=True) == []
    assert followed(list(range(0, 80, 2))).gaps(0, 78, last_came=True) == []
