"""Benchmarks: rates and times in one run, against what users would otherwise have.

Figures depend on the machine; what is promised are ratios to something that ran beside it in the same run.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module

from scanside.bench.result import BenchResult, Headline
from scanside.errors import ConfigError

__all__ = ["NAMES", "BenchResult", "Headline", "run"]

NAMES = (
    "ingest",
    "hdf5",
    "chain",
    "latency",
    "learned",
    "cine",
    "radial",
    "pics",
    "engines",
    "data",
    "serve",
    "soak",
)
"""The benchmarks by name."""


def run(name: str, progress: Callable[[str], None] = lambda _: None, *, hostile: bool = False) -> BenchResult:
    """Run one benchmark; takes from ten seconds to a few minutes, ``soak`` a quarter of an hour.

    Args:
        name: one of `NAMES`.
        progress: is told what is being measured.
        hostile: of ``soak``, the hosts that mean harm.

    Raises:
        ConfigError: there is no such benchmark.
    """
    if name not in NAMES:
        raise ConfigError(f"there is no benchmark '{name}'; there are {', '.join(NAMES)}")
    if hostile and name != "soak":
        raise ConfigError(f"benchmark '{name}' has no hostile hosts; 'soak' has")
    options = {"hostile": True} if hostile else {}
    result = import_module(f"scanside.bench.{name}").measure(progress, **options)
    assert isinstance(result, BenchResult)
    return result
