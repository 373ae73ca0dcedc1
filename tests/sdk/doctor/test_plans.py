"""Installed plans, as `doctor` tells of them."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from scanside.doctor.bundles import check_bundles
from scanside.doctor.check import Check
from scanside.doctor.plans import check_plans
from scanside.engines import catalog
from scanside.engines.build import BundleSource, Workshop
from scanside.engines.bundle import Bundle
from scanside.engines.cache import EngineCache
from scanside.engines.plan_record import PLAN_FILE
from scanside.engines.plan_store import PlanStore


@pytest.fixture
def installed(
    rtx_gpu: Any, bundle_folder: Path, plan_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Path:
    monkeypatch.setenv("SCANSIDE_ENGINE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("SCANSIDE_ENGINES", str(bundle_folder.parent))
    monkeypatch.setattr(catalog, "_SHIPPED", tmp_path / "none")
    assert check_plans() == []
    return PlanStore().install(plan_folder).folder


def only() -> Check:
    (check,) = check_plans()
    return check


def accept(bundle_folder: Path) -> None:
    Workshop(BundleSource(Bundle.open(bundle_folder), (64, 64)), EngineCache()).candidates(
        ("tensorrt_rtx",), "fp32"
    )


def test_waiting_then_accepted(installed: Path, bundle_folder: Path) -> None:
    check = only()
    assert (check.name, check.status) == ("plan tiny-1.2.3-64x64-fp32", "missing")
    assert check.found == "installed, not signed; not tried on this GPU yet"
    assert check.advice == "scanside engines build tiny --backend tensorrt_rtx --bucket 64x64"
    accept(bundle_folder)
    check = only()
    assert (check.status, check.advice) == ("ok", "")
    assert check.found.startswith(
        "installed, not signed; accepted on cuda NVIDIA RTX A4000 sm86 driver 570.1, "
    )


def test_refused(installed: Path, bundle_folder: Path, planned: Callable[..., Path], tmp_path: Path) -> None:
    PlanStore().install(planned(tmp_path / "wrong", bundle_folder, b"times 3"))
    accept(bundle_folder)
    check = only()
    assert check.status == "problem"
    assert "refused here: relative-error" in check.found
    assert f"remove {installed}" in check.advice


def test_engine_of_a_removed_plan_is_none(installed: Path, bundle_folder: Path) -> None:
    accept(bundle_folder)
    (bundle,) = check_bundles()
    assert bundle.status == "ok"
    assert "accepted here: tensorrt_rtx fp32 64×64" in bundle.found
    shutil.rmtree(installed)
    (bundle,) = check_bundles()
    assert bundle.status == "missing"
    assert check_plans() == []


def test_of_no_use_here(installed: Path, rtx_gpu: Any) -> None:
    rtx_gpu.__version__ = "1.6.1.120"
    check = only()
    assert check.status == "missing"
    assert "of no use here: it was built with TensorRT-RTX 1.5.0.114" in check.found


def test_damaged(installed: Path) -> None:
    (installed / PLAN_FILE).write_bytes(b"times")
    check = only()
    assert check.status == "problem"
    assert "engine.plan has 5 bytes, the record says 7" in check.found
    assert check.advice == f"install it again, or remove {installed}"
    shutil.rmtree(installed)
    installed.mkdir()
    check = only()
    assert check.name == f"plan {installed.name}"
    assert "it has no plan.json" in check.found


def test_folder_that_others_can_write_is_told_of_the_cache(installed: Path) -> None:
    installed.parent.chmod(0o777)
    check = only()
    assert (check.name, check.status) == ("plans", "problem")
    assert "cannot be trusted" in check.found
