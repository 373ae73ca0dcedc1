"""A small bundle, plans of it, and bindings that run them: for the tests of engines and of their commands."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

BUNDLE_FIELDS: dict[str, Any] = {
    "name": "tiny",
    "version": "1.2.3",
    "created": datetime(2026, 1, 2, 3, 4, 5, tzinfo=timezone.utc),
    "made_with": {"scanside": "0.0", "torch": "2.13.0"},
    "description": "Multiplies by one number.",
    "task": "image",
    "inputs": [{"name": "image", "axes": ["batch", 2, "k1", "k0"]}],
    "outputs": [{"name": "image", "axes": ["batch", 2, "k1", "k0"]}],
    "lowering": "none",
    "shapes": {"multiple_of": 8, "buckets": [[64, 64], [128, 96]]},
    "input_image": "zero-filled",
    "graphs": {"fp32": "graph.pt2"},
    "trained_on": [{"name": "nothing", "licence": "CC0", "what": "a number that was made up"}],
    "sampling": {
        "acceleration": {"low": 3, "high": 5},
        "acs_lines": {"low": 16, "high": 32},
        "kinds": ["equispaced", "random"],
        "matrix": {"low": 64, "high": 128},
        "n_coils": {"low": 4, "high": 16},
        "anatomy": ["brain"],
    },
    "metrics": [
        {
            "dataset": "made up",
            "sampling": "R = 4",
            "rows": {"network": {"psnr_db": 30.5}, "zero-filled": {"psnr_db": 25.0, "ssim": 0.5}},
        }
    ],
    "n_parameters": 1,
}


@pytest.fixture(scope="session")
def _made_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    import torch
    from safetensors.torch import save_file

    from scanside.engines.archive import save_graph
    from scanside.engines.bundle import BundleWriter

    class Scale(torch.nn.Module):
        def forward(self, weights: dict[str, torch.Tensor], image: torch.Tensor) -> torch.Tensor:
            return image * weights["scale"]

    weights = {"scale": torch.tensor([2.0])}
    sizes = {2: torch.export.Dim("k1", min=2), 3: torch.export.Dim("k0", min=2)}
    image = torch.ones(1, 2, 8, 8)
    program = torch.export.export(Scale(), (weights, image), dynamic_shapes=({"scale": {}}, sizes))
    folder = tmp_path_factory.mktemp("bundle") / "tiny"
    with BundleWriter(folder) as writer:
        save_graph(program, writer.path("graph.pt2"))
        save_file(weights, writer.path("weights.safetensors"))
        case = torch.randn(2, 64, 64, generator=torch.Generator().manual_seed(1))
        vectors = {"real-0.image": case, "real-0.truth": 2 * case}
        save_file(vectors, writer.path("vectors.safetensors"))
        writer.finish(**BUNDLE_FIELDS)
    return folder


@pytest.fixture
def bundle_folder(_made_bundle: Path, tmp_path: Path) -> Path:
    """A bundle that a test may change."""
    return Path(shutil.copytree(_made_bundle, tmp_path / "bundles" / "tiny"))


@pytest.fixture(scope="session")
def bundle_fields() -> Callable[..., dict[str, Any]]:
    """Fields of the bundle's manifest but its files, with changes."""
    return lambda **changes: {**BUNDLE_FIELDS, **changes}


@pytest.fixture
def plan_folder(bundle_folder: Path, tmp_path: Path) -> Path:
    """A plan that says that it was made of that bundle, and is none: what a library would read is ``times 2``."""
    return write_plan(tmp_path / "plans", bundle_folder)


@pytest.fixture(scope="session")
def planned() -> Callable[..., Path]:
    """Writes such a plan, with other fields or content."""
    return write_plan


