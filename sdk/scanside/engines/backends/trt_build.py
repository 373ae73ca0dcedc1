"""Builds plans of TensorRT and TensorRT-RTX, each in a process of its own (`scanside.engines.backends.trt_convert`).

torch-tensorrt converts, from the same exported graph that all other backends take. The way by ONNX builds as well,
and is left: for unrolled networks the export to ONNX takes minutes where torch-tensorrt's lowering takes seconds, and
it writes means over fixed axes in a form that TensorRT-RTX refuses.

- The whole graph becomes one plan, or none: there is no operator that would run in PyTorch in between.
- TensorRT is strongly typed: precision is what the graph's types say. TF32 is off, as data consistency is part of
  the graph and would lose three digits.
- A plan holds its weights, and takes its inputs by their names in the manifest.
- torch-tensorrt's cache of engines is not used, as its key leaves out the weights, nor a cache of timings.
"""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from scanside.engines.archive import save_graph
from scanside.engines.backends.base import InputShape, Precision, Source
from scanside.engines.graph import fourier_operators
from scanside.engines.passing import process_error
from scanside.errors import BackendUnavailable, EngineError, MissingExtra

if TYPE_CHECKING:
    from torch.export import ExportedProgram

__all__ = [
    "GRAPH_FILE",
    "PLAN_FILE",
    "RESULT_FILE",
    "RTX",
    "TENSORRT",
    "WEIGHTS_FILE",
    "BuiltPlan",
    "Library",
    "Request",
    "build_plan",
    "cannot_convert",
    "installed",
    "no_bindings",
    "no_counterpart",
    "read_request",
    "why_not_imported",
]

GRAPH_FILE = "graph.pt2"
WEIGHTS_FILE = "weights.safetensors"
PLAN_FILE = "engine.plan"
RESULT_FILE = "result.json"
_REQUEST_FILE = "request.json"
_CONVERT = "scanside.engines.backends.trt_convert"


@dataclass(frozen=True)
class Library:
    """One of NVIDIA's two libraries, with what goes with it.

    Attributes:
        title: for people.
        bindings: module with its Python bindings.
        packages: distributions that running its plans takes, the bindings first.
        binary: the shared library behind the bindings.
        install: command that installs `packages`.
        converter: distribution of torch-tensorrt that builds with it.
        install_converter: command that installs what building takes besides.
    """

    title: str
    bindings: str
    packages: tuple[str, ...]
    binary: str
    install: str
    converter: str
    install_converter: str


_TORCH = ".".join(torch.__version__.split(".")[:2])

TENSORRT = Library(
    title="TensorRT",
    bindings="tensorrt",
    packages=("tensorrt",),
    binary="libnvinfer",
    install="pip install 'scanside[tensorrt]'",
    converter="torch-tensorrt",
    install_converter="pip install 'scanside[tensorrt]'",
)
RTX = Library(
    title="TensorRT-RTX",
    bindings="tensorrt_rtx_bindings",
    packages=("tensorrt-rtx-cu13-bindings", "tensorrt-rtx-cu13-libs"),
    binary="libtensorrt_rtx",
    # Without what they depend on by name: a package that fetches these same two from another index.
    install="pip install --no-deps 'tensorrt-rtx-cu13-bindings==1.5.*' 'tensorrt-rtx-cu13-libs==1.5.*'",
    converter="torch-tensorrt-rtx",
    install_converter=f"pip install --no-deps 'torch-tensorrt-rtx=={_TORCH}.*' dllist psutil",
)


@dataclass(frozen=True)
class Request:
    """What a plan is to be made of and for; the graph and the weights lie beside it.

    Attributes:
        library: that builds it.
        inputs: static shape of every input, in the order of the call.
        precision: of the graph.
        targets: compute capabilities that the plan is for (``8.6``); none for the GPU of this machine.
    """

    library: Library
    inputs: tuple[InputShape, ...]
    precision: Precision
    targets: tuple[str, ...]


@dataclass(frozen=True)
class BuiltPlan:
    """A plan, and what its builder tells of it.

    Attributes:
        data: the plan.
        n_layers: of the network that it was built from.
        output: shape of its result.
        versions: that took part: of torch, torch-tensorrt and the library, by distribution.
    """

    data: bytes
    n_layers: int
    output: tuple[int, ...]
    versions: dict[str, str]


