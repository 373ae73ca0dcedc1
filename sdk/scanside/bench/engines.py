"""Every engine of every bundle at hand: its speed beside eager fp32, and how far it is from it."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from scanside.bench.result import BenchResult, Headline, machine, versions
from scanside.engines.backends import NAMES, backend
from scanside.engines.build import BundleSource, Workshop
from scanside.engines.bundle import Bundle
from scanside.engines.cache import EngineCache
from scanside.engines.catalog import available_bundles
from scanside.engines.check import read_check
from scanside.engines.choice import Candidate, rank
from scanside.engines.columns import column_inputs, column_weight
from scanside.engines.hardware import cpu_fingerprint
from scanside.engines.manifest import AcceptanceReport, FormName, Task
from scanside.engines.probes import read_cases, resized, with_coils
from scanside.engines.shapes import fit, reflect
from scanside.engines.timing import calls_in_turn
from scanside.errors import ConfigError
from scanside.recon.columns import factorise

__all__ = ["measure"]

_SIZE, _COILS = 256, 8
_PROMISED: dict[Task, tuple[float, float]] = {"image": (4.0, 5.0), "dynamic": (2.5, 3.0)}
"""How many times faster than eager fp32 the fastest accepted engine is to be, without matrix units and with them."""
_PROMISED_EXACT = (4.0, 8.0)
"""How many times faster than the fastest engine of the principal form the exact one is to be, when it factorises for
each image, and when the factorisation is at hand."""
_FACTORISATIONS = 5
_COMPILED = ("aoti-cpu", "aoti-cuda")


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
        fastest: dict[FormName, float] = {}
        sources = _sources(Bundle.open(folder))
        for source in sources:
            measured = _measured(name, source, cache, progress)
            rows += measured.rows
            found |= measured.versions
            fastest[source.form] = measured.fastest_ms
            task = source.bundle.manifest.task
            if task in _PROMISED:
                promised = _PROMISED[task]["amx" in cpu_fingerprint()]
                what = f"{name}: fastest accepted engine against eager fp32"
                headline.append(Headline.at_least(what, measured.times_faster, promised))
        if len(fastest) > 1:
            progress(f"{name}: timing the factorisation")
            factorisation = _factorisation_ms(sources[-1])
            rows.append(_row_of_factorisation(name, sources[-1], factorisation))
            exact, principal = fastest["columns"], fastest["principal"]
            for what, value, promised in (
                ("factorising for each image", exact + factorisation, _PROMISED_EXACT[0]),
                ("the factorisation at hand", exact, _PROMISED_EXACT[1]),
            ):
                text = f"{name}: form 'columns', {what}, against the fastest engine of the principal form"
                headline.append(Headline.at_least(text, principal / value, promised))
    return BenchResult(name="engines", machine=machine(), versions=found, rows=rows, headline=headline)


@dataclass(frozen=True)
class _Measured:
    """The engines of one form of a bundle."""

    rows: list[dict[str, Any]]
    versions: dict[str, str]
    fastest_ms: float
    times_faster: float


def _measured(
    name: str, source: BundleSource, cache: EngineCache, progress: Callable[[str], None]
) -> _Measured:
    candidates = _candidates(name, source, cache, progress)
    progress(f"{name}: timing")
    times = calls_in_turn({i: _call(one, source) for i, one in enumerate(candidates) if one.accepted})
    measured = [(one, sorted(times.get(i, []))) for i, one in enumerate(candidates)]
    by_name = {(one.backend, one.precision): times for one, times in measured}
    eager = by_name.get(("eager", "fp32"))
    why = {(one.backend, one.precision): one.why for one in rank(candidates).verdicts}
    rows = [_row(name, source, one, times, eager, why[one.backend, one.precision]) for one, times in measured]
    found: dict[str, str] = {}
    for one in candidates:
        if one.entry is not None:
            found |= one.entry.report.versions
    return _Measured(
        rows,
        found,
        min((_quantile(times, 0.5) for _, times in measured if times), default=math.inf),
        max((row["times_faster"] for row in rows if row["times_faster"]), default=0.0),
    )


def _candidates(
    name: str, source: BundleSource, cache: EngineCache, progress: Callable[[str], None]
) -> list[Candidate]:
    """All engines of a form; those that are missing are built.

    Nobody compiles a principal form that has an exact one beside it: its iterations, all written out, keep a compiler
    busy for many minutes.
    """
    workshop = Workshop(source, cache, lambda what: progress(f"{name}: {what}"))
    exact = source.bundle.manifest.form_for(source.shape)
    if source.form == exact:
        return workshop.candidates()
    left_out = f"not built: form '{exact}' takes its place, and to compile this one takes many minutes"
    built = workshop.candidates([one for one in NAMES if one not in _COMPILED])
    return [*built, *(Candidate(one, "fp32", reason=left_out) for one in _COMPILED)]


def _sources(bundle: Bundle) -> list[BundleSource]:
    """All forms of a bundle at the size that is measured; the principal one first."""
    if bundle.manifest.lowering == "columns":
        return [_source(bundle, "columns")]
    principal = _source(bundle, "principal")
    form = bundle.manifest.form_for(principal.shape)
    return [principal] if form == "principal" else [principal, _source(bundle, form)]


def _factorisation_ms(source: BundleSource) -> float:
    """Median time from maps, mask and ``Aᴴ y`` to what the exact form takes."""
    form = source.bundle.manifest.columns
    assert form is not None
    case = next(iter(read_cases("unrolled", source.bundle.vectors()).values()))
    maps = torch.complex(*with_coils(resized(case["maps"], source.shape), _COILS).unbind(1))
    mask = reflect(case["mask"], -2, source.shape[0])[:, 0] > 0
    image = maps.sum(0)

    def make() -> None:
        column_inputs(image, maps, factorise(maps, mask, column_weight(form, 0.0)))

    times = []
    for _ in range(_FACTORISATIONS):
        begun = time.perf_counter()
        make()
        times.append(1e3 * (time.perf_counter() - begun))
    return statistics.median(times)


def _source(bundle: Bundle, form: FormName = "principal") -> BundleSource:
    shapes = bundle.manifest.shapes
    shape = shapes.buckets[0] if shapes.fixed else fit(bundle.manifest.lowering, shapes, _SIZE, _SIZE).bucket
    if shape not in shapes.buckets:
        shape = min(shapes.buckets, key=lambda one: abs(one[0] - _SIZE) + abs(one[1] - _SIZE))
    return BundleSource(bundle, shape, shapes.coils_for(_COILS), form)


def _call(one: Candidate, source: BundleSource) -> Callable[[], object]:
    """Runs an engine that was accepted, on the input of its check."""
    assert one.entry is not None
    runner = backend(one.backend).load(one.entry.folder, source, one.precision)
    inputs = read_check(one.entry.folder).inputs
    return lambda: runner(*inputs)


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
        "form": source.form,
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


def _row_of_factorisation(name: str, source: BundleSource, median_ms: float) -> dict[str, Any]:
    note = f"for maps of {_COILS} coils, mask and λ; once for all images that share them"
    found = {"bundle": name, "form": source.form, "size": _size(source), "backend": "factorisation"}
    return {**found, "median_ms": round(median_ms, 2), "note": note}


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