def write_plan(folder: Path, bundle: Path, content: bytes = b"times 2", **changes: Any) -> Path:
    """A plan of a bundle in a folder, under its name; see the fixture ``plan_folder``."""
    from scanside.engines.bundle import Bundle
    from scanside.engines.hashing import file_record
    from scanside.engines.plan_record import PLAN_FILE, RECORD_FILE, PlanRecord, this_platform

    opened = Bundle.open(bundle)
    draft = folder / ".draft"
    draft.mkdir(parents=True)
    (draft / PLAN_FILE).write_bytes(content)
    shape = changes.get("shape", (64, 64))
    fields: dict[str, Any] = {
        "bundle": opened.name,
        "version": opened.manifest.version,
        "manifest_sha256": opened.sha256,
        "weights_sha256": opened.manifest.weights_sha256,
        "graph_sha256": opened.graph_sha256(),
        "shape": shape,
        "precision": "fp32",
        "inputs": [{"name": "image", "shape": (1, 2, *shape)}],
        "output": (1, 2, *shape),
        "targets": ("8.6", "8.9"),
        "platform": this_platform(),
        "versions": {"torch": "2.13.0", "tensorrt-rtx-cu13-bindings": "1.5.0.114"},
        "layers": 3,
        "build_seconds": 1.5,
        "created": datetime(2026, 1, 2, 3, 4, 5, tzinfo=timezone.utc),
        "files": {PLAN_FILE: file_record(draft / PLAN_FILE)},
    }
    record = PlanRecord(**(fields | changes))
    (draft / RECORD_FILE).write_bytes(record.to_bytes())
    return draft.replace(folder / record.name)


# TensorRT's bindings. Real ones deserialise nothing where there is no driver.


class FakeKernels:
    """A runtime cache: knows what was read, and gives what was made."""

    def __init__(self) -> None:
        self.read: list[bytes] = []
        self.readable = True

    def deserialize(self, data: bytes) -> bool:
        self.read.append(data)
        return self.readable

    def serialize(self) -> bytes:
        return b"kernels"


class FakeEngine:
    """What TensorRT would say of a plan: its inputs by name, and one output of the shape of the first."""

    output_type = "float32"
    context: object | None = object()

    def __init__(self, **inputs: tuple[int, ...]) -> None:
        self.shapes = {**inputs, "output": next(iter(inputs.values()))}
        self.kernels = FakeKernels()
        self.attached: list[FakeKernels] = []
        self.strategies: list[str] = []

    @property
    def num_io_tensors(self) -> int:
        return len(self.shapes)

    def get_tensor_name(self, i: int) -> str:
        return list(self.shapes)[i]

    def get_tensor_mode(self, name: str) -> str:
        return "output" if name == "output" else "input"

    def get_tensor_shape(self, name: str) -> list[int]:
        return list(self.shapes[name])

    def get_tensor_dtype(self, name: str) -> str:
        return self.output_type if name == "output" else "float32"

    device_memory_size_v2 = 0

    def create_execution_context(self, config: object = None) -> object | None:
        return self.context

    def create_runtime_config(self) -> Any:
        return SimpleNamespace(
            create_runtime_cache=lambda: self.kernels,
            set_runtime_cache=self.attached.append,
            set_execution_context_allocation_strategy=self.strategies.append,
        )


class FakeLogger:
    """The base of loggers."""

    Severity = SimpleNamespace(INTERNAL_ERROR=0, ERROR=1, WARNING=2, INFO=3)


class FakeTensorRt:
    """The module. Its plans deserialise to ``engine``; where that is None, ``says`` goes to the log."""

    ILogger = FakeLogger
    TensorIOMode = SimpleNamespace(OUTPUT="output")
    float32 = "float32"

    def __init__(self) -> None:
        self.engine: FakeEngine | None = FakeEngine(image=(1, 2), maps=(1, 3))
        self.says: tuple[str, ...] = ()
        self.given: list[bytes] = []

    def Runtime(self, log: Any) -> Any:  # noqa: N802 — as TensorRT calls it
        def deserialize(plan: bytes) -> FakeEngine | None:
            self.given.append(bytes(plan))
            for text in self.says:
                log.log(FakeLogger.Severity.ERROR, text)
            return self.engine

        return SimpleNamespace(deserialize_cuda_engine=deserialize)


