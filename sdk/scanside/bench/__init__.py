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
    "epi",
    "pics",
    "engines",
    "data",
    "serve",
    "soak",
)
"""The benchmarks by name."""


def run(
    name: str,
    progress: Callable[[str], None] = lambda _: None,
    *,
    hostile: bool = False,
    volumes: int | None = None,
) -> BenchResult:
    """Run one benchmark; takes from ten seconds to a few minutes, ``soak`` a quarter of an hour.

    Args:
        name: one of `NAMES`.
        progress: is told what is being measured.
        hostile: of ``soak``, the hosts that mean harm.
        volumes: of ``epi``, how many.

    Raises:
        ConfigError: there is no such benchmark, or it has no such option.
    """
    if name not in NAMES:
        raise ConfigError(f"there is no benchmark '{name}'; there are {', '.join(NAMES)}")
    if hostile and name != "soak":
        raise ConfigError(f"benchmark '{name}' has no hostile hosts; 'soak' has")
    if volumes is not None and name != "epi":
        raise ConfigError(f"benchmark '{name}' has no volumes; 'epi' has")
    options: dict[str, object] = {"hostile": True} if hostile else {}
    if volumes is not None:
        options["volumes"] = volumes
    result = import_module(f"scanside.bench.{name}").measure(progress, **options)
    assert isinstance(result, BenchResult)
    return result
