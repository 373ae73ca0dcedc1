"""Backend OnnxRuntime."""

from __future__ import annotations

from scanside.engines.backends.onnxruntime import OnnxRuntime
from scanside.testing import BackendTests


class TestOnnxRuntime(BackendTests):
    def backend(self) -> OnnxRuntime:
        return OnnxRuntime()
