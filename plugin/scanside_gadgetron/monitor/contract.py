"""What the live page needs of a pool of workers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, TypeAlias

from scanside_gadgetron.pool.events import Event

__all__ = ["PoolState", "Subscribe"]

Subscribe: TypeAlias = Callable[[Callable[[Event], None]], object]
"""Have a function called with every event, in their order, from any thread. It returns at once and never raises."""


class PoolState(Protocol):
    """How a pool is now; asked from another thread than its own."""

    @property
    def queue_depth(self) -> int:
        """How many connections wait for a worker."""

    def not_ready(self) -> str:
        """Why no session can be taken, as one sentence; empty if one can: a worker has its engines accepted and
        warm, and the server is not stopping.
        """
