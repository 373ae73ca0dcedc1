"""Bundles: whole, signed by whom, and which of their engines this machine has accepted."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from scanside.doctor.check import Check
from scanside.errors import BundleError, ScansideError

if TYPE_CHECKING:
    from scanside.engines.bundle import Bundle
    from scanside.engines.cache import CacheEntry

__all__ = ["check_bundles"]


def check_bundles() -> list[Check]:
    """Look at all bundles that are found by name; nothing where the packages for engines are not installed."""
    if find_spec("torch") is None or find_spec("safetensors") is None:
        return []
    from scanside.engines.cache import EngineCache
    from scanside.engines.catalog import available_bundles

    cache = EngineCache()
    try:
        entries = list(cache.entries())
    except (ScansideError, OSError) as error:
        return [Check("engine cache", "problem", str(error), "chmod 700 it, or name another folder")]
    return [_bundle(name, folder, entries) for name, folder in available_bundles().items()]


def _bundle(name: str, folder: Path, entries: list[CacheEntry]) -> Check:
    from scanside.engines.bundle import Bundle

    what = f"bundle {name}"
    try:
        bundle = Bundle.open(folder)
    except (ScansideError, OSError) as error:
        return Check(what, "problem", str(error), "take it again from where it came from, or remove it")
    signed = f"signed by {bundle.signer}" if bundle.signer else "not signed"
    own = [one for one in entries if one.key.weights_sha256 == bundle.manifest.weights_sha256]
    fit = [one for one in own if _is_for_this_machine(one, bundle)]
    accepted = [one for one in fit if one.report.passed]
    told = f"{bundle.manifest.version}, whole, {signed}"
    if not accepted:
        size = "x".join(map(str, min(bundle.manifest.shapes.buckets)))
        others = f"; {len(own)} for other versions, machines or refused" if own else ""
        return Check(
            what,
            "missing",
            f"{told}; no engine was accepted on this machine{others}",
            f"scanside engines build {name} --bucket {size}, or its images come from the fallback",
        )
    return Check(what, "ok", f"{told}; accepted here: {'; '.join(map(_told, accepted))}")


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
        graph = bundle.graph_sha256(one.graph_precision(key.precision))
    except BundleError:  # of another bundle with the same weights
        return False
    return (key.versions, key.hardware, key.graph_sha256) == (one.versions(), one.hardware(), graph)


def _told(entry: CacheEntry) -> str:
    key, took = entry.key, entry.report.median_ms
    coils = f", {key.n_coils} coils" if key.n_coils else ""
    speed = f" {took:.1f} ms" if took is not None else ""
    return f"{key.backend} {key.precision} {key.shape[0]}×{key.shape[1]}{coils}{speed}"
