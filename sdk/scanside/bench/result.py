"""What a benchmark gives, and the machine that it ran on."""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from pydantic import BaseModel, Field

__all__ = ["BenchResult", "Headline", "machine", "spread", "versions"]

_PACKAGES = ("scanside", "torch", "numpy", "h5py", "ismrmrd", "gadgetron")


class Headline(BaseModel):
    """A promise and what was measured of it.

    Attributes:
        what: what is compared.
        value: as measured.
        target: the promise, for example ``>= 1.5``.
        holds: whether it holds.
    """

    what: str
    value: float
    target: str
    holds: bool

    @classmethod
    def at_least(cls, what: str, value: float, bound: float) -> Headline:
        """A value that must not be below a bound."""
        return cls(what=what, value=round(value, 3), target=f">= {bound:g}", holds=value >= bound)

    @classmethod
    def at_most(cls, what: str, value: float, bound: float) -> Headline:
        """A value that must not be above a bound."""
        return cls(what=what, value=round(value, 3), target=f"<= {bound:g}", holds=value <= bound)


def machine() -> dict[str, Any]:
    """Processor, cores and memory of this machine, and the accelerator where torch sees one."""
    found: dict[str, Any] = {
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "memory_gib": _memory_gib(),
        "system": platform.platform(),
        "threads": os.environ.get("OMP_NUM_THREADS", "default"),
    }
    import torch

    if torch.cuda.is_available():
        found["accelerator"] = torch.cuda.get_device_name()
    return found


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that are compared."""
    found = {"python": platform.python_version()}
    for name in _PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed"
    return found


class BenchResult(BaseModel):
    """The result of one benchmark.

    Attributes:
        name: which.
        machine: what it ran on.
        versions: of what was compared.
        rows: one mapping per line of the table.
        headline: the promises.
    """

    name: str
    machine: dict[str, Any] = Field(default_factory=machine)
    versions: dict[str, str] = Field(default_factory=versions)
    rows: list[dict[str, Any]]
    headline: list[Headline]


def spread(values: Sequence[float]) -> dict[str, float]:
    """Median, smallest and largest of repeated measurements."""
    ordered = sorted(values)
    n = len(ordered)
    median = (ordered[(n - 1) // 2] + ordered[n // 2]) / 2
    return {"median": median, "min": ordered[0], "max": ordered[-1], "runs": n}


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _memory_gib() -> float | None:
    try:
        return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1)
    except (ValueError, OSError):
        return None
