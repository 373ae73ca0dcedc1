"""``scanside engines build --gpus``."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import Result

from scanside.engines.backends.trt_build import RTX, BuiltPlan, cannot_convert
from scanside.engines.plan_record import DEFAULT_TARGETS, RECORD_FILE, PlanRecord
from scanside.errors import EngineError

Scanside = Callable[..., Result]

PLANS = ("engines", "build", "tiny", "--backend", "tensorrt_rtx")


@pytest.fixture
def listed(bundle_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A bundle that is found by its name."""
    monkeypatch.setenv("SCANSIDE_ENGINES", str(bundle_folder.parent))
    return bundle_folder


@pytest.fixture
def builder(listed: Path, monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, tuple[str, ...]]]:
    """Builds nothing, and refuses images of 128×96; what it was asked for."""
    asked: list[tuple[str, tuple[str, ...]]] = []

    def build(source: Any, precision: str, library: object, targets: Any, progress: Any) -> BuiltPlan:
        asked.append((f"{source.shape[0]}x{source.shape[1]} {precision}", tuple(targets)))
        progress("building")
        if source.shape == (128, 96):
            raise EngineError("no such operator")
        return BuiltPlan(b"plan", 1234, (1, 2, *source.shape), {"torch": "2"})

    monkeypatch.setattr("scanside.engines.plans.build_plan", build)
    return asked


def test_plans_are_built_for_gpus_that_are_not_here(
    scanside: Scanside, builder: list[tuple[str, tuple[str, ...]]], tmp_path: Path
) -> None:
    done = scanside(*PLANS, "--bucket", "64x64", "--gpus", "8.6, 12.0", "-o", tmp_path / "plans")
    assert builder[0] == ("64x64 fp32", ("8.6", "12.0"))
    folder = tmp_path / "plans" / "tiny-1.2.3-64x64-fp32"
    record = PlanRecord.from_bytes((folder / RECORD_FILE).read_bytes())
    assert record.targets == ("8.6", "12.0")
    assert folder.name in done.stdout
    assert "1,234" in done.stdout
    assert "8.6, 12.0" in done.stdout
    again = scanside(*PLANS, "--bucket", "64x64", "-o", tmp_path / "plans", status=1)
    assert "ask to replace" in again.stderr
    scanside(*PLANS, "--bucket", "64x64", "-o", tmp_path / "plans", "--replace")
    record = PlanRecord.from_bytes((folder / RECORD_FILE).read_bytes())
    assert record.targets == DEFAULT_TARGETS


def test_refused_plan_is_an_error_and_the_others_are_built(
    scanside: Scanside, builder: list[tuple[str, tuple[str, ...]]], tmp_path: Path
) -> None:
    """All sizes of the bundle, as none is named: 64×64 and 128×96."""
    done = scanside(*PLANS, "-o", tmp_path, status=1)
    assert {name.split()[0] for name, _ in builder} == {"64x64", "128x96"}
    assert (tmp_path / "tiny-1.2.3-64x64-fp32").is_dir()
    assert not (tmp_path / "tiny-1.2.3-128x96-fp32").exists()
    assert "plans were refused" in done.stderr
    assert "128×96  principal  fp32  refused: no such operator" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["tiny", "--gpus", "8.6"], "--output FOLDER"),
        (["tiny", "--gpus", "8.6", "--backend", "openvino", "-o", "plans"], "--backend tensorrt_rtx"),
        ([".", "--gpus", "8.6", "-o", "plans"], "training run"),
    ],
)
def test_what_does_not_go_together_is_told(
    scanside: Scanside,
    listed: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert message in " ".join(scanside("engines", "build", *arguments, status=2).stderr.split())


def test_machine_without_a_gpu_is_told_how_to_build_for_others(
    scanside: Scanside, listed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if torch.cuda.is_available():
        pytest.skip("this machine has one")
    monkeypatch.setenv("SCANSIDE_ENGINE_CACHE", str(tmp_path / "cache"))
    assert "--gpus and --output" in scanside(*PLANS, "--bucket", "64x64", status=1).stderr


def test_gpus_are_compute_capabilities(scanside: Scanside, listed: Path, tmp_path: Path) -> None:
    assert "such as 8.6,8.9,12.0" in scanside(*PLANS, "--gpus", "sm_86", "-o", tmp_path, status=1).stderr


def test_machine_without_the_libraries_is_told_what_to_install(
    scanside: Scanside, listed: Path, tmp_path: Path
) -> None:
    if (reason := cannot_convert(RTX)) is None:
        pytest.skip("this environment has the libraries")
    said = scanside(*PLANS, "--gpus", "8.6", "-o", tmp_path / "plans", status=1).stderr
    assert reason in said
    assert not (tmp_path / "plans").exists()
