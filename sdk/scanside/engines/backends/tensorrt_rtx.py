"""NVIDIA TensorRT-RTX: plans that are built on any machine and run on the GPUs of workstations and servers."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path

import torch

from scanside.engines.backends.base import InputShape, Precision, Runner, Source
from scanside.engines.backends.cuda_graph import CudaGraphRunner
from scanside.engines.backends.rtx_network import RtxNetwork, known_capabilities
from scanside.engines.backends.trt_backend import TensorRtBackend
from scanside.engines.backends.trt_build import RTX, installed
from scanside.engines.plan_record import PLAN_FILE, RECORD_FILE, PlanRecord, this_platform
from scanside.errors import EngineError

__all__ = ["TensorRtRtx"]

_KERNELS_FILE = "kernels.bin"


class TensorRtRtx(TensorRtBackend):
    """Runs plans for Ampere, Ada and Blackwell; a plan for GPUs that are not here: `scanside.engines.plans`.

    Kernels that the GPU made are kept beside the plan when it is judged, so that they are hashed, owned and found
    again like the plan: another GPU or driver, for which they are of no use, has an engine of its own.
    """

    name = "tensorrt_rtx"
    library = RTX
    takes_plans = True

    def buildable(self) -> str | None:
        """None where engines for this machine's GPU can be built; TensorRT-RTX does not build for all."""
        return self.available() or self._unknown_gpu() or super().buildable()

    def targets(self) -> tuple[str, ...]:
        """The GPU of this machine, by its compute capability: plans are for kinds of GPUs, and no other are known."""
        major, minor = torch.cuda.get_device_capability()
        return (f"{major}.{minor}",)

    def misfit(self, record: PlanRecord) -> str | None:
        """Why a plan cannot run here: another release of TensorRT-RTX, another platform, another kind of GPU."""
        package = RTX.packages[0]
        built, here = record.versions.get(package), installed(package)
        if built is None:
            return "does not say which release of TensorRT-RTX it was built with: build it again"
        if built != here:
            other = " ".join(f"{name}=={built}" for name in RTX.packages)
            return (
                f"was built with TensorRT-RTX {built}, and runs with no other release; here is {here}: build it with "
                f"that one, or pip install --no-deps {other}"
            )
        if record.platform != (platform := this_platform()):
            return f"is for {record.platform}, and this machine is {platform}: build it on such a machine"
        (capability,) = self.targets()
        if capability in record.targets:
            return None
        known = known_capabilities(self.bindings())
        another = f"build one for it ({record.command} --gpus {capability} -o plans/)"
        remedy = another if capability in known else self._elsewhere(known)
        return (
            f"is for GPUs of compute capability {', '.join(record.targets)}, and {torch.cuda.get_device_name()} has "
            f"{capability}: {remedy}"
        )

    def settle(self, runner: Runner, folder: Path) -> None:
        """Write the kernels that this GPU made."""
        if not isinstance(runner, CudaGraphRunner) or not isinstance(runner.network, RtxNetwork):
            return
        if kernels := runner.network.kernels():
            (folder / _KERNELS_FILE).write_bytes(kernels)

    def _plan(self, folder: Path, source: Source, precision: Precision) -> bytes:
        plan = super()._plan(folder, source, precision)
        path = folder / RECORD_FILE
        if not path.exists():  # it was built on this machine
            return plan
        record = PlanRecord.from_bytes(path.read_bytes(), str(path))
        listed = record.files[PLAN_FILE]
        if (len(plan), hashlib.sha256(plan).hexdigest()) != (listed.size, listed.sha256):
            raise EngineError(f"{folder / PLAN_FILE} is not what its record says: install the plan again")
        if reason := self.misfit(record):
            raise EngineError(f"the plan {reason}")
        inputs = tuple(InputShape(one.name, one.shape) for one in record.inputs)
        if inputs != tuple(source.inputs):
            found, expected = ("; ".join(map(str, shapes)) for shapes in (inputs, source.inputs))
            raise EngineError(f"the plan takes {found}, expected {expected}: install one for this size")
        if record.precision != precision:
            raise EngineError(f"the plan is in {record.precision}, expected {precision}")
        return plan

    def _network(self, plan: bytes, source: Source, folder: Path) -> RtxNetwork:
        path = folder / _KERNELS_FILE
        kernels = path.read_bytes() if path.exists() else None
        names = [spec.name for spec in source.inputs]
        return RtxNetwork(self.bindings(), plan, names, source.inputs, kernels)

    def _unknown_gpu(self) -> str | None:
        (capability,) = self.targets()
        if capability in (known := known_capabilities(self.bindings())):
            return None
        return f"{torch.cuda.get_device_name()} has compute capability {capability}, and {self._elsewhere(known)}"

    def _elsewhere(self, known: Iterable[str]) -> str:
        """What to do with a GPU that the library does not know."""
        return (
            f"TensorRT-RTX {self.bindings().__version__} builds for {', '.join(known)} only: take the backend "
            "aoti-cuda, or torch_tensorrt"
        )
