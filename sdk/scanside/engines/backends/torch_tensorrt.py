"""NVIDIA TensorRT, fed by torch-tensorrt: the whole graph as one engine of static shape.

torch-tensorrt lowers the graph and builds the engine; what is kept is TensorRT's own serialised plan, which loads
with the package ``tensorrt`` alone and holds nothing that would be unpickled. torch-tensorrt's cache of engines is
not used: its key leaves out the weights.

- The plan comes from `torch_tensorrt.dynamo.convert_exported_program_to_serialized_trt_engine`, which puts the
  whole graph into one engine or fails: there is no operator that would run in PyTorch in between.
- TensorRT 11 is strongly typed: precision is what the graph's types say. TF32 is off, as data consistency is part
  of the graph and would lose three digits.
- A plan belongs to one GPU model and one version of TensorRT; both are recorded beside it and compared at load.
"""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import json
import tempfile
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from scanside.engines.backends.base import Backend, InputShape, Precision, Runner, Source
from scanside.engines.backends.cuda_graph import CudaGraphRunner, no_gpu, on_gpu
from scanside.engines.backends.plan_network import PlanNetwork
from scanside.engines.graph import fourier_operators
from scanside.errors import BackendUnavailable, EngineError

if TYPE_CHECKING:
    from torch.export import ExportedProgram

__all__ = ["TorchTensorRt", "build_plan", "build_settings", "check_keywords"]

_PLAN_FILE = "engine.plan"
_RECORD_FILE = "engine.json"


def build_settings() -> dict[str, Any]:
    """What torch-tensorrt is asked for, apart from graph and inputs; the dry run asks for the same.

    - ``require_full_compilation``: an operator that TensorRT lacks is an error.
    - ``disable_tf32``: fp32 means fp32.
    - ``immutable_weights``: weights may be folded into others, as nobody refits these engines.
    - ``cache_built_engines``, ``reuse_cached_engines``: our cache is keyed by the weights, theirs is not.
    """
    return {
        "require_full_compilation": True,
        "min_block_size": 1,
        "disable_tf32": True,
        "immutable_weights": True,
        "cache_built_engines": False,
        "reuse_cached_engines": False,
    }


def check_keywords(function: Callable[..., Any], keywords: Sequence[str]) -> None:
    """Make sure that a function of torch-tensorrt really has these parameters; it takes any others without a word.

    Raises:
        EngineError: it does not; names them.
    """
    known = {
        name
        for name, parameter in inspect.signature(function).parameters.items()
        if parameter.kind is not inspect.Parameter.VAR_KEYWORD
    }
    unknown = sorted(set(keywords) - known)
    if unknown:
        raise EngineError(
            f"torch-tensorrt {_installed('torch-tensorrt')} would ignore {', '.join(unknown)}: "
            f"'{function.__name__}' has no such parameter; Scanside was written for 2.13"
        )


def build_plan(program: ExportedProgram, inputs: Sequence[InputShape], scratch: Path) -> bytes:
    """TensorRT's serialised plan for a whole program.

    Args:
        program: of static shape, weights inside, on the device that TensorRT builds for.
        inputs: shapes of its inputs, in order.
        scratch: private folder for the builder's timings, which are read back as they stand: never a shared one.

    Raises:
        EngineError: the installed torch-tensorrt does not know a setting.
    """
    import torch_tensorrt

    convert = torch_tensorrt.dynamo.convert_exported_program_to_serialized_trt_engine
    settings = build_settings() | {"timing_cache_path": str(scratch / "timings.bin")}
    check_keywords(convert, ["arg_inputs", *settings])
    arguments = [torch_tensorrt.Input(shape=spec.shape, dtype=torch.float32) for spec in inputs]
    return bytes(convert(program, arg_inputs=arguments, **settings))


