"""PyTorch's own kernels on an NVIDIA GPU, replayed as a CUDA graph: a GPU without a compiler and without TensorRT."""

from __future__ import annotations

from pathlib import Path

import torch

from scanside.engines.backends.base import Backend, Precision, Runner, Source
from scanside.engines.backends.cuda_graph import CudaGraphRunner, exact_products, no_gpu, on_gpu

__all__ = ["EagerCuda"]


class EagerCuda(Backend):
    """Runs the graph operator by operator on the GPU; the recording leaves out what Python spends between them.

    Its engine is the bundle itself, so that nothing is built. Matrix products stay in fp32, without TF32.
    """

    name = "eager-cuda"
    carries_network = False
    device = "cuda"

    def available(self) -> str | None:
        """None where torch sees a GPU."""
        return no_gpu()

    def versions(self) -> dict[str, str]:
        """Of PyTorch and CUDA."""
        return {"torch": torch.__version__, "cuda": str(torch.version.cuda)}

    def precisions(self) -> tuple[Precision, ...]:
        """All that there are graphs for."""
        return ("fp32", "bf16")

    def build(self, source: Source, precision: Precision, folder: Path) -> None:
        """Nothing is to be built."""

    def load(self, folder: Path, source: Source, precision: Precision) -> Runner:
        """Move graph and weights to the GPU and record them as a CUDA graph."""
        with exact_products():
            return CudaGraphRunner(source.inputs, on_gpu(source, precision).module(check_guards=False))
