"""Runs a serialised plan of TensorRT, or of TensorRT for RTX, as a function of GPU tensors."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import torch

from scanside.engines.backends.base import InputShape
from scanside.errors import EngineError

__all__ = ["PlanNetwork", "plan_log"]

logger = logging.getLogger(__name__)


class PlanNetwork:
    """A deserialised plan; works on the current stream, without waiting.

    Args:
        trt: the bindings, a module such as ``tensorrt``.
        plan: serialised engine.
        names: of its inputs, in the order of the call.
        inputs: shapes that it must have been built for.

    Raises:
        EngineError: the library refuses it, and says why, or it is for other inputs.
    """

    def __init__(self, trt: Any, plan: bytes, names: Sequence[str], inputs: Sequence[InputShape]) -> None:
        self._trt = trt
        self._log = plan_log(trt)
        self._runtime = trt.Runtime(self._log)  # must outlive the engine
        self._examine(plan)
        engine = self._runtime.deserialize_cuda_engine(plan)
        if engine is None:
            raise EngineError(f"TensorRT cannot read the plan ({self._said()}): build it again")
        tensors = [engine.get_tensor_name(i) for i in range(engine.num_io_tensors)]
        outputs = [name for name in tensors if engine.get_tensor_mode(name) == trt.TensorIOMode.OUTPUT]
        if len(outputs) != 1 or sorted(tensors) != sorted([*names, *outputs]):
            raise EngineError(
                f"the plan has the tensors {tensors}, expected the inputs {list(names)} and one output"
            )
        shapes = [tuple(engine.get_tensor_shape(name)) for name in names]
        expected = [spec.shape for spec in inputs]
        if shapes != expected:
            raise EngineError(f"the plan takes inputs of the shapes {shapes}, expected {expected}")
        if any(engine.get_tensor_dtype(name) != trt.float32 for name in tensors):
            raise EngineError("the plan has inputs or outputs that are not float32")
        self._engine = engine
        self._context = self._new_context()
        if self._context is None:
            raise EngineError(f"TensorRT cannot prepare to run the plan ({self._said()})")
        self._names = tuple(names)
        self._output = outputs[0]
        self._shape = tuple(engine.get_tensor_shape(self._output))

    def __call__(self, *tensors: torch.Tensor) -> torch.Tensor:
        """Put the engine's work on the current stream."""
        output = torch.empty(self._shape, device=tensors[0].device)
        for name, tensor in zip((*self._names, self._output), (*tensors, output), strict=True):
            self._context.set_tensor_address(name, tensor.data_ptr())
        if not self._context.execute_async_v3(torch.cuda.current_stream().cuda_stream):
            raise EngineError(f"TensorRT could not run the engine ({self._said()})")
        return output

    def _examine(self, plan: bytes) -> None:
        """Look at a plan before it is read."""

    def _new_context(self) -> Any:
        """What the engine is run with; None where there can be none."""
        return self._engine.create_execution_context()

    def _said(self) -> str:
        return "; ".join(self._log.errors) or "it does not say why"


def plan_log(trt: Any) -> Any:
    """A logger for TensorRT's objects, which return nothing where they fail and say why to their logger only.

    What they say goes to Python's logging; errors are kept as well, in the list ``errors``.
    """

    class Log(trt.ILogger):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.errors: list[str] = []

        def log(self, severity: Any, message: str) -> None:
            text = " ".join(message.split())
            if severity in (trt.ILogger.Severity.INTERNAL_ERROR, trt.ILogger.Severity.ERROR):
                self.errors.append(text)
            elif severity == trt.ILogger.Severity.WARNING:
                logger.info("TensorRT: %s", text)

    return Log()
