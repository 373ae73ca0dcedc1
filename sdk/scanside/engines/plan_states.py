"""What became of each installed plan on this machine: built is one thing, accepted here another."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from typing import Literal, TypeAlias

from scanside.engines.cache import CacheEntry, EngineCache
from scanside.engines.catalog import available_bundles
from scanside.engines.manifest import MANIFEST_FILE, Manifest
from scanside.engines.plan_record import PlanRecord
from scanside.engines.plan_store import Plan, PlanStore, StoredPlan, plan_key
from scanside.engines.trust import Signer
from scanside.errors import BundleError

__all__ = ["PlanState", "State", "plan_states"]

State: TypeAlias = Literal["accepted", "refused", "waiting", "unusable", "damaged"]


@dataclass(frozen=True, slots=True)
class PlanState:
    """An installed plan, and what became of it here.

    Attributes:
        stored: the plan.
        state: ``accepted`` by the gate on this machine, ``refused`` by it, ``waiting`` for it, ``unusable`` here, or
            ``damaged``.
        why: in words.
        advice: what to do; empty where all is well.
        signer: who signed it.
    """

    stored: StoredPlan
    state: State
    why: str
    advice: str = ""
    signer: Signer | None = None

    @property
    def name(self) -> str:
        """The plan's name, or that of its folder where its record cannot be read."""
        record = self.stored.record
        return self.stored.folder.name if record is None else record.name


def plan_states(cache: EngineCache | None = None) -> list[PlanState]:
    """Look at all installed plans; nothing is loaded or tried.

    Args:
        cache: that they lie in; by default that of the user.

    Raises:
        CacheUnusable: it cannot be read, or others can write to it.
    """
    cache = cache or EngineCache()
    store = PlanStore(cache)
    stored = list(store.stored())
    if not stored:
        return []
    manifests = _manifests()
    entries = {entry.key.digest: entry for entry in cache.entries()}
    return [_state(one, store, manifests, entries) for one in stored]


def _state(
    stored: StoredPlan, store: PlanStore, manifests: list[Manifest], entries: dict[str, CacheEntry]
) -> PlanState:
    again = f"install it again, or remove {stored.folder}"
    if stored.record is None:
        return PlanState(stored, "damaged", stored.problem, again)
    try:
        plan = store.open(stored.folder)
    except (BundleError, OSError) as error:
        return PlanState(stored, "damaged", str(error), again)
    if (problem := _without_bundle(plan.record, manifests)) is not None:
        return PlanState(stored, "unusable", *problem, plan.signer)
    return _on_this_machine(stored, plan, entries)


def _on_this_machine(stored: StoredPlan, plan: Plan, entries: dict[str, CacheEntry]) -> PlanState:
    record = plan.record
    if find_spec("torch") is None:
        reason = "torch is not installed: pip install 'scanside[torch,engines]'"
        return PlanState(stored, "unusable", reason, signer=plan.signer)
    from scanside.engines.backends import backend

    one = backend(record.backend)
    if missing := one.available():
        advice = f"after that, {record.command}"
        return PlanState(stored, "unusable", missing, advice, plan.signer)
    if misfit := one.misfit(record):
        return PlanState(stored, "unusable", f"it {misfit}", signer=plan.signer)
    if record.precision not in one.precisions():
        reason = f"this GPU does not compute in {record.precision}"
        return PlanState(stored, "unusable", reason, "take the plan in fp32", plan.signer)
    entry = entries.get(plan_key(plan, one).digest)
    if entry is None:
        return PlanState(stored, "waiting", "not tried on this GPU yet", record.command, plan.signer)
    if entry.report.passed:
        took = "" if entry.report.median_ms is None else f", {entry.report.median_ms:.1f} ms then"
        return PlanState(stored, "accepted", f"on {entry.key.hardware}{took}", signer=plan.signer)
    why = "; ".join(f"{check.name} {check.note}".strip() for check in entry.report.failures)
    return PlanState(stored, "refused", why, f"build it anew, or remove {stored.folder}", plan.signer)


def _without_bundle(record: PlanRecord, manifests: list[Manifest]) -> tuple[str, str] | None:
    """Why no bundle that is found by name goes with a plan, and what to do; None where one does."""
    whole = f"{record.bundle} {record.version}"
    own = [one for one in manifests if one.weights_sha256 == record.weights_sha256]
    if not own:
        other = next(
            (f", but {one.version} with other weights" for one in manifests if one.name == record.bundle), ""
        )
        return (
            f"its bundle {whole} is not here{other}",
            "install that bundle, or build the plan of the one that is here",
        )
    graphs = {file.sha256 for one in own for file in one.files.values()}
    if record.graph_sha256 not in graphs:
        return (
            f"it was made of another graph than {whole} has here",
            "build the plan of the bundle that is here",
        )
    return None


def _manifests() -> list[Manifest]:
    """Of all bundles that are found by name; what is wrong with others is told where bundles are looked at."""
    found = []
    for folder in available_bundles().values():
        try:
            found.append(Manifest.from_bytes((folder / MANIFEST_FILE).read_bytes(), str(folder)))
        except (BundleError, OSError):
            continue
    return found
