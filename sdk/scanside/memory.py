"""How much memory there is: on this machine, in this container, and for this process."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

__all__ = ["limit_process", "machine_bytes", "process_bytes", "resident_bytes"]

_CGROUP_LIMITS = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))

_limit: int | None = None


def machine_bytes() -> int:
    """Memory of this machine, or of the container that this process runs in, if that has less."""
    there = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    for path in _CGROUP_LIMITS:
        with suppress(OSError, ValueError):  # no container, or "max"
            there = min(there, int(path.read_text(encoding="ascii")))
    return there


def limit_process(n_bytes: int | None) -> None:
    """Say how much memory this process may have, beyond which somebody ends it; None takes that back."""
    global _limit  # noqa: PLW0603 — of a process, as its memory is
    _limit = n_bytes


def process_bytes() -> int:
    """How much this process may still take."""
    return machine_bytes() if _limit is None else min(machine_bytes(), max(0, _limit - resident_bytes()))


def resident_bytes() -> int:
    """Memory that this process really has."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")
