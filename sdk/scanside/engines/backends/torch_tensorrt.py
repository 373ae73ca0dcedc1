"""NVIDIA TensorRT: engines for the GPU that they were built on."""

from __future__ import annotations

import json
from pathlib import Path

from scanside.engines.backends.aoti_cpu import check_target
from scanside.engines.backends.base import Precision, Runner, Source
from scanside.engines.backends.trt_backend import TensorRtBackend
from scanside.engines.backends.trt_build import TENSORRT

__all__ = ["TorchTensorRt"]

_TARGET_FILE = "target.json"


class TorchTensorRt(TensorRtBackend):
    """A plan belongs to one GPU model and one version of TensorRT; both stand beside it and are compared at load."""

    name = "torch_tensorrt"
    library = TENSORRT

    def build(self, source: Source, precision: Precision, folder: Path) -> None:
        """Build a plan, and record what it is bound to."""
        super().build(source, precision, folder)
        (folder / _TARGET_FILE).write_text(json.dumps(self._target(), indent=2) + "\n", "utf-8")

    def load(self, folder: Path, source: Source, precision: Precision) -> Runner:
        """Load a plan that was built on this kind of GPU, with this TensorRT."""
        if self.available() is None:
            check_target(folder / _TARGET_FILE, self._target())
        return super().load(folder, source, precision)

    def _target(self) -> dict[str, str]:
        return {"GPU": self.hardware(), "TensorRT": str(self.bindings().__version__)}
