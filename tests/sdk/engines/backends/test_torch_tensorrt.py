from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

from scanside.engines.backends import cuda_graph
from scanside.engines.backends import torch_tensorrt as module
from scanside.engines.backends.base import InputShape, Precision
from scanside.engines.backends.torch_tensorrt import (
    TorchTensorRt,
    build_settings,
    check_keywords,
    read_plan,
)
from scanside.engines.gate import Reference, accept, describe
from scanside.engines.graph import GraphSource, export_graph, specialise
from scanside.engines.probes import Probe
from scanside.errors import BackendUnavailable, EngineError
from scanside.recon.consistency import sampling_inputs

HERE = {"gpu": "some GPU", "tensorrt": "11.0.0"}


@pytest.fixture
def complete(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """A machine with everything; tests take single things away."""
    monkeypatch.setattr(module.importlib.util, "find_spec", lambda name: object())
    monkeypatch.setattr(module.importlib, "import_module", ModuleType)
    monkeypatch.setattr(cuda_graph.ctypes, "CDLL", lambda name: object())
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(module, "_installed", lambda distribution: torch.__version__)
    return monkeypatch


def raising(error: Exception) -> Callable[..., Any]:
    def function(*arguments: object) -> Any:
        raise error

    return function


def test_complete_machine_is_available(complete: pytest.MonkeyPatch) -> None:
    assert TorchTensorRt().available() is None
    assert TorchTensorRt().buildable() is None


def test_absent_package_is_the_reason(complete: pytest.MonkeyPatch) -> None:
    complete.setattr(module.importlib.util, "find_spec", lambda name: None)
    assert "'tensorrt' is not installed: pip install 'scanside[tensorrt]'" in str(TorchTensorRt().available())
    assert "'torch-tensorrt' is not installed" in str(TorchTensorRt().buildable())


def test_torch_without_cuda_is_the_reason(complete: pytest.MonkeyPatch) -> None:
    complete.setattr(torch.version, "cuda", None)
    assert "built without CUDA" in str(TorchTensorRt().available())


def test_missing_driver_is_the_reason(complete: pytest.MonkeyPatch) -> None:
    complete.setattr(cuda_graph.ctypes, "CDLL", raising(OSError("libcuda.so.1: cannot open")))
    assert "no NVIDIA driver" in str(TorchTensorRt().available())


def test_missing_gpu_is_the_reason(complete: pytest.MonkeyPatch) -> None:
    complete.setattr(torch.cuda, "is_available", lambda: False)
    assert "torch sees no GPU" in str(TorchTensorRt().available())


def test_missing_library_is_the_reason(complete: pytest.MonkeyPatch) -> None:
    failing = raising(ImportError("libnvinfer.so.11: cannot open shared object file"))
    complete.setattr(module.importlib, "import_module", failing)
    reason = str(TorchTensorRt().available())
    assert reason.startswith("TensorRT's library libnvinfer is missing: libnvinfer.so.11")


def test_any_other_failure_of_an_import_is_told_as_it_is(complete: pytest.MonkeyPatch) -> None:
    # torch_tensorrt raises a plain Exception.
    complete.setattr(module.importlib, "import_module", raising(Exception("no such\n  thing")))
    assert TorchTensorRt().available() == "'import tensorrt' fails: no such thing"


def test_torch_tensorrt_of_another_torch_builds_nothing(complete: pytest.MonkeyPatch) -> None:
    complete.setattr(module, "_installed", lambda distribution: "1.99.0")
    assert TorchTensorRt().available() is None
    assert "torch-tensorrt 1.99.0 does not go with torch" in str(TorchTensorRt().buildable())


def test_keyword_that_would_be_swallowed_is_an_error() -> None:
    def compiles(program: object, *, disable_tf32: bool = False, **kwargs: object) -> None: ...

    check_keywords(compiles, ["program", "disable_tf32"])
    with pytest.raises(EngineError, match="would ignore enabled_precisions, kwargs: 'compiles'"):
        check_keywords(compiles, ["disable_tf32", "enabled_precisions", "kwargs"])


def test_fp32_is_not_tf32_and_foreign_caches_are_off() -> None:
    settings = build_settings()
    assert settings["disable_tf32"] is True
    assert settings["require_full_compilation"] is True
    assert settings["reuse_cached_engines"] is False


def written(folder: Path, **changes: object) -> Path:
    record = {**HERE, "inputs": ["image", "maps"], **changes}
    (folder / "engine.json").write_text(json.dumps(record), "utf-8")
    (folder / "engine.plan").write_bytes(b"plan")
    return folder


def test_plan_is_read_back(tmp_path: Path) -> None:
    assert read_plan(written(tmp_path), HERE) == (b"plan", ["image", "maps"])


@pytest.mark.parametrize("key", HERE)
def test_plan_of_another_gpu_or_version_is_refused(key: str, tmp_path: Path) -> None:
    with pytest.raises(EngineError, match=f"built with {key} other, here {HERE[key]}: build it again"):
        read_plan(written(tmp_path, **{key: "other"}), HERE)


@pytest.mark.parametrize("damage", ["no plan", "no record", "no JSON", "key missing"])
def test_incomplete_plan_is_refused(damage: str, tmp_path: Path) -> None:
    written(tmp_path)
    if damage == "no plan":
        (tmp_path / "engine.plan").unlink()
    elif damage == "no record":
        (tmp_path / "engine.json").unlink()
    elif damage == "no JSON":
        (tmp_path / "engine.json").write_text('{"gpu": ', "utf-8")
    else:
        (tmp_path / "engine.json").write_text('{"gpu": "some GPU"}', "utf-8")
    with pytest.raises(EngineError, match="not a whole TensorRT engine"):
        read_plan(tmp_path, HERE)


class Cascade(torch.nn.Module):
    """One data-consistency step around a convolution."""

    def __init__(self, lowering: str, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        self.lowering = lowering
        self.body = torch.nn.Conv2d(2, 2, 3, padding=1, bias=False).to(dtype)

    def forward(self, image: torch.Tensor, sampling: torch.Tensor) -> torch.Tensor:
        x = image + self.body(image.to(self.body.weight.dtype)).float()
        if self.lowering == "fft":
            planes = torch.fft.ifft(torch.fft.fft(torch.complex(x[:, 0], x[:, 1]), dim=-2) * sampling, dim=-2)
            return image + torch.stack((planes.real, planes.imag), dim=1)
        (pr, pi), (xr, xi) = sampling.unbind(1), x.unbind(1)
        return image + torch.stack((pr @ xr - pi @ xi, pr @ xi + pi @ xr), dim=1)


def source(lowering: str, size: int = 32) -> tuple[GraphSource, tuple[torch.Tensor, ...]]:
    generator = torch.Generator().manual_seed(0)
    mask = (torch.rand(1, size, 1, generator=generator) < 0.5).float()
    tensors = (torch.randn(1, 2, size, size, generator=generator), *sampling_inputs(lowering, mask))  # type: ignore[arg-type]
    programs = {}
    for precision, dtype in (("fp32", torch.float32), ("bf16", torch.bfloat16)):
        torch.manual_seed(0)
        program, weights = export_graph(Cascade(lowering, dtype).eval(), tensors, ({}, {}))
        programs[precision] = program
    shapes = tuple(InputShape(f"input{i}", tuple(tensor.shape)) for i, tensor in enumerate(tensors))
    return GraphSource(shapes, programs, {k: v.float() for k, v in weights.items()}), tensors


def test_graph_with_fourier_transforms_is_refused() -> None:
    reason = TorchTensorRt().refuses(specialise(source("fft")[0]))
    assert "no Fourier transform" in str(reason)
    assert "pmatrix" in str(reason)
    assert TorchTensorRt().refuses(specialise(source("pmatrix")[0])) is None


def test_machine_without_tensorrt_is_told_what_it_lacks(tmp_path: Path) -> None:
    backend = TorchTensorRt()
    reason = backend.buildable()
    if reason is None:
        pytest.skip("this machine has all that TensorRT takes")
    made, _ = source("pmatrix")
    with pytest.raises(BackendUnavailable) as raised:
        backend.build(made, "fp32", tmp_path)
    assert reason in str(raised.value)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.tensorrt
@pytest.mark.timeout(600)
class TestOnAGpu:
    """What only a machine with TensorRT and a GPU can show."""

    @pytest.fixture(autouse=True)
    def _buildable(self) -> None:
        if reason := TorchTensorRt().buildable():
            pytest.skip(reason)

    @pytest.mark.parametrize("precision", ["fp32", "bf16"])
    def test_engine_passes_the_gate_and_is_timed(
        self, precision: Precision, tmp_path: Path, record_property: Callable[[str, object], None]
    ) -> None:
        backend = TorchTensorRt()
        made, tensors = source("pmatrix", 256)
        if precision not in backend.precisions():
            pytest.skip(f"this GPU has no {precision}")
        zeros = (torch.zeros_like(tensors[0]), *tensors[1:])
        reference = Reference.compute(made, [Probe("random", tensors), Probe("zeros", zeros)])
        backend.build(made, precision, tmp_path)
        report = accept(backend, made, precision, tmp_path, reference)
        record_property("median_ms", report.median_ms)
        assert report.passed, describe(report)

    def test_result_is_where_the_inputs_are(self, tmp_path: Path) -> None:
        made, tensors = source("pmatrix")
        backend = TorchTensorRt()
        backend.build(made, "fp32", tmp_path)
        runner = backend.load(tmp_path, made, "fp32")
        on_gpu = runner(*(tensor.cuda() for tensor in tensors))
        assert on_gpu.is_cuda
        torch.testing.assert_close(on_gpu.cpu(), runner(*tensors), rtol=0, atol=0)

    def test_plan_loads_in_a_fresh_process_without_torch_tensorrt(self, tmp_path: Path) -> None:
        made, _ = source("pmatrix")
        TorchTensorRt().build(made, "fp32", tmp_path)
        shapes = [(spec.name, spec.shape) for spec in made.inputs]
        script = f"""
import sys, pathlib, torch
sys.modules["torch_tensorrt"] = None
from scanside.engines.backends.base import InputShape, Precision
from scanside.engines.backends.torch_tensorrt import TorchTensorRt
from scanside.engines.graph import GraphSource
shapes = tuple(InputShape(*one) for one in {shapes!r})
runner = TorchTensorRt().load(pathlib.Path({str(tmp_path)!r}), GraphSource(shapes, {{}}, {{}}), "fp32")
assert runner(*(torch.zeros(one.shape) for one in shapes)).isfinite().all()
"""
        subprocess.run([sys.executable, "-c", script], check=True)

    def test_damaged_plan_is_refused(self, tmp_path: Path) -> None:
        made, _ = source("pmatrix")
        backend = TorchTensorRt()
        backend.build(made, "fp32", tmp_path)
        plan = tmp_path / "engine.plan"
        plan.write_bytes(plan.read_bytes()[:1000])
        with pytest.raises(EngineError, match="cannot read the plan"):
            backend.load(tmp_path, made, "fp32")
