"""Plans are installed like bundles: whole, signed where that is asked, for no one else to change."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest

from scanside.engines.cache import EngineCache, EngineKey
from scanside.engines.plan_record import PLAN_FILE, RECORD_FILE, PlanRecord
from scanside.engines.plan_store import Plan, PlanStore, is_plan, plan_folders, sign_plan
from scanside.engines.signing import generate_key
from scanside.engines.trust import TrustPolicy
from scanside.errors import BundleError, CacheUnusable, SignatureError

REQUIRED = TrustPolicy(require_signature=True)


class Fits:
    """All that is asked of a backend: whether a plan is for this machine."""

    def __init__(self, against: str | None = None) -> None:
        self.against = against

    def misfit(self, record: PlanRecord) -> str | None:
        return self.against


@pytest.fixture
def store(tmp_path: Path) -> PlanStore:
    return PlanStore(EngineCache(tmp_path / "cache"))


@pytest.fixture
def private(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A private key whose public one is trusted."""
    private, public, _ = generate_key(tmp_path / "keys", "site")
    (tmp_path / "trusted").mkdir(mode=0o700)
    shutil.copy(public, tmp_path / "trusted")
    monkeypatch.setenv("SCANSIDE_TRUSTED_KEYS", str(tmp_path / "trusted"))
    return private


def wanted(record: PlanRecord, **changes: Any) -> EngineKey:
    fields = {name: getattr(record, name) for name in ("weights_sha256", "graph_sha256", "shape", "n_coils")}
    fields |= {"precision": record.precision, "backend": record.backend, "versions": {}, "hardware": "gpu"}
    return EngineKey(**(fields | changes))


def test_plan_is_opened_and_told_from_other_folders(plan_folder: Path, tmp_path: Path) -> None:
    plan = Plan.open(plan_folder)
    assert (plan.record.name, plan.signer) == ("tiny-1.2.3-64x64-fp32", None)
    assert is_plan(plan_folder)
    assert plan_folders(plan_folder) == plan_folders(plan_folder.parent) == [plan_folder]
    assert plan_folders(tmp_path / "bundles") == []


def damaged(folder: Path, how: str) -> None:
    plan, record = folder / PLAN_FILE, folder / RECORD_FILE
    if how == "truncated":
        plan.write_bytes(plan.read_bytes()[:-1])
    elif how == "changed":
        plan.write_bytes(b"times 3")
    elif how == "no plan":
        plan.unlink()
    elif how == "no record":
        record.unlink()
    elif how == "half a record":
        record.write_bytes(record.read_bytes()[:100])
    elif how == "newer":
        record.write_text(json.dumps(json.loads(record.read_bytes()) | {"schema_version": 2}))
    elif how == "more":
        (folder / "more").write_bytes(b"")
    elif how == "link":
        plan.rename(folder.parent / "elsewhere")
        plan.symlink_to(folder.parent / "elsewhere")


DAMAGES = {
    "truncated": r"engine\.plan has 6 bytes, the record says 7: fetch the plan again, or build it again",
    "changed": r"engine\.plan was changed: its SHA-256",
    "no plan": r"file 'engine\.plan' is missing",
    "no record": r"is no plan: it has no plan\.json",
    "half a record": r"plan\.json",
    "newer": "made by a newer Scanside",
    "more": "file 'more' does not stand in the record",
    "link": r"engine\.plan is a symbolic link",
}


@pytest.mark.parametrize("how", DAMAGES)
def test_plan_that_is_not_whole_is_neither_installed_nor_signed(
    how: str, plan_folder: Path, store: PlanStore, private: Path
) -> None:
    damaged(plan_folder, how)
    with pytest.raises(BundleError, match=DAMAGES[how]):
        store.install(plan_folder)
    with pytest.raises(BundleError, match=DAMAGES[how]):
        sign_plan(plan_folder, private)
    assert list(store.stored()) == []


def test_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"a plan is a folder with a plan\.json"):
        Plan.open(tmp_path / "none")


def test_installed_plan_is_for_its_owner_alone(plan_folder: Path, store: PlanStore) -> None:
    plan_folder.chmod(0o777)
    (plan_folder / PLAN_FILE).chmod(0o666)
    plan = store.install(plan_folder)
    assert plan.folder.is_relative_to(store.folder)
    for folder in (store.folder.parent, store.folder, plan.folder):
        assert folder.stat().st_mode & 0o777 == 0o700
    assert {path.name: path.stat().st_mode & 0o777 for path in plan.folder.iterdir()} == {
        PLAN_FILE: 0o600,
        RECORD_FILE: 0o600,
    }
    assert store.open(plan.folder) == plan
    # Engines are told from them.
    assert list(EngineCache(store.folder.parent).entries()) == []


