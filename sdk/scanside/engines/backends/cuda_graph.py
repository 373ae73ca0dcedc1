"""Runs any GPU engine at its lowest latency: recorded once as a CUDA graph, on a stream of its own."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch.export import ExportedProgram
from torch.export.passes import move_to_device_pass

from scanside.engines.backends.base import InputShape, Precision, Runner, Source
from scanside.engines.graph import specialise

__all__ = ["CudaGraphRunner", "exact_products", "no_gpu", "on_gpu"]

_WARM_UP_CALLS = (
    3  # libraries choose their kernels and allocate in the first calls, which must not be recorded
)


class CudaGraphRunner(Runner):
    """Replays one recording of an engine.

    Inputs are copied into fixed buffers on the GPU, from the CPU through page-locked memory; the output is copied
    out of its fixed buffer, so that the next call does not overwrite it.

    Args:
        inputs: what the engine takes.
        network: the engine: takes and gives tensors on the GPU, always works in the same order, without
            synchronising.

    Attributes:
        network: the same; its memory must live as long as the recording.
    """

    def __init__(
        self,
        inputs: Sequence[InputShape],
        network: Callable[..., torch.Tensor],
        device: torch.device | None = None,
    ) -> None:
        super().__init__(inputs, "cuda")
        self._device = device or torch.device("cuda", torch.cuda.current_device())
        self._stream = torch.cuda.Stream(self._device)  # type: ignore[no-untyped-call]
        self._staging = [torch.empty(spec.shape, pin_memory=True) for spec in self.inputs]
        self._held = [torch.zeros(spec.shape, device=self._device) for spec in self.inputs]
        self.network = network
        self._stream.wait_stream(torch.cuda.current_stream(self._device))
        with torch.no_grad(), torch.cuda.stream(self._stream):
            for _ in range(_WARM_UP_CALLS):
                network(*self._held)
            self._graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(self._graph, stream=self._stream):
                self._output = network(*self._held)
        self._landing = torch.empty(self._output.shape, pin_memory=True)
        self._stream.synchronize()

    def _run(self, tensors: tuple[torch.Tensor, ...]) -> torch.Tensor:
        on_cpu = tensors[0].device.type == "cpu"
        caller = torch.cuda.current_stream(self._device)
        self._stream.wait_stream(caller)
        with torch.cuda.stream(self._stream):
            for tensor, staged, held in zip(tensors, self._staging, self._held, strict=True):
                if on_cpu:
                    held.copy_(staged.copy_(tensor), non_blocking=True)
                else:
                    held.copy_(tensor, non_blocking=True)
                    tensor.record_stream(self._stream)
            self._graph.replay()
            if on_cpu:
                self._landing.copy_(self._output, non_blocking=True)
            else:
                result = self._output.to(torch.float32, copy=True)
        if on_cpu:
            self._stream.synchronize()
            return self._landing.clone()
        caller.wait_stream(self._stream)
        result.record_stream(caller)
        return result


@contextmanager
def exact_products() -> Iterator[None]:
    """Matrix products and convolutions in fp32 as such: TF32 has three digits, too few for data consistency."""
    switches = (torch.backends.cuda.matmul, torch.backends.cudnn.conv)  # type: ignore[attr-defined]
    before = [switch.fp32_precision for switch in switches]
    for switch in switches:
        switch.fp32_precision = "ieee"
    try:
        yield
    finally:
        for switch, value in zip(switches, before, strict=True):
            switch.fp32_precision = value


def no_gpu() -> str | None:
    """Why this process cannot use an NVIDIA GPU, None if it can."""
    if torch.version.cuda is None:
        return f"torch {torch.__version__} was built without CUDA: install a CUDA build of it"
    try:
        ctypes.CDLL("libcuda.so.1")
    except OSError:
        return "there is no NVIDIA driver: libcuda.so.1 was not found"
    if not torch.cuda.is_available():
        return "there is an NVIDIA driver, but torch sees no GPU"
    return None


def on_gpu(source: Source, precision: Precision) -> ExportedProgram:
    """A program for the source's shapes with its weights inside, on the current GPU.

    Raises:
        EngineError: the graph does not allow these shapes.
    """
    # With its number: what a graph asserts about devices takes "cuda" for another one than "cuda:0".
    here = torch.device("cuda", torch.cuda.current_device())
    return move_to_device_pass(specialise(source, precision), here)