class FakeRtx(FakeTensorRt):
    """The same for TensorRT-RTX: says of a plan's first bytes whether it may run here."""

    __version__ = "1.5.0.114"
    ExecutionContextAllocationStrategy = SimpleNamespace(STATIC="static", USER_MANAGED="user managed")
    EngineValidity = SimpleNamespace(VALID=0, SUBOPTIMAL=1, INVALID=2)
    EngineInvalidityDiagnostics = SimpleNamespace(
        VERSION_MISMATCH=SimpleNamespace(value=1),
        UNSUPPORTED_CC=SimpleNamespace(value=2),
        OLD_CUDA_DRIVER=SimpleNamespace(value=4),
        INSUFFICIENT_GPU_MEMORY=SimpleNamespace(value=16),
        MALFORMED_ENGINE=SimpleNamespace(value=32),
    )
    ComputeCapability = SimpleNamespace(__members__={"NONE": 0, "CURRENT": 1, "SM86": 86, "SM120": 120})

    def __init__(self) -> None:
        super().__init__()
        self.validity = (0, 0)
        self.examined: list[bytes] = []

    def Runtime(self, log: Any) -> Any:  # noqa: N802 — as TensorRT calls it
        def examine(header: bytes) -> tuple[int, int]:
            self.examined.append(bytes(header))
            return self.validity

        runtime = super().Runtime(log)
        runtime.engine_header_size = 4
        runtime.get_engine_validity = examine
        return runtime


@pytest.fixture
def fake_trt() -> FakeTensorRt:
    """Bindings of TensorRT whose plan takes ``image (1, 2)`` and ``maps (1, 3)``."""
    return FakeTensorRt()


@pytest.fixture
def fake_rtx() -> FakeRtx:
    """Bindings of TensorRT-RTX with the same plan."""
    return FakeRtx()


@pytest.fixture
def rtx_gpu(fake_rtx: FakeRtx, monkeypatch: pytest.MonkeyPatch) -> FakeRtx:
    """A machine with TensorRT-RTX and a GPU of compute capability 8.6.

    Plans of the small bundle run there: ``times 2`` multiplies by two, and ``times 3`` by three.
    """
    import torch

    from scanside.engines import gate
    from scanside.engines.backends import tensorrt_rtx, trt_backend
    from scanside.engines.backends.base import InputShape, Runner
    from scanside.engines.backends.rtx_network import RtxNetwork

    class OnCpu(Runner):
        """In the place of a recording on a GPU."""

        def __init__(self, inputs: tuple[InputShape, ...], network: RtxNetwork) -> None:
            super().__init__(inputs)
            self.network = network

        def _run(self, tensors: tuple[torch.Tensor, ...]) -> torch.Tensor:
            return self.network(*tensors)

    def multiply(network: RtxNetwork, image: torch.Tensor) -> torch.Tensor:
        return image * float(fake_rtx.given[-1].split()[1])

    fake_rtx.engine = FakeEngine(image=(1, 2, 64, 64))
    backend = tensorrt_rtx.TensorRtRtx
    monkeypatch.setattr(backend, "available", lambda self: None)
    monkeypatch.setattr(backend, "buildable", lambda self: "torch-tensorrt-rtx is not installed")
    monkeypatch.setattr(backend, "bindings", lambda self: fake_rtx)
    monkeypatch.setattr(backend, "hardware", lambda self: "cuda NVIDIA RTX A4000 sm86 driver 570.1")
    for module in (tensorrt_rtx, trt_backend):
        monkeypatch.setattr(module, "installed", lambda distribution: fake_rtx.__version__)
        monkeypatch.setattr(module, "CudaGraphRunner", OnCpu)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: (8, 6))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "NVIDIA RTX A4000")
    monkeypatch.setattr(backend, "precisions", lambda self: ("fp32", "bf16"))
    monkeypatch.setattr(RtxNetwork, "__call__", multiply)
    monkeypatch.setattr(gate, "run_fresh", lambda name, precision, folder: 0.0)
    return fake_rtx
