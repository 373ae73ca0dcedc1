"""How long threads of numeric libraries wait for one another before they sleep."""

from __future__ import annotations

import os
from collections.abc import MutableMapping

__all__ = ["sleep_soon"]

_SPINS = "3000"


def sleep_soon(environment: MutableMapping[str, str] = os.environ) -> None:
    """Have threads of torch spin for some microseconds while they wait, and then sleep.

    That is what the next step of a network takes to come. By itself libgomp spins a hundred times as long, and on a
    machine with other work, such as Gadgetron's own, the thread that is waited for does not get to run meanwhile. It
    reads this when it is loaded: call it before torch is. What whoever installs this has chosen stands.
    """
    if "OMP_WAIT_POLICY" not in environment:
        environment.setdefault("GOMP_SPINCOUNT", _SPINS)
