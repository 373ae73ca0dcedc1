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

    def create_execution_context(self) -> object | None:
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


@pytest.fixture
def fake_trt() -> FakeTensorRt:
    """Bindings whose plan takes ``image (1, 2)`` and ``maps (1, 3)``."""
    return FakeTensorRt()
