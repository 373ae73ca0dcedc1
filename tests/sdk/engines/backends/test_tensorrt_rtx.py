"""What plans of TensorRT-RTX are bound to, and what of them is kept once a GPU has run them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from scanside.engines.backends.base import InputShape
from scanside.engines.backends.tensorrt_rtx import TensorRtRtx
from scanside.engines.graph import ShapesOnly
from scanside.engines.plan_record import PLAN_FILE, RECORD_FILE, PlanRecord
from scanside.errors import BundleError, EngineError
from scanside.testing import BackendTests

SOURCE = ShapesOnly((InputShape("image", (1, 2, 64, 64)),))


@pytest.mark.cuda
@pytest.mark.tensorrt
class TestTensorRtRtx(BackendTests):
    def backend(self) -> TensorRtRtx:
        return TensorRtRtx()


def test_plan_runs_where_it_is_for(rtx_gpu: Any, plan_folder: Path) -> None:
    runner = TensorRtRtx().load(plan_folder, SOURCE, "fp32")
    image = torch.ones(1, 2, 64, 64)
    torch.testing.assert_close(runner(image), 2 * image)
    assert rtx_gpu.given == [b"times 2"]


def test_engine_that_was_built_here_has_no_record(rtx_gpu: Any, tmp_path: Path) -> None:
    (tmp_path / PLAN_FILE).write_bytes(b"times 2")
    assert TensorRtRtx().load(tmp_path, SOURCE, "fp32").inputs == SOURCE.inputs


def test_kernels_are_kept_beside_the_plan_and_read_the_next_time(rtx_gpu: Any, plan_folder: Path) -> None:
    backend = TensorRtRtx()
    backend.settle(backend.load(plan_folder, SOURCE, "fp32"), plan_folder)
    assert (plan_folder / "kernels.bin").read_bytes() == b"kernels"
    assert rtx_gpu.engine.kernels.read == []
    backend.load(plan_folder, SOURCE, "fp32")
    assert rtx_gpu.engine.kernels.read == [b"kernels"]


def test_engine_without_kernels_of_its_own_keeps_none(
    rtx_gpu: Any, plan_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    backend = TensorRtRtx()
    for nothing in (None, b""):
        monkeypatch.setattr(rtx_gpu.engine.kernels, "serialize", lambda nothing=nothing: nothing)
        backend.settle(backend.load(plan_folder, SOURCE, "fp32"), plan_folder)
    assert not (plan_folder / "kernels.bin").exists()


def rewritten(folder: Path, **changes: Any) -> None:
    path = folder / RECORD_FILE
    path.write_text(json.dumps(json.loads(path.read_bytes()) | changes))


MISFITS: dict[str, tuple[dict[str, Any], str]] = {
    "another GPU": (
        {"targets": ["8.9", "12.0"]},
        r"is for GPUs of compute capability 8\.9, 12\.0, and NVIDIA RTX A4000 has 8\.6: build one for it "
        r"\(scanside engines build tiny --backend tensorrt_rtx --bucket 64x64 --gpus 8\.6 -o plans/\)",
    ),
    "another version": (
        {"versions": {"tensorrt-rtx-cu13-bindings": "1.6.1.120"}},
        r"was built with TensorRT-RTX 1\.6\.1\.120, and runs with no other release; here is 1\.5\.0\.114: build it "
        r"with that one, or pip install --no-deps tensorrt-rtx-cu13-bindings==1\.6\.1\.120 "
        r"tensorrt-rtx-cu13-libs==1\.6\.1\.120",
    ),
    "no version": ({"versions": {"torch": "2.13.0"}}, "does not say which release of TensorRT-RTX"),
    "another platform": ({"platform": "windows-amd64"}, "is for windows-amd64, and this machine is "),
}


@pytest.mark.parametrize("what", MISFITS)
def test_plan_for_something_else_is_told_so_before_it_is_read(
    what: str, rtx_gpu: Any, plan_folder: Path
) -> None:
    changes, words = MISFITS[what]
    rewritten(plan_folder, **changes)
    with pytest.raises(EngineError, match=f"the plan {words}") as raised:
        TensorRtRtx().load(plan_folder, SOURCE, "fp32")
    record = PlanRecord.from_bytes((plan_folder / RECORD_FILE).read_bytes())
    assert str(raised.value) == f"the plan {TensorRtRtx().misfit(record)}"
    assert rtx_gpu.given == rtx_gpu.examined == []


def test_gpu_that_tensorrt_rtx_does_not_know_is_named(
    rtx_gpu: Any, plan_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: (9, 0))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "NVIDIA H200")
    with pytest.raises(EngineError) as raised:
        TensorRtRtx().load(plan_folder, SOURCE, "fp32")
    assert str(raised.value) == (
        "the plan is for GPUs of compute capability 8.6, 8.9, and NVIDIA H200 has 9.0: TensorRT-RTX 1.5.0.114 builds "
        "for 8.6, 12.0 only: take the backend aoti-cuda, or torch_tensorrt"
    )


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (
            {"inputs": [{"name": "image", "shape": [1, 2, 128, 96]}]},
            r"takes image \(1, 2, 128, 96\), expected image",
        ),
        ({"inputs": [{"name": "maps", "shape": [1, 2, 64, 64]}]}, "takes maps"),
        ({"precision": "bf16"}, "is in bf16, expected fp32"),
    ],
)
def test_plan_for_other_inputs_is_not_read(
    changes: dict[str, Any], words: str, rtx_gpu: Any, plan_folder: Path
) -> None:
    rewritten(plan_folder, **changes)
    with pytest.raises(EngineError, match=f"the plan {words}"):
        TensorRtRtx().load(plan_folder, SOURCE, "fp32")
    assert rtx_gpu.given == rtx_gpu.examined == []


def test_plan_whose_record_lies_about_its_shapes(rtx_gpu: Any, plan_folder: Path) -> None:
    rtx_gpu.engine.shapes["image"] = (1, 2, 32, 32)
    with pytest.raises(EngineError, match="takes inputs of the shapes"):
        TensorRtRtx().load(plan_folder, SOURCE, "fp32")


@pytest.mark.parametrize("content", [b"times", b"times 3"])
def test_damaged_plan_is_not_read(content: bytes, rtx_gpu: Any, plan_folder: Path) -> None:
    (plan_folder / PLAN_FILE).write_bytes(content)
    with pytest.raises(
        EngineError, match=r"engine\.plan is not what its record says: install the plan again"
    ):
        TensorRtRtx().load(plan_folder, SOURCE, "fp32")
    assert rtx_gpu.given == rtx_gpu.examined == []


def test_record_that_cannot_be_read(rtx_gpu: Any, plan_folder: Path) -> None:
    (plan_folder / RECORD_FILE).write_bytes(b"{")
    with pytest.raises(BundleError, match=r"plan\.json"):
        TensorRtRtx().load(plan_folder, SOURCE, "fp32")


def test_machine_without_the_libraries_says_so(plan_folder: Path) -> None:
    if (reason := TensorRtRtx().available()) is None:
        pytest.skip("this machine has all that it takes")
    with pytest.raises(EngineError) as raised:
        TensorRtRtx().load(plan_folder, SOURCE, "fp32")
    assert reason in str(raised.value)