def build_plan(
    source: Source,
    precision: Precision,
    library: Library,
    targets: Sequence[str] = (),
    progress: Callable[[str], None] = lambda _: None,
) -> BuiltPlan:
    """A plan for a source's shapes; takes seconds for small networks, and minutes for large ones.

    Args:
        source: graph, weights and static shapes.
        precision: of the graph.
        library: that builds and will run it.
        targets: compute capabilities of the GPUs that it is for; none for the GPU of this machine, which must then be
            there.
        progress: is told what is being done.

    Raises:
        BackendUnavailable: this machine lacks what building takes; says what, and how to get it.
        EngineError: the library makes no plan of this graph; says which operator, and what to do.
        EnginePostponed: building failed for a reason that passes.
    """
    if missing := cannot_convert(library):
        raise BackendUnavailable(f"plans of {library.title} cannot be built here: {missing}")
    if reason := no_counterpart(source.program(precision), library):
        raise EngineError(reason)
    with tempfile.TemporaryDirectory(prefix="scanside-plan-") as scratch:
        folder = Path(scratch)
        request = Request(library, tuple(source.inputs), precision, tuple(targets))
        _write_request(folder, request, source)
        _convert(folder, hide_gpus=bool(targets), progress=progress)
        result = json.loads((folder / RESULT_FILE).read_text("utf-8"))
        if "missing" in result:
            raise BackendUnavailable(f"plans of {library.title} cannot be built here: {result['missing']}")
        if "refused" in result:
            raise EngineError(result["refused"])
        torch_tensorrt, trt = result["versions"]
        versions = {
            "torch": torch.__version__,
            library.converter: torch_tensorrt,
            library.packages[0]: trt,
        }
        return BuiltPlan(
            (folder / PLAN_FILE).read_bytes(), result["layers"], tuple(result["output"]), versions
        )


def no_counterpart(program: ExportedProgram, library: Library) -> str | None:
    """Why a graph can be no plan of any TensorRT, None where nothing is known: Fourier transforms."""
    if transforms := fourier_operators(program):
        return (
            f"{library.title} has no Fourier transform ({', '.join(transforms)}): build the bundle with the lowering "
            "'pmatrix' or 'dft_matmul'"
        )
    return None


def _write_request(folder: Path, request: Request, source: Source) -> None:
    try:
        from safetensors.torch import save_file
    except ImportError as error:
        raise MissingExtra("safetensors", "engines", "weights of engines") from error
    save_graph(source.program(request.precision), folder / GRAPH_FILE)
    # Contiguous, and each on its own: weights that share memory are refused.
    weights = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in source.weights().items()}
    save_file(weights, folder / WEIGHTS_FILE)
    (folder / _REQUEST_FILE).write_text(json.dumps(asdict(request)), "utf-8")


def read_request(folder: Path) -> Request:
    """What `build_plan` asks the process for."""
    fields = json.loads((folder / _REQUEST_FILE).read_text("utf-8"))
    library = fields["library"]
    return Request(
        library=Library(**{**library, "packages": tuple(library["packages"])}),
        inputs=tuple(InputShape(one["name"], tuple(one["shape"])) for one in fields["inputs"]),
        precision=fields["precision"],
        targets=tuple(fields["targets"]),
    )


def _convert(folder: Path, *, hide_gpus: bool, progress: Callable[[str], None]) -> None:
    """Run the process, and pass on what it says.

    Raises:
        EngineError: it crashed.
        EnginePostponed: it was killed from outside, or lacked memory or room.
    """
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    if hide_gpus:  # a plan for other GPUs is the same whichever is here
        environment["CUDA_VISIBLE_DEVICES"] = ""
    command = [sys.executable, "-m", _CONVERT, str(folder)]
    log = folder / "log.txt"
    with log.open("w") as errors:
        process = subprocess.Popen(
            command,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        )
        try:
            assert process.stdout is not None
            with process.stdout as told:
                for line in told:
                    progress(line.strip())
            status = process.wait()
        except BaseException:
            process.kill()
            process.wait()
            raise
    if status:
        raise process_error("a process that builds a plan", status, log.read_text("utf-8", "replace"))


def cannot_convert(library: Library) -> str | None:
    """Why plans cannot be built on this machine, None if they can; needs neither driver nor GPU.

    Nothing is imported, which would take seconds: what is broken is told by the process that builds.
    """
    if missing := no_bindings(library):
        return missing
    theirs = installed(library.converter)
    if theirs is None:
        return f"the package '{library.converter}' is not installed: {library.install_converter}"
    if theirs.split(".")[:2] != _TORCH.split("."):
        return (
            f"{library.converter} {theirs} does not go with torch {torch.__version__}: install the one of the same "
            f"minor version ({library.install_converter})"
        )
    return None


def no_bindings(library: Library) -> str | None:
    """What to install where the library's bindings are missing, None where they are there; imports nothing."""
    if importlib.util.find_spec(library.bindings) is not None:
        return None
    return f"the package '{library.packages[0]}' is not installed: {library.install}"


def why_not_imported(module: str, error: Exception, library: Library) -> str:
    """What a failed import of the bindings, or of torch_tensorrt, means."""
    reason = " ".join(str(error).split())
    if library.binary in reason:
        return f"{library.title}'s library {library.binary} is missing: {reason}; {library.install}"
    return f"'import {module}' fails: {reason}"


def installed(distribution: str) -> str | None:
    """Version of an installed distribution; None where it is not installed."""
    try:
        return version(distribution)
    except PackageNotFoundError:
        return None
