"""Bundles: whole, signed by whom, which of their engines this machine has accepted, and how sure their times are."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from scanside.doctor.check import Check
from scanside.errors import BundleError, ScansideError

if TYPE_CHECKING:
    from scanside.engines.bundle import Bundle
    from scanside.engines.cache import CacheEntry
    from scanside.engines.taken_times import Times

__all__ = ["check_bundles"]


def check_bundles() -> list[Check]:
    """Look at all bundles that are found by name; nothing where the packages for engines are not installed."""
    if find_spec("torch") is None or find_spec("safetensors") is None:
        return []
    from scanside.engines.cache import EngineCache
    from scanside.engines.catalog import available_bundles
    from scanside.engines.plan_store import PlanStore
    from scanside.engines.times import kept_times

    cache = EngineCache()
    try:
        # Engines of plans that were removed, or replaced, are not found any more.
        plans = {None, *(one.sha256 for one in PlanStore(cache).stored())}
        entries = [one for one in cache.entries() if one.key.plan in plans]
        times = kept_times(cache)
    except (ScansideError, OSError) as error:
        return [Check("engine cache", "problem", str(error), "chmod 700 it, or name another folder")]
    return [
        check
        for name, folder in available_bundles().items()
        for check in _bundle(name, folder, entries, times)
    ]


def _bundle(name: str, folder: Path, entries: list[CacheEntry], times: list[Times]) -> list[Check]:
    from scanside.engines.bundle import Bundle

    what = f"bundle {name}"
    try:
        bundle = Bundle.open(folder)
    except (ScansideError, OSError) as error:
        return [Check(what, "problem", str(error), "take it again from where it came from, or remove it")]
    signed = f"signed by {bundle.signer}" if bundle.signer else "not signed"
    own = [one for one in entries if one.key.weights_sha256 == bundle.manifest.weights_sha256]
    fit = [one for one in own if _is_for_this_machine(one, bundle)]
    accepted = [one for one in fit if one.report.passed]
    told = f"{bundle.manifest.version}, whole, {signed}"
    if not accepted:
        size = "x".join(map(str, min(bundle.manifest.shapes.buckets)))
        others = f"; {len(own)} for other versions, machines or refused" if own else ""
        advice = (
            f"scanside engines build {name} --bucket {size}, or PyTorch runs the network, which takes longer"
        )
        return [Check(what, "missing", f"{told}; no engine was accepted on this machine{others}", advice)]
    here = "; ".join(_told(one, times) for one in accepted)
    latest = [found for one in accepted if (found := _latest(one, times)) is not None]
    return [
        Check(what, "ok", f"{told}; accepted here: {here}"),
        *(_busy(name, one) for i, one in enumerate(latest) if one.busy and one not in latest[:i]),
    ]


def _is_for_this_machine(entry: CacheEntry, bundle: Bundle) -> bool:
    """Whether an engine is found again: it was built with these versions, on such hardware, from this graph."""
    from scanside.engines.backends import NAMES, backend

    key = entry.key
    if key.backend not in NAMES:
        return False
    one = backend(key.backend)
    if one.available() or key.precision not in one.precisions():
        return False
    try:
        form = bundle.manifest.form_for(key.shape)
        graph = bundle.graph_sha256(one.graph_precision(key.precision), form)
    except BundleError:  # of another bundle with the same weights
        return False
    made_from = (key.versions, key.hardware, key.graph_sha256, key.calibration)
    return made_from == (one.versions(), one.hardware(), graph, bundle.calibration_sha256(key.precision))


def _told(entry: CacheEntry, times: list[Times]) -> str:
    key = entry.key
    latest = _latest(entry, times)
    took = entry.report.median_ms if latest is None else latest.ms(key)
    coils = f", {key.n_coils} coils" if key.n_coils else ""
    speed = f" {took:.1f} ms" if took is not None else ""
    return f"{key.backend} {key.precision} {key.shape[0]}×{key.shape[1]}{coils}{speed}"


def _latest(entry: CacheEntry, times: list[Times]) -> Times | None:
    """The newest times that tell of an engine."""
    return next((one for one in times if one.ms(entry.key) is not None), None)


def _busy(name: str, times: Times) -> Check:
    coils = f", {times.n_coils} coils" if times.n_coils else ""
    share = min(1.0, max(one.busy or 0.0 for one in times.busy))  # of several threads, waits add up
    size = "x".join(map(str, times.shape))
    build = f"scanside engines build {name} --bucket {size}"
    if times.n_coils:
        build += f" --coils {times.n_coils}"
    return Check(
        f"times of {name}, {size}{coils}, {times.threads} threads",
        "missing",
        f"taken on {times.threads} threads while the machine was busy (processors were waited for {share:.0%} of the "
        f"time), so that they may choose a slow engine: {', '.join(map(str, times.busy))}",
        f"start the server again, or {build}, while the machine is quiet: they are taken anew",
    )
