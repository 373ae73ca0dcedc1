"""AOTInductor on an NVIDIA GPU, replayed as a CUDA graph."""

from __future__ import annotations

import json
import os
import shutil
from importlib.util import find_spec
from pathlib import Path

import torch

from scanside.engines.backends.aoti_cpu import check_target, load_package
from scanside.engines.backends.base import Backend, Precision, Runner, Source
from scanside.engines.backends.cuda_graph import CudaGraphRunner, exact_products, no_gpu, on_gpu
from scanside.engines.backends.foreign import converting
from scanside.errors import EngineError

__all__ = ["AotiCuda"]

_PACKAGE = "engine.pt2"
_TARGET = "target.json"


class AotiCuda(Backend):
    """Compiles graph and weights for this GPU; matrix products stay in fp32, without TF32."""

    name = "aoti-cuda"
    native_code = True
    device = "cuda"

    def available(self) -> str | None:
        """None where torch sees a GPU."""
        return no_gpu()

    def buildable(self) -> str | None:
        """Triton and a C++ compiler are needed."""
        if reason := self.available():
            return reason
        if find_spec("triton") is None:
            return "triton is not installed: install torch with CUDA from its own wheels"
        compiler = os.environ.get("CXX", "g++")
        return (
            None
            if shutil.which(compiler)
            else f"there is no C++ compiler '{compiler}': install g++, or set CXX"
        )

    def versions(self) -> dict[str, str]:
        """Of PyTorch and CUDA."""
        return {"torch": torch.__version__, "cuda": str(torch.version.cuda)}

    def precisions(self) -> tuple[Precision, ...]:
        """As the graphs are."""
        return ("fp32", "bf16")

    def build(self, source: Source, precision: Precision, folder: Path) -> None:
        """Compile, and record for which GPU."""
        from torch._inductor import aoti_compile_and_package

        if reason := self.buildable():
            raise EngineError(f"{self.name}: {reason}")
        program = on_gpu(source, precision)
        try:
            with converting(), torch.no_grad(), exact_products():
                aoti_compile_and_package(
                    program, package_path=str(folder / _PACKAGE), inductor_configs={"freezing": True}
                )
        except Exception as error:  # the compiler's own errors have no common base but Exception
            raise EngineError(
                f"AOTInductor cannot compile the graph: {type(error).__name__}: {error}"
            ) from error
        (folder / _TARGET).write_text(json.dumps(self._target(), indent=2), encoding="utf-8")

    def load(self, folder: Path, source: Source, precision: Precision) -> Runner:
        """Load the library and record it as a CUDA graph."""
        check_target(folder / _TARGET, self._target())
        with exact_products():
            return CudaGraphRunner(source.inputs, load_package(folder / _PACKAGE, single_threaded=True))

    def _target(self) -> dict[str, str]:
        return {"GPU": self.hardware(), **self.versions()}
