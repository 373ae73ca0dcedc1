"""Work on many independent things by all processors, where there is enough of it."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from typing import TypeVar

__all__ = ["each"]

T = TypeVar("T")
R = TypeVar("R")

_ENOUGH = 16
"""Things for which starting processes pays."""


def each(work: Callable[[T], R], things: Sequence[T]) -> list[R]:
    """What `work` makes of each thing, in their order.

    Many things are shared between as many processes as there are processors; both then have to be picklable. The
    processes are forks, as those of PyTorch's data loaders on Linux: nothing is imported anew, and scripts need no
    ``if __name__ == "__main__"``.
    """
    # Where this is known, processes can be forked, too.
    processes = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1
    if len(things) < _ENOUGH or processes == 1:
        return [work(one) for one in things]
    with ProcessPoolExecutor(processes, multiprocessing.get_context("fork")) as pool:
        return list(pool.map(work, things))
