"""Benchmarks: rates and times in one run, against what users would otherwise have.

Figures depend on the machine; what is promised are ratios to something that ran beside it in the same run.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module

from scanside.bench.result import BenchResult, Headline
from scanside.errors import ConfigError

__all__ = ["NAMES", "BenchResult", "Headline", "run"]

NAMES = ("ingest", "hdf5", "chain", "latency", "learned", "cine", "engines", "serve", "soak")
"""The benchmarks by name."""


def run(name: str, progress: Callable[[str], None] = lambda _: None) -> BenchResult:
    """Run one benchmark; takes from ten seconds to a few minutes, ``soak`` a quarter of an hour.

    Args:
        name: one of `NAMES`.
        progress: is told what is being measured.

    Raises:
        ConfigError: there is no such benchmark.
    """
    if name not in NAMES:
        raise ConfigError(f"there is no benchmark '{name}'; there are {', '.join(NAMES)}")
    result = import_module(f"scanside.bench.{name}").measure(progress)
    assert isinstance(result, BenchResult)
    return result