def test_store_that_others_can_write_is_not_read(plan_folder: Path, store: PlanStore) -> None:
    plan = store.install(plan_folder)
    for folder in (store.folder, store.folder.parent):
        folder.chmod(0o777)
        with pytest.raises(CacheUnusable, match="cannot be trusted, as engines are code and its mode 0777"):
            list(store.stored())
        with pytest.raises(CacheUnusable, match="cannot be trusted"):
            store.install(plan_folder)
        folder.chmod(0o700)
    (plan.folder / PLAN_FILE).chmod(0o666)
    with pytest.raises(BundleError, match="cannot be trusted, as its mode 0666 lets others write: install"):
        store.open(plan.folder)


def test_newer_plan_takes_the_place_of_one_for_the_same(
    plan_folder: Path, planned: Callable[..., Path], bundle_folder: Path, store: PlanStore, tmp_path: Path
) -> None:
    first = store.install(plan_folder)
    again = planned(tmp_path / "again", bundle_folder, b"times 2, faster", targets=("12.0",))
    second = store.install(again)
    assert second.folder == first.folder
    assert second.sha256 != first.sha256
    assert [one.record for one in store.stored()] == [second.record]
    # One for the next release of the library waits beside it.
    later = {"torch": "2.14.0", "tensorrt-rtx-cu13-bindings": "1.6.1.120"}
    store.install(planned(tmp_path / "later", bundle_folder, versions=later))
    assert len(list(store.stored())) == 2


def test_policy_holds_for_plans(plan_folder: Path, store: PlanStore, private: Path) -> None:
    with pytest.raises(SignatureError, match="is not signed, and signatures are required here"):
        store.install(plan_folder, REQUIRED)
    assert store.install(plan_folder).signer is None
    sign_plan(plan_folder, private)
    signer = store.install(plan_folder, REQUIRED).signer
    assert signer is not None
    assert (signer.name, signer.trusted) == ("site", True)
    (stored,) = store.stored()
    assert store.open(stored.folder, REQUIRED).signer == signer


@pytest.mark.parametrize("policy", [TrustPolicy(), REQUIRED])
def test_plan_changed_after_signing_is_refused_under_every_policy(
    policy: TrustPolicy, plan_folder: Path, private: Path
) -> None:
    sign_plan(plan_folder, private)
    record = plan_folder / RECORD_FILE
    record.write_bytes(record.read_bytes().replace(b'"8.9"', b'"9.0"'))
    with pytest.raises(
        SignatureError, match="does not belong to this record: it was changed after it was signed"
    ):
        Plan.open(plan_folder, policy)


def test_plan_of_another_key_is_refused_under_policy(
    plan_folder: Path, private: Path, tmp_path: Path
) -> None:
    other, _, _ = generate_key(tmp_path / "others", "other")
    sign_plan(plan_folder, other)
    with pytest.raises(SignatureError, match="not among the 1 trusted keys"):
        Plan.open(plan_folder, REQUIRED)


def test_the_newest_that_fits_is_found(
    plan_folder: Path, planned: Callable[..., Path], bundle_folder: Path, store: PlanStore, tmp_path: Path
) -> None:
    plan = store.install(plan_folder)
    key = wanted(plan.record)
    assert store.find(key, Fits(), TrustPolicy()) == (plan, "")  # type: ignore[arg-type]
    later = planned(
        tmp_path / "later",
        bundle_folder,
        created=datetime(2027, 1, 1, tzinfo=timezone.utc),
        versions={"tensorrt-rtx-cu13-bindings": "1.6.1.120"},
    )
    newer = store.install(later)
    assert store.find(key, Fits(), TrustPolicy())[0] == newer  # type: ignore[arg-type]


def test_why_none_can_be_used_is_said(plan_folder: Path, store: PlanStore) -> None:
    def find(key: EngineKey, against: str | None = None, policy: TrustPolicy = REQUIRED) -> str:
        plan, reasons = store.find(key, Fits(against), policy)  # type: ignore[arg-type]
        assert plan is None
        return reasons

    record = Plan.open(plan_folder).record
    assert find(wanted(record)) == ""
    folder = store.install(plan_folder).folder
    assert find(wanted(record), "is for 8.6") == "the installed plan is for 8.6"
    assert "the installed plan is not used: " in find(wanted(record))
    assert "is not signed" in find(wanted(record))
    for change in ({"shape": (128, 96)}, {"precision": "bf16"}, {"graph_sha256": "0"}, {"n_coils": 8}):
        said = find(wanted(record, **change))
        assert said == "the plans that are installed for it are others: tiny-1.2.3-64x64-fp32"
    assert find(wanted(record, weights_sha256="0")) == ""
    (folder / PLAN_FILE).write_bytes(b"times 3")
    assert "was changed" in find(wanted(record), policy=TrustPolicy())
