"""Bindings of TensorRT that answer as told: real ones deserialise nothing where there is no driver."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest


class FakeEngine:
    """What TensorRT would say of a plan with two inputs and one output."""

    num_io_tensors = 3
    output_type = "float32"
    context: object | None = object()

    def get_tensor_name(self, i: int) -> str:
        return ("image", "maps", "output0")[i]

    def get_tensor_mode(self, name: str) -> str:
        return "output" if name.startswith("output") else "input"

    def get_tensor_shape(self, name: str) -> list[int]:
        return {"image": [1, 2], "maps": [1, 3], "output0": [1, 2]}[name]

    def get_tensor_dtype(self, name: str) -> str:
        return self.output_type if name == "output0" else "float32"

    def create_execution_context(self, config: object = None) -> object | None:
        return self.context


class FakeLogger:
    """The base of loggers."""

    Severity = SimpleNamespace(INTERNAL_ERROR=0, ERROR=1, WARNING=2, INFO=3)


class FakeTensorRt:
    """The module. Its plans deserialise to ``engine``; where that is None, ``says`` goes to the log."""

    ILogger = FakeLogger
    TensorIOMode = SimpleNamespace(OUTPUT="output")
    float32 = "float32"

    def __init__(self) -> None:
        self.engine: FakeEngine | None = FakeEngine()
        self.says: tuple[str, ...] = ()
        self.given: list[bytes] = []

    def Runtime(self, log: Any) -> Any:  # noqa: N802 — as TensorRT calls it
        def deserialize(plan: bytes) -> FakeEngine | None:
            self.given.append(bytes(plan))
            for text in self.says:
                log.log(FakeLogger.Severity.ERROR, text)
            return self.engine

        return SimpleNamespace(deserialize_cuda_engine=deserialize)


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


class FakeRtx(FakeTensorRt):
    """The same for TensorRT-RTX: says of a plan's first bytes whether it may run here."""

    __version__ = "1.5.0.114"
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
        self.kernels = FakeKernels()
        self.attached: list[object] = []
        config = SimpleNamespace(
            create_runtime_cache=lambda: self.kernels, set_runtime_cache=self.attached.append
        )
        assert self.engine is not None
        self.engine.create_runtime_config = lambda: config  # type: ignore[attr-defined]

    def Runtime(self, log: Any) -> Any:  # noqa: N802 — as TensorRT calls it
        def examine(header: bytes) -> tuple[int, int]:
            self.examined.append(bytes(header))
            return self.validity

        runtime = super().Runtime(log)
        runtime.engine_header_size = 4
        runtime.get_engine_validity = examine
        return runtime


@pytest.fixture
def fake_rtx() -> FakeRtx:
    """Bindings of TensorRT-RTX with the same plan."""
    return FakeRtx()


@pytest.fixture
def fake_trt() -> FakeTensorRt:
    """Bindings whose plan takes ``image (1, 2)`` and ``maps (1, 3)``."""
    return FakeTensorRt()
