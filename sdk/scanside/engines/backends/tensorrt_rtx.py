"""NVIDIA TensorRT-RTX: plans that are built on any machine and run on the GPUs of workstations and servers."""

from __future__ import annotations

import torch

from scanside.engines.backends.trt_backend import TensorRtBackend
from scanside.engines.backends.trt_build import RTX

__all__ = ["TensorRtRtx"]


class TensorRtRtx(TensorRtBackend):
    """Runs plans for Ampere, Ada and Blackwell; a plan for GPUs that are not here: `scanside.engines.plans`."""

    name = "tensorrt_rtx"
    library = RTX

    def targets(self) -> tuple[str, ...]:
        """The GPU of this machine, by its compute capability: plans are for kinds of GPUs, and no other are known."""
        major, minor = torch.cuda.get_device_capability()
        return (f"{major}.{minor}",)
