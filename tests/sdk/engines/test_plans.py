"""What a plan says of itself, and that one is built without a GPU where the libraries are."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from scanside.engines.backends.trt_build import RTX, cannot_convert
from scanside.engines.build import BundleSource
from scanside.engines.bundle import Bundle
from scanside.engines.catalog import find_bundle
from scanside.engines.plan_record import PLAN_FILE, RECORD_FILE, PlanRecord, check_targets, plan_name
from scanside.engines.plans import build_plan_folder
from scanside.errors import BackendUnavailable, BundleError, ConfigError

SHA = "0" * 64
FIELDS: dict[str, Any] = {
    "bundle": "brain-student",
    "version": "1.2.3",
    "manifest_sha256": SHA,
    "weights_sha256": SHA,
    "graph_sha256": SHA,
    "shape": (256, 192),
    "precision": "fp32",
    "inputs": [{"name": "image", "shape": (1, 2, 256, 192)}],
    "output": (1, 2, 256, 192),
    "targets": ("8.6", "12.0"),
    "platform": "linux-x86_64",
    "versions": {"torch": "2.13.0"},
    "layers": 9,
    "build_seconds": 1.5,
    "created": "2030-01-01T00:00:00Z",
    "files": {PLAN_FILE: {"sha256": SHA, "size": 4}},
}


def test_record_is_read_back() -> None:
    record = PlanRecord(**FIELDS)
    assert PlanRecord.from_bytes(record.to_bytes()) == record
    assert record.size == 4


def test_folder_says_what_the_plan_is_for() -> None:
    assert PlanRecord(**FIELDS).name == "brain-student-1.2.3-256x192-fp32"
    name = plan_name("multicoil-unrolled", "1.1.0", (256, 256), 8, "columns", "bf16")
    assert name == "multicoil-unrolled-1.1.0-256x256-8coils-columns-bf16"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"targets": []}, "targets"),
        ({"targets": ["8.6", "8.6"]}, "a target stands twice"),
        ({"targets": ["sm86"]}, "targets.0"),
        ({"inputs": []}, "inputs"),
        ({"inputs": [{"name": "image", "shape": [1]}] * 2}, "an input stands twice"),
        ({"backend": "torch_tensorrt"}, "backend"),
        ({"layers": 0}, "layers"),
        ({"files": {}}, "must list 'engine.plan' and nothing else"),
        ({"files": {"../engine.plan": {"sha256": SHA, "size": 1}}}, "nothing else"),
        ({"files": {PLAN_FILE: {"sha256": "1", "size": 4}}}, "files.engine.plan.sha256"),
        ({"precision": "int4"}, "precision"),
        ({"another": 1}, "another"),
    ],
)
def test_record_that_cannot_be_right_is_refused(change: dict[str, Any], words: str) -> None:
    record = json.loads(PlanRecord(**FIELDS).to_bytes()) | change
    with pytest.raises(BundleError, match=words):
        PlanRecord.from_bytes(json.dumps(record).encode())


def test_record_of_a_newer_form_says_so() -> None:
    record = json.loads(PlanRecord(**FIELDS).to_bytes()) | {"schema_version": 2}
    with pytest.raises(BundleError, match="made by a newer Scanside"):
        PlanRecord.from_bytes(json.dumps(record).encode())


def test_targets_are_compute_capabilities_each_once() -> None:
    assert check_targets(["8.6", "12.0", "8.6"]) == ("8.6", "12.0")


@pytest.mark.parametrize("wrong", [[], ["86"], ["8.6", "sm_89"], ["8.6 "], ["0.1"]])
def test_what_is_no_compute_capability_is_refused(wrong: list[str]) -> None:
    with pytest.raises(ConfigError, match=r"such as 8\.6,8\.9,12\.0.*nvidia-smi"):
        check_targets(wrong)


def student() -> BundleSource:
    return BundleSource(Bundle.open(find_bundle("brain-student")), (192, 192))


def test_machine_without_the_libraries_is_told_what_to_install(tmp_path: Path) -> None:
    if (reason := cannot_convert(RTX)) is None:
        pytest.skip("this environment has the libraries")
    with pytest.raises(BackendUnavailable, match="TensorRT-RTX cannot be built here") as raised:
        build_plan_folder(student(), "fp32", tmp_path / "plans")
    assert reason in str(raised.value)
    assert "pip install --no-deps 'tensorrt-rtx-cu13-bindings==" in reason
    assert not (tmp_path / "plans").exists()


def test_plan_that_is_there_is_not_replaced_unasked(tmp_path: Path) -> None:
    source = student()
    manifest = source.bundle.manifest
    folder = tmp_path / plan_name(manifest.name, manifest.version, (192, 192), None, None, "fp32")
    folder.mkdir()
    with pytest.raises(FileExistsError, match="ask to replace"):
        build_plan_folder(source, "fp32", tmp_path)
    # Not even asked, where it is no plan.
    with pytest.raises(FileExistsError, match="ask to replace"):
        build_plan_folder(source, "fp32", tmp_path, replace=True)


@pytest.mark.plans
@pytest.mark.usefixtures("rtx_builder")
def test_plan_is_built_without_a_gpu_and_says_what_it_is(tmp_path: Path) -> None:
    source = student()
    manifest = source.bundle.manifest
    said: list[str] = []
    before = torch.cuda.current_device
    folder, record = build_plan_folder(source, "fp32", tmp_path, ["8.6", "12.0"], progress=said.append)
    assert [text.split()[0] for text in said] == ["reading", "translating", "building"]
    assert torch.cuda.current_device is before, (
        "what it takes to import torch_tensorrt stayed in this process"
    )
    assert "torch_tensorrt" not in sys.modules
    assert folder == tmp_path / f"brain-student-{manifest.version}-192x192-fp32"
    assert PlanRecord.from_bytes((folder / RECORD_FILE).read_bytes()) == record
    assert record.name == folder.name
    assert record.targets == ("8.6", "12.0")
    assert record.manifest_sha256 == source.bundle.sha256
    assert record.weights_sha256 == manifest.weights_sha256
    assert record.graph_sha256 == source.bundle.graph_sha256("fp32")
    assert [(one.name, one.shape) for one in record.inputs] == [("image", (1, 2, 192, 192))]
    assert record.output == (1, 2, 192, 192)
    assert record.layers > 50
    assert record.size == (folder / PLAN_FILE).stat().st_size > 4 * manifest.n_parameters, "no weights inside"
    assert sorted(path.name for path in tmp_path.rglob("*")) == sorted([folder.name, PLAN_FILE, RECORD_FILE])
