"""Runs a plan of TensorRT-RTX, whose kernels are made on the GPU that runs it, and kept for the next time."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from typing import Any

import torch

from scanside.engines.backends.base import InputShape
from scanside.engines.backends.plan_network import PlanNetwork
from scanside.errors import EngineError

__all__ = ["RtxNetwork", "known_capabilities"]

logger = logging.getLogger(__name__)

_INVALID = {
    "VERSION_MISMATCH": "it was built with another release of TensorRT-RTX: build it with this one",
    "UNSUPPORTED_CC": "it is not for the compute capability of this GPU: build one for it",
    "OLD_CUDA_DRIVER": "the NVIDIA driver is too old for it: update the driver",
    "OLD_CUDA_RUNTIME": "the CUDA run time is too old for it: update torch's CUDA",
    "INSUFFICIENT_GPU_MEMORY": "there is not enough memory on the GPU",
    "MALFORMED_ENGINE": "it is damaged, or no plan of this release of TensorRT-RTX: install it again",
    "CUDA_ERROR": "the CUDA driver or run time is not properly installed",
}
"""What TensorRT-RTX may have against a plan on this machine, by the names of its flags."""


class RtxNetwork(PlanNetwork):
    """A deserialised plan with the kernels that this GPU makes of it.

    Args:
        trt: the bindings.
        plan: serialised engine.
        names: of its inputs, in the order of the call.
        inputs: shapes that it must have been built for.
        kernels: that were made earlier, on such a GPU with such a driver, of the same plan.
        device: where its intermediate results lie.

    Raises:
        EngineError: TensorRT-RTX says that the plan cannot run on this machine, which it tells before the plan is
            read; or it is for other inputs.
    """

    def __init__(
        self,
        trt: Any,
        plan: bytes,
        names: Sequence[str],
        inputs: Sequence[InputShape],
        kernels: bytes | None = None,
        device: str = "cuda",
    ) -> None:
        self._known_kernels = kernels
        self._device = device
        super().__init__(trt, plan, names, inputs)

    def kernels(self) -> bytes:
        """All kernels that have been made, once the network has run; empty where there are none to keep."""
        data = self._kernels.serialize()
        return b"" if data is None else bytes(data)

    def _examine(self, plan: bytes) -> None:
        header = plan[: self._runtime.engine_header_size]
        validity, flags = self._runtime.get_engine_validity(header)
        if validity == self._trt.EngineValidity.INVALID:
            reasons = "; ".join(self._reasons(flags)) or self._said()
            raise EngineError(f"TensorRT-RTX {self._trt.__version__} cannot run this plan here: {reasons}")
        if validity == self._trt.EngineValidity.SUBOPTIMAL:
            logger.warning("TensorRT-RTX %s runs this plan here, but not at its best", self._trt.__version__)

    def _reasons(self, flags: int) -> Iterator[str]:
        for name, words in _INVALID.items():
            flag = getattr(self._trt.EngineInvalidityDiagnostics, name, None)
            if flag is not None and flags & int(flag.value):
                yield words

    def _new_context(self) -> Any:
        self._config = self._engine.create_runtime_config()
        self._kernels = self._config.create_runtime_cache()
        if self._known_kernels is not None and not self._kernels.deserialize(self._known_kernels):
            logger.warning("the kernels of an earlier run cannot be read (%s): made again", self._said())
        self._config.set_runtime_cache(self._kernels)
        # Memory of ours: what TensorRT-RTX would allocate while the plan runs could not be recorded as a CUDA graph.
        self._config.set_execution_context_allocation_strategy(
            self._trt.ExecutionContextAllocationStrategy.USER_MANAGED
        )
        context = self._engine.create_execution_context(self._config)
        if context is not None and (size := int(self._engine.device_memory_size_v2)):
            self._memory = torch.empty(size, dtype=torch.uint8, device=self._device)
            context.set_device_memory(self._memory.data_ptr(), size)
        return context


def known_capabilities(trt: Any) -> dict[str, Any]:
    """Compute capabilities that a release of TensorRT-RTX builds for, by number: ``8.6``; in order."""
    members = trt.ComputeCapability.__members__.items()
    return {f"{name[2:-1]}.{name[-1]}": member for name, member in members if name.startswith("SM")}
