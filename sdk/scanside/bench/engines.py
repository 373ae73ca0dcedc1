"""Every engine of every bundle at hand: its speed beside eager fp32, and how far it is from it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from scanside.bench.result import BenchResult, Headline, machine, versions
from scanside.engines.backends import backend
from scanside.engines.build import BundleSource, Workshop
from scanside.engines.bundle import Bundle
from scanside.engines.cache import EngineCache
from scanside.engines.catalog import available_bundles
from scanside.engines.check import read_check
from scanside.engines.choice import Candidate, rank
from scanside.engines.manifest import AcceptanceReport, Task
from scanside.engines.shapes import fit
from scanside.engines.timing import time_ms
from scanside.errors import ConfigError, ShapeError

__all__ = ["measure"]

_SIZE, _COILS = 256, 8
_PROMISED: dict[Task, float] = {"image": 4.0, "unrolled": 1.6, "dynamic": 1.6}
"""How many times faster than eager fp32 the fastest accepted engine is to be, on a CPU with matrix units."""


def measure(
    progress: Callable[[str], None],
    bundles: Mapping[str, Path] | None = None,
    cache: EngineCache | None = None,
) -> BenchResult:
    """Time all engines at 256 × 256 and 8 coils, or what is nearest to it; those that are missing are built.

    Args:
        progress: is told what is being done.
        bundles: folders by name; by default all that ``scanside engines list`` shows.
        cache: of engines; by default that of the user.

    Raises:
        ConfigError: there is no bundle.
    """
    bundles = available_bundles() if bundles is None else bundles
    if not bundles:
        raise ConfigError(
            "there is no bundle to measure: build one with 'scanside engines build', and name its parent folder in "
            "SCANSIDE_ENGINES"
        )
    cache = cache or EngineCache()
    rows: list[dict[str, Any]] = []
    headline: list[Headline] = []
    found = versions()
    for name, folder in bundles.items():
        source = _source(Bundle.open(folder))
        candidates = Workshop(source, cache, lambda what, name=name: progress(f"{name}: {what}")).candidates()  # type: ignore[misc]
        progress(f"{name}: timing")
        measured = [(one, _times(one, source)) for one in candidates]
        by_name = {(one.backend, one.precision): times for one, times in measured}
        eager = by_name.get(("eager", "fp32"))
        why = {(one.backend, one.precision): one.why for one in rank(candidates).verdicts}
        for one, times in measured:
            rows.append(_row(name, source, one, times, eager, why[one.backend, one.precision]))
            if one.entry is not None:
                found |= one.entry.report.versions
        ratios = [row["times_faster"] for row in rows if row["bundle"] == name and row["times_faster"]]
        promised = _PROMISED[source.bundle.manifest.task]
        what = f"{name}: fastest accepted engine against eager fp32"
        headline.append(Headline.at_least(what, max(ratios, default=0.0), promised))
    return BenchResult(name="engines", machine=machine(), versions=found, rows=rows, headline=headline)


def _source(bundle: Bundle) -> BundleSource:
    shapes = bundle.manifest.shapes
    try:
        shape = fit(bundle.manifest.lowering, shapes, _SIZE, _SIZE).bucket
    except ShapeError:
        shape = min(shapes.buckets, key=lambda one: abs(one[0] - _SIZE) + abs(one[1] - _SIZE))
    n_coils = shapes.coils_for(_COILS)
    if shapes.coils is not None and n_coils is None:  # it takes more coils only
        n_coils = min(shapes.coils) if isinstance(shapes.coils, tuple) else int(shapes.coils.low)
    return BundleSource(bundle, shape, n_coils)


def _times(one: Candidate, source: BundleSource) -> list[float]:
    """Sorted times of one engine in ms, empty where it was not accepted."""
    if not one.accepted:
        return []
    assert one.entry is not None
    runner = backend(one.backend).load(one.entry.folder, source, one.precision)
    inputs = read_check(one.entry.folder).inputs
    return sorted(time_ms(lambda: runner(*inputs)))


def _row(
    name: str,
    source: BundleSource,
    one: Candidate,
    times: list[float],
    eager: list[float] | None,
    why: str,
) -> dict[str, Any]:
    report = None if one.entry is None else one.entry.report
    return {
        "bundle": name,
        "size": _size(source),
        "backend": one.backend,
        "precision": one.precision,
        "median_ms": round(_quantile(times, 0.5), 2) if times else None,
        "p90_ms": round(_quantile(times, 0.9), 2) if times else None,
        "ms_per_frame": round(_quantile(times, 0.5) / (source.n_frames or 1), 2) if times else None,
        "times_faster": round(_quantile(eager, 0.5) / _quantile(times, 0.5), 2) if times and eager else None,
        "relative_error": _worst(report, "relative-error/"),
        "psnr_loss_db": _worst(report, "psnr-loss-db/"),
        "ssim_loss": _worst(report, "ssim-loss/"),
        "note": "" if one.accepted else why,
    }


def _size(source: BundleSource) -> str:
    frames = "" if source.n_frames is None else f"{source.n_frames} frames of "
    coils = f" {source.n_coils} coils" if source.n_coils else ""
    return frames + "×".join(map(str, source.shape)) + coils


def _quantile(ordered: list[float], q: float) -> float:
    """Nearest rank."""
    return ordered[min(len(ordered) - 1, int(q * len(ordered)))]


def _worst(report: AcceptanceReport | None, prefix: str) -> float | None:
    checks = () if report is None else report.checks
    values = [one.value for one in checks if one.name.startswith(prefix) and one.value is not None]
    return max(values, default=None)