class TorchTensorRt(Backend):
    """Builds with torch-tensorrt, runs with TensorRT and CUDA graphs."""

    name = "torch_tensorrt"
    native_code = True
    device = "cuda"

    def available(self) -> str | None:
        """None where plans can be loaded, else what is missing: package, CUDA build, driver, GPU or library."""
        for missing in (_package("tensorrt", "tensorrt"), no_gpu(), _loads("tensorrt")):
            if missing is not None:
                return missing
        return None

    def buildable(self) -> str | None:
        """None where engines can be built too; that takes torch-tensorrt, of this torch's version."""
        missing = _package("torch_tensorrt", "torch-tensorrt") or self.available() or _pair()
        # Tried last: it touches the GPU when it is imported.
        return missing or _loads("torch_tensorrt")

    def versions(self) -> dict[str, str]:
        """Of torch, torch-tensorrt and TensorRT."""
        return {
            "torch": torch.__version__,
            **{name: _installed(name) for name in ("torch-tensorrt", "tensorrt")},
        }

    def precisions(self) -> tuple[Precision, ...]:
        """Both: the engine computes in the types of the graph, and bf16 needs Ampere or later."""
        bf16 = torch.cuda.is_available() and torch.cuda.get_device_capability() >= (8, 0)
        return ("fp32", "bf16") if bf16 else ("fp32",)

    def refuses(self, program: ExportedProgram) -> str | None:
        """Graphs with Fourier transforms: TensorRT has none, nor complex numbers."""
        if transforms := fourier_operators(program):
            return (
                f"TensorRT has no Fourier transform ({', '.join(transforms)}): build the bundle with the lowering "
                "'pmatrix' or 'dft_matmul'"
            )
        return None

    def build(self, source: Source, precision: Precision, folder: Path) -> None:
        """Build a plan; takes minutes for large networks.

        Raises:
            BackendUnavailable: this machine cannot build.
            EngineError: an operator of the graph has no counterpart in TensorRT, or the build failed.
        """
        if missing := self.buildable():
            raise BackendUnavailable(f"TensorRT engines cannot be built here: {missing}")
        program = on_gpu(source, precision)
        try:
            with tempfile.TemporaryDirectory(prefix="scanside-tensorrt-") as scratch:
                plan = build_plan(program, source.inputs, Path(scratch))
        except (RuntimeError, AssertionError, ValueError, TypeError) as error:
            raise EngineError(f"TensorRT built no engine from this graph: {error}") from error
        (folder / _PLAN_FILE).write_bytes(plan)
        names = [str(name) for name in program.graph_signature.user_inputs]
        record = self._made_by() | {"inputs": names}
        (folder / _RECORD_FILE).write_text(json.dumps(record, indent=2) + "\n", "utf-8")

    def load(self, folder: Path, source: Source, precision: Precision) -> Runner:
        """Load a plan and record it as a CUDA graph.

        Raises:
            BackendUnavailable: this machine lacks TensorRT or a GPU.
            EngineError: built for another GPU or TensorRT, damaged, or for other inputs.
        """
        if missing := self.available():
            raise BackendUnavailable(f"TensorRT engines cannot be run here: {missing}")
        plan, names = read_plan(folder, self._made_by())
        network = PlanNetwork(importlib.import_module("tensorrt"), plan, names, source.inputs)
        return CudaGraphRunner(source.inputs, network)

    def _made_by(self) -> dict[str, str]:
        """What a plan is bound to."""
        return {"gpu": self.hardware(), "tensorrt": _tensorrt_version()}


def read_plan(folder: Path, here: Mapping[str, str]) -> tuple[bytes, list[str]]:
    """The plan of a folder and the names of its inputs, in the order of the call.

    Args:
        folder: what `TorchTensorRt.build` filled.
        here: GPU and versions of this machine, by name.

    Raises:
        EngineError: it was built elsewhere, or its files are not what was written.
    """
    try:
        record = json.loads((folder / _RECORD_FILE).read_text("utf-8"))
        plan = (folder / _PLAN_FILE).read_bytes()
        names = [str(name) for name in record["inputs"]]
        differences = [
            f"{key} {record[key]}, here {value}" for key, value in here.items() if record[key] != value
        ]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise EngineError(f"{folder}: not a whole TensorRT engine ({error!r}): build it again") from error
    if differences:
        raise EngineError(f"{folder}: built with {'; '.join(differences)}: build it again on this machine")
    return plan, names


def _package(module: str, distribution: str) -> str | None:
    if importlib.util.find_spec(module) is not None:
        return None
    return f"the package '{distribution}' is not installed: pip install 'scanside[tensorrt]'"


def _loads(module: str) -> str | None:
    try:
        importlib.import_module(module)
    except Exception as error:  # noqa: BLE001 — torch_tensorrt raises Exception itself where a library is missing
        reason = " ".join(str(error).split())
        if "libnvinfer" in reason:
            return f"TensorRT's library libnvinfer is missing: {reason}"
        return f"'import {module}' fails: {reason}"
    return None


def _pair() -> str | None:
    """Why torch and torch-tensorrt do not go together; each is built for one minor version of the other."""
    ours, theirs = torch.__version__, _installed("torch-tensorrt")
    if ours.split(".")[:2] == theirs.split(".")[:2]:
        return None
    return f"torch-tensorrt {theirs} does not go with torch {ours}: install the one of the same minor version"


def _tensorrt_version() -> str:
    return str(importlib.import_module("tensorrt").__version__)


def _installed(distribution: str) -> str:
    try:
        return version(distribution)
    except PackageNotFoundError:
        return "not installed"
