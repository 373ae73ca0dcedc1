"""What the backends for NVIDIA's two libraries, TensorRT and TensorRT-RTX, have in common: nearly everything."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import torch

from scanside.engines.backends.base import Backend, Precision, Runner, Source
from scanside.engines.backends.cuda_graph import CudaGraphRunner, no_gpu
from scanside.engines.backends.plan_network import PlanNetwork
from scanside.engines.backends.trt_build import (
    PLAN_FILE,
    Library,
    build_plan,
    cannot_convert,
    installed,
    no_bindings,
    no_counterpart,
    why_not_imported,
)
from scanside.errors import BackendUnavailable, EngineError

if TYPE_CHECKING:
    from torch.export import ExportedProgram

__all__ = ["TensorRtBackend"]


class TensorRtBackend(Backend):
    """Builds with torch-tensorrt, in a process of its own; runs with the library's bindings and CUDA graphs.

    Attributes:
        library: which of the two.
    """

    library: ClassVar[Library]
    native_code = True
    device = "cuda"

    def available(self) -> str | None:
        """None where plans can be loaded, else what is missing: package, CUDA build, driver, GPU or library."""
        return no_bindings(self.library) or no_gpu() or self._broken()

    def buildable(self) -> str | None:
        """None where engines for this machine can be built too; that takes torch-tensorrt of this torch's version."""
        return self.available() or cannot_convert(self.library)

    def versions(self) -> dict[str, str]:
        """Of torch and the library."""
        package = self.library.packages[0]
        return {"torch": torch.__version__, package: installed(package) or "not installed"}

    def precisions(self) -> tuple[Precision, ...]:
        """Both: the engine computes in the types of the graph, and bf16 needs Ampere or later."""
        bf16 = torch.cuda.is_available() and torch.cuda.get_device_capability() >= (8, 0)
        return ("fp32", "bf16") if bf16 else ("fp32",)

    def refuses(self, program: ExportedProgram) -> str | None:
        """Graphs with Fourier transforms: there is no TensorRT that has them, nor complex numbers."""
        return no_counterpart(program, self.library)

    def targets(self) -> tuple[str, ...]:
        """Compute capabilities that engines for this machine are built for; none where it is this very GPU."""
        return ()

    def build(self, source: Source, precision: Precision, folder: Path) -> None:
        """Build a plan; takes minutes for large networks.

        Raises:
            BackendUnavailable: this machine cannot build.
            EngineError: an operator of the graph has no counterpart in the library, or the build failed.
        """
        if missing := self.buildable():
            raise BackendUnavailable(f"{self.library.title} engines cannot be built here: {missing}")
        built = build_plan(source, precision, self.library, self.targets())
        (folder / PLAN_FILE).write_bytes(built.data)

    def load(self, folder: Path, source: Source, precision: Precision) -> Runner:
        """Load a plan and record it as a CUDA graph.

        Raises:
            BackendUnavailable: this machine lacks the library or a GPU.
            EngineError: built for another GPU or version, damaged, or for other inputs.
        """
        if missing := self.available():
            raise BackendUnavailable(f"{self.library.title} engines cannot be run here: {missing}")
        network = self._network(self._plan(folder, source, precision), source, folder)
        return CudaGraphRunner(source.inputs, network)

    def _plan(self, folder: Path, source: Source, precision: Precision) -> bytes:
        """The plan of an engine's folder, as it is to be read by the library."""
        try:
            return (folder / PLAN_FILE).read_bytes()
        except OSError as error:
            raise EngineError(f"{folder}: the plan cannot be read ({error}): build it again") from error

    def _network(self, plan: bytes, source: Source, folder: Path) -> PlanNetwork:
        """A plan, read by the library."""
        return PlanNetwork(self.bindings(), plan, [spec.name for spec in source.inputs], source.inputs)

    def bindings(self) -> Any:
        """The module with the library's Python bindings."""
        return importlib.import_module(self.library.bindings)

    def _broken(self) -> str | None:
        try:
            self.bindings()
        except Exception as error:  # noqa: BLE001 — bindings raise anything where a library is missing
            return why_not_imported(self.library.bindings, error, self.library)
        return None
