"""What both backends of TensorRT share: reasons for absence, what they refuse, what they write."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from scanside.engines.backends import cuda_graph, trt_backend, trt_build
from scanside.engines.backends.tensorrt_rtx import TensorRtRtx
from scanside.engines.backends.torch_tensorrt import TorchTensorRt
from scanside.engines.backends.trt_backend import TensorRtBackend
from scanside.engines.backends.trt_build import PLAN_FILE, BuiltPlan
from scanside.errors import BackendUnavailable, EngineError
from scanside.testing.backends import small_source


@pytest.fixture(params=[TorchTensorRt, TensorRtRtx])
def backend(request: pytest.FixtureRequest) -> TensorRtBackend:
    made: TensorRtBackend = request.param()
    return made


@pytest.fixture
def complete(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """A machine with everything; tests take single things away."""
    monkeypatch.setattr(trt_build.importlib.util, "find_spec", lambda name: object())
    bindings = SimpleNamespace(__version__="1.5", ComputeCapability=SimpleNamespace(__members__={"SM86": 86}))
    monkeypatch.setattr(trt_backend.importlib, "import_module", lambda name: bindings)
    monkeypatch.setattr(cuda_graph.ctypes, "CDLL", lambda name: object())
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: (8, 6))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "NVIDIA H200")
    monkeypatch.setattr(trt_build, "installed", lambda distribution: torch.__version__)
    return monkeypatch


def raising(error: Exception) -> Callable[..., Any]:
    def function(*arguments: object) -> Any:
        raise error

    return function


def test_complete_machine_is_available(backend: TensorRtBackend, complete: pytest.MonkeyPatch) -> None:
    assert backend.available() is None
    assert backend.buildable() is None
    assert backend.precisions() == ("fp32", "bf16")


def test_absent_bindings_are_the_reason(backend: TensorRtBackend, complete: pytest.MonkeyPatch) -> None:
    complete.setattr(trt_build.importlib.util, "find_spec", lambda name: None)
    library = backend.library
    expected = f"the package '{library.packages[0]}' is not installed: {library.install}"
    assert backend.available() == backend.buildable() == expected
    assert library.install.startswith("pip install ")


def test_absent_converter_is_the_reason_not_to_build(
    backend: TensorRtBackend, complete: pytest.MonkeyPatch
) -> None:
    complete.setattr(trt_build, "installed", lambda distribution: None)
    assert backend.available() is None
    assert f"the package '{backend.library.converter}' is not installed: pip install" in str(
        backend.buildable()
    )


def test_converter_of_another_torch_builds_nothing(
    backend: TensorRtBackend, complete: pytest.MonkeyPatch
) -> None:
    complete.setattr(trt_build, "installed", lambda distribution: "1.99.0")
    assert backend.available() is None
    assert f"{backend.library.converter} 1.99.0 does not go with torch {torch.__version__}" in str(
        backend.buildable()
    )


def test_torch_without_cuda_is_the_reason(backend: TensorRtBackend, complete: pytest.MonkeyPatch) -> None:
    complete.setattr(torch.version, "cuda", None)
    assert "built without CUDA" in str(backend.available())


def test_missing_driver_is_the_reason(backend: TensorRtBackend, complete: pytest.MonkeyPatch) -> None:
    complete.setattr(cuda_graph.ctypes, "CDLL", raising(OSError("libcuda.so.1: cannot open")))
    assert "no NVIDIA driver" in str(backend.available())


def test_missing_gpu_is_the_reason(backend: TensorRtBackend, complete: pytest.MonkeyPatch) -> None:
    complete.setattr(torch.cuda, "is_available", lambda: False)
    assert "torch sees no GPU" in str(backend.available())


def test_missing_library_is_the_reason(backend: TensorRtBackend, complete: pytest.MonkeyPatch) -> None:
    binary = backend.library.binary
    failing = raising(ImportError(f"{binary}.so.1: cannot open shared object file"))
    complete.setattr(trt_backend.importlib, "import_module", failing)
    reason = str(backend.available())
    assert reason.startswith(f"{backend.library.title}'s library {binary} is missing: {binary}.so.1")
    assert reason.endswith(backend.library.install)


def test_any_other_failure_of_an_import_is_told_as_it_is(
    backend: TensorRtBackend, complete: pytest.MonkeyPatch
) -> None:
    complete.setattr(trt_backend.importlib, "import_module", raising(Exception("no such\n  thing")))
    assert backend.available() == f"'import {backend.library.bindings}' fails: no such thing"


def test_turing_has_no_bf16(backend: TensorRtBackend, complete: pytest.MonkeyPatch) -> None:
    complete.setattr(torch.cuda, "get_device_capability", lambda: (7, 5))
    assert backend.precisions() == ("fp32",)


def test_gpu_that_tensorrt_rtx_does_not_build_for_is_named(complete: pytest.MonkeyPatch) -> None:
    complete.setattr(torch.cuda, "get_device_capability", lambda: (9, 0))
    assert TensorRtRtx().available() is None
    assert TensorRtRtx().buildable() == (
        "NVIDIA H200 has compute capability 9.0, and TensorRT-RTX 1.5 builds for 8.6 only: take the backend "
        "aoti-cuda, or torch_tensorrt"
    )
    assert TorchTensorRt().buildable() is None
    # What would have to be installed besides is of no interest then.
    complete.setattr(trt_build, "installed", lambda distribution: None)
    assert str(TensorRtRtx().buildable()).startswith("NVIDIA H200 has")


def test_machine_that_lacks_something_is_told_what(backend: TensorRtBackend, tmp_path: Path) -> None:
    if (reason := backend.buildable()) is None:
        pytest.skip("this machine has all that it takes")
    with pytest.raises(BackendUnavailable) as raised:
        backend.build(small_source(), "fp32", tmp_path)
    assert reason in str(raised.value)
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(BackendUnavailable, match="cannot be run here"):
        backend.load(tmp_path, small_source(), "fp32")


def test_engines_of_this_machine_are_built_for_its_gpu(complete: pytest.MonkeyPatch, tmp_path: Path) -> None:
    asked: list[tuple[str, tuple[str, ...]]] = []

    def build(source: object, precision: object, library: trt_build.Library, targets: Any) -> BuiltPlan:
        asked.append((library.title, targets))
        return BuiltPlan(b"plan", 1, (1,), {})

    complete.setattr(trt_backend, "build_plan", build)
    TensorRtRtx().build(small_source(), "fp32", tmp_path)
    assert asked == [("TensorRT-RTX", ("8.6",))]
    assert (tmp_path / PLAN_FILE).read_bytes() == b"plan"


def test_plan_that_is_not_there_is_told(
    backend: TensorRtBackend, complete: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with pytest.raises(EngineError, match="cannot be read"):
        TensorRtBackend.load(backend, tmp_path, small_source(), "fp32")


@pytest.mark.plans
@pytest.mark.usefixtures("rtx_builder")
def test_real_bindings_have_all_that_is_called() -> None:
    """What running a plan calls, which no machine without a driver gets to call."""
    trt = TensorRtRtx().bindings()
    expected = {
        trt: "ILogger Runtime EngineValidity EngineInvalidityDiagnostics ComputeCapability TensorIOMode float32",
        trt.Runtime: "deserialize_cuda_engine engine_header_size get_engine_validity",
        trt.ICudaEngine: "num_io_tensors get_tensor_name get_tensor_mode get_tensor_shape get_tensor_dtype "
        "create_execution_context create_runtime_config",
        trt.IRuntimeConfig: "create_runtime_cache set_runtime_cache",
        trt.IRuntimeCache: "serialize deserialize",
        trt.IExecutionContext: "set_tensor_address execute_async_v3",
        trt.TensorIOMode: "OUTPUT",
        trt.EngineValidity: "VALID SUBOPTIMAL INVALID",
    }
    missing = [
        f"{owner}.{name}"
        for owner, names in expected.items()
        for name in names.split()
        if not hasattr(owner, name)
    ]
    assert missing == []
