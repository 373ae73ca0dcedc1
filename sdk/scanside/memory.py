"""How much memory there is: on this machine, in this container, and for this process."""

from __future__ import annotations

import ctypes
import os
import platform
from contextlib import suppress
from pathlib import Path

__all__ = ["keep_freed_memory", "limit_process", "machine_bytes", "process_bytes", "resident_bytes"]

_CGROUP_LIMITS = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))

# Of glibc's mallopt, by its malloc.h.
_TRIM_THRESHOLD, _TOP_PAD, _MMAP_THRESHOLD = -1, -2, -3
_KEPT, _AHEAD, _LARGEST_FROM_HEAP = 2**31 - 1, 1 << 26, 1 << 25

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


def keep_freed_memory() -> None:
    """Have the C library keep what is freed for the next tensors, where it is glibc.

    By itself it gives blocks of some megabytes back to the system, which fills them with zeros, page by page, when
    the next step of a training asks for the same sizes again: half of the processors' time in a training on CPUs.
    What whoever starts this has chosen (``MALLOC_…``, ``GLIBC_TUNABLES``) stands. For processes that do nothing else:
    memory that they needed once stays theirs.
    """
    chosen = any(name.startswith("MALLOC_") or name == "GLIBC_TUNABLES" for name in os.environ)
    if chosen or platform.libc_ver()[0] != "glibc":
        return
    library = ctypes.CDLL(None)
    for setting, value in (
        (_TRIM_THRESHOLD, _KEPT),
        (_TOP_PAD, _AHEAD),
        (_MMAP_THRESHOLD, _LARGEST_FROM_HEAP),
    ):
        library.mallopt(setting, value)
