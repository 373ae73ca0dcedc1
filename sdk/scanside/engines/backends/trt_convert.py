"""Converts one graph to a plan of TensorRT or TensorRT-RTX; the process for it ends with it.

``python -m scanside.engines.backends.trt_convert FOLDER`` reads what `scanside.engines.backends.trt_build` wrote
there and writes the plan, with what is to be told of it, beside it. Its standard output says what is being done.

torch-tensorrt wants CUDA when it is imported, and the C++ run time that it loads then needs NVIDIA's libraries;
lowering a graph and building a plan with TensorRT-RTX need neither. What it asks of the GPU is answered for it, and
its run time is kept out of its sight. Both would be wrong for everything else in a process.
"""

from __future__ import annotations

import importlib
import json
import logging
import os
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from inspect import Parameter, signature
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple
from unittest import mock

import torch

from scanside.engines.archive import load_graph
from scanside.engines.backends.base import InputShape
from scanside.engines.backends.cuda_graph import on_gpu
from scanside.engines.backends.foreign import converting
from scanside.engines.backends.rtx_network import known_capabilities
from scanside.engines.backends.trt_build import (
    GRAPH_FILE,
    PLAN_FILE,
    RESULT_FILE,
    WEIGHTS_FILE,
    Library,
    Request,
    read_request,
    why_not_imported,
)
from scanside.engines.graph import GraphSource, specialise
from scanside.engines.passing import TRY_AGAIN, passes
from scanside.errors import BackendUnavailable, EngineError

if TYPE_CHECKING:
    from torch.export import ExportedProgram

__all__ = ["check_exact", "check_keywords", "refusal"]

_RUNTIME_LIBRARIES = ("libtorchtrt.so", "libtorchtrt_runtime.so")
_CAPABILITY = (8, 9)  # of the GPU that is answered for; torch-tensorrt asks to tell embedded boards apart
_GPU_MEMORY = 24 * 2**30
_FIRST_BF16 = 8.0
_LOGGER = "torch_tensorrt [TensorRT Conversion Context]"
_SETTINGS: Mapping[str, Any] = {
    "require_full_compilation": True,
    "min_block_size": 1,
    "disable_tf32": True,
    "immutable_weights": True,
    "cache_built_engines": False,
    "reuse_cached_engines": False,
}
"""What torch-tensorrt is asked for, apart from graph and inputs.

- ``require_full_compilation``: an operator that TensorRT lacks is an error.
- ``disable_tf32``: fp32 means fp32.
- ``immutable_weights``: weights may be folded into others, as nobody refits these engines.
- ``cache_built_engines``, ``reuse_cached_engines``: our cache is keyed by the weights, theirs is not.
"""
_LAYER = re.compile(r"\[(?P<layer>[A-Z_]+)\]-\[aten_ops\.(?P<operator>[\w.]+)\]-\[/?(?P<node>[^\]]*)\]")
"""How torch-tensorrt names the layers of TensorRT, and so how TensorRT names them in what it says."""
_LONGEST_MESSAGE = 300


class _Plan(NamedTuple):
    """What torch-tensorrt gets in the place of an engine."""

    serialized_engine: bytes
    n_layers: int
    output: tuple[int, ...]


def main() -> None:
    """Convert what lies in a folder."""
    (folder,) = map(Path, sys.argv[1:])
    told = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8", buffering=1)
    # torch-tensorrt and TensorRT print; what they say is kept for the case that this process crashes.
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())

    def tell(text: str) -> None:
        told.write(text + "\n")

    try:
        result = _converted(folder, tell)
    except EngineError as error:
        result = {"missing" if isinstance(error, BackendUnavailable) else "refused": str(error)}
    except Exception as failure:
        if passes(failure):
            sys.stderr.write(f"{type(failure).__name__}: {failure}\n")
            sys.exit(TRY_AGAIN)
        raise
    (folder / RESULT_FILE).write_text(json.dumps(result), "utf-8")


def _converted(folder: Path, tell: Callable[[str], None]) -> dict[str, Any]:
    """Write the plan; what is to be told of it.

    Raises:
        BackendUnavailable: a package cannot be imported; says why.
        EngineError: TensorRT cannot make a plan of the graph; says which operator, and why.
    """
    from safetensors.torch import load_file

    request = read_request(folder)
    tell("reading the graph")
    programs = {request.precision: load_graph(folder / GRAPH_FILE)}
    source = GraphSource(request.inputs, programs, load_file(folder / WEIGHTS_FILE))
    program = (specialise if request.targets else on_gpu)(source, request.precision)
    with _torch_tensorrt(request) as (torch_tensorrt, trt):
        plan = _build(torch_tensorrt, trt, program, request, tell)
        versions = (torch_tensorrt.__version__, trt.__version__)
    (folder / PLAN_FILE).write_bytes(plan.serialized_engine)
    return {"layers": plan.n_layers, "output": plan.output, "versions": versions}


@contextmanager
def _torch_tensorrt(request: Request) -> Iterator[tuple[Any, Any]]:
    """The modules ``torch_tensorrt`` and that of TensorRT's bindings, usable in the block."""
    with ExitStack() as changes, converting():
        bindings = _imported(request.library.bindings, request.library)
        if request.targets:
            # The package of that name only fetches these same bindings from another index.
            sys.modules.setdefault("tensorrt_rtx", bindings)
            _answer_for_a_gpu(changes)
        yield _imported("torch_tensorrt", request.library), bindings


def _imported(module: str, library: Library) -> Any:
    try:
        return importlib.import_module(module)
    except Exception as error:  # torch_tensorrt raises Exception itself where a library is missing
        raise BackendUnavailable(why_not_imported(module, error, library)) from error


def _answer_for_a_gpu(changes: ExitStack) -> None:
    for name, answer in (
        ("current_device", 0),
        ("get_device_capability", _CAPABILITY),
        ("mem_get_info", (_GPU_MEMORY, _GPU_MEMORY)),
    ):
        changes.enter_context(mock.patch.object(torch.cuda, name, mock.Mock(return_value=answer)))
    if not hasattr(torch._C, "_CudaDeviceProperties"):  # noqa: SLF001 — named in an annotation of theirs
        changes.enter_context(mock.patch.object(torch._C, "_CudaDeviceProperties", object, create=True))  # noqa: SLF001
    is_file = os.path.isfile

    def is_visible(path: str) -> bool:
        return os.path.basename(path) not in _RUNTIME_LIBRARIES and is_file(path)  # noqa: PTH119 — stands in for os.path

    changes.enter_context(mock.patch.object(os.path, "isfile", is_visible))


def _build(
    torch_tensorrt: Any, trt: Any, program: ExportedProgram, request: Request, tell: Callable[[str], None]
) -> _Plan:
    """Lower a program with torch-tensorrt, and have TensorRT build it.

    torch-tensorrt's last step is replaced: it deserialises the plan to wrap it, which takes a GPU, and it has no
    setting for the compute capabilities that a plan is for.
    """
    compiler = importlib.import_module("torch_tensorrt.dynamo._compiler")
    interpreter = importlib.import_module("torch_tensorrt.dynamo.conversion._TRTInterpreter")
    conversion = importlib.import_module("torch_tensorrt.dynamo.conversion._conversion")
    expected = [str(name) for name in program.graph_signature.user_inputs]
    made: list[_Plan] = []

    def interpret(graph: torch.fx.GraphModule, inputs: Any, settings: Any, **_others: Any) -> _Plan:
        types = conversion.infer_module_output_dtypes(graph)
        tell(f"translating {sum(node.op == 'call_function' for node in graph.graph.nodes)} operators")
        one = interpreter.TRTInterpreter(graph, inputs, output_dtypes=types, compilation_settings=settings)
        if missing := one.validate_conversion():
            names = ", ".join(sorted(name.removeprefix("call_function torch.ops.") for name in missing))
            raise EngineError(
                f"{request.library.title} has no operator for {names}: write the network without it"
            )
        one._construct_trt_network_def()  # noqa: SLF001 — `run` of it also builds and deserialises
        network = one.ctx.net
        _name_tensors(network, expected, request.inputs)
        config = one._populate_trt_builder_config()  # noqa: SLF001 — what our settings became
        check_exact(trt, config)
        _set_targets(trt, config, request)
        tell(f"building {network.num_layers} layers")
        built = one.builder.build_serialized_network(network, config)
        if built is None:
            raise EngineError(f"{request.library.title} built nothing and does not say why")
        made.append(_Plan(bytes(built), network.num_layers, tuple(network.get_output(0).shape)))
        return made[0]

    convert = torch_tensorrt.dynamo.convert_exported_program_to_serialized_trt_engine
    check_keywords(convert, ["arg_inputs", *_SETTINGS])
    arguments = [torch_tensorrt.Input(shape=spec.shape, dtype=torch.float32) for spec in request.inputs]
    with mock.patch.object(compiler, "interpret_module_to_result", interpret), _errors_of_tensorrt() as said:
        try:
            convert(program, arg_inputs=arguments, **_SETTINGS)
        except Exception as error:
            if passes(error):
                raise
            raise EngineError(refusal(request.library.title, error, said)) from error
    return made[0]


def _name_tensors(network: Any, found: Sequence[str], inputs: Sequence[InputShape]) -> None:
    """Inputs are called as in the manifest, whatever the graph calls them, and the output ``output``.

    Raises:
        EngineError: they are not those of the graph, in its order, or not one output in float32 comes out.
    """
    names = [network.get_input(i).name for i in range(network.num_inputs)]
    if names != list(found) or len(names) != len(inputs):
        raise EngineError(
            f"the plan would take {', '.join(names) or 'nothing'}, but the graph takes {', '.join(found)}: every "
            "input must have a part in the network"
        )
    for i, spec in enumerate(inputs):
        network.get_input(i).name = spec.name
    if network.num_outputs != 1:
        raise EngineError(f"the graph gives {network.num_outputs} results, expected 1")
    network.get_output(0).name = "output"


def check_exact(trt: Any, config: Any) -> None:
    """Make sure that the setting against TF32 has arrived: nothing else would tell, as no GPU is here to compute.

    Raises:
        EngineError: it has not.
    """
    if config.get_flag(trt.BuilderFlag.TF32):
        raise EngineError(
            "the installed torch-tensorrt leaves TF32 on, which has three digits, too few for data consistency; "
            "Scanside was written for 2.13"
        )


def _set_targets(trt: Any, config: Any, request: Request) -> None:
    """Say which GPUs the plan is for, and that it must be possible to record it as a CUDA graph there.

    Raises:
        EngineError: the library does not build for one of them.
    """
    if not request.targets:
        return
    known = known_capabilities(trt)
    if unknown := [target for target in request.targets if target not in known]:
        raise EngineError(
            f"{request.library.title} {trt.__version__} does not build for GPUs of compute capability "
            f"{', '.join(unknown)}, only for {', '.join(known)}: take the others out of the list"
        )
    if request.precision == "bf16" and (old := [one for one in request.targets if float(one) < _FIRST_BF16]):
        raise EngineError(
            f"GPUs of compute capability {', '.join(old)} have no bf16: leave them out of the list, or take fp32"
        )
    # Else TensorRT-RTX may allocate memory while a plan runs, which cannot be recorded.
    config.set_flag(trt.BuilderFlag.REQUIRE_USER_ALLOCATION)
    config.num_compute_capabilities = len(request.targets)
    for i, target in enumerate(request.targets):
        if not config.set_compute_capability(known[target], i):
            raise EngineError(
                f"{request.library.title} does not take compute capability {target} into its list"
            )


def check_keywords(function: Callable[..., Any], keywords: Sequence[str]) -> None:
    """Make sure that a function of torch-tensorrt really has these parameters; it takes any others without a word.

    Raises:
        EngineError: it does not; names them.
    """
    known = {
        name
        for name, parameter in signature(function).parameters.items()
        if parameter.kind is not Parameter.VAR_KEYWORD
    }
    if unknown := sorted(set(keywords) - known):
        raise EngineError(
            f"the installed torch-tensorrt would ignore {', '.join(unknown)}: '{function.__name__}' has no such "
            "parameter; Scanside was written for 2.13"
        )


@contextmanager
def _errors_of_tensorrt() -> Iterator[list[str]]:
    """What TensorRT says of its errors: to its log, where the exception says only that nothing was built."""
    said: list[str] = []

    class Keep(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            said.append(record.getMessage())

    handler = Keep(logging.ERROR)
    logger = logging.getLogger(_LOGGER)
    logger.addHandler(handler)
    try:
        yield said
    finally:
        logger.removeHandler(handler)


def refusal(title: str, error: BaseException, said: Sequence[str]) -> str:
    """Why there is no plan, in the words that tell most: ours, those of TensorRT's log, or those of an exception.

    Args:
        title: of the library.
        error: what torch-tensorrt raised.
        said: errors in TensorRT's log.
    """
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, EngineError) and not said:
            return str(cause)
        error, cause = cause, cause.__cause__
    if not said:
        return f"{title} makes no plan of this graph: {type(error).__name__}: {_short(str(error))}"
    text = next((one for one in said if _LAYER.search(one)), said[0])
    if (found := _LAYER.search(text)) is None:
        return f"{title} makes no plan of this graph: {_short(text)}"
    layer, operator, node = found["layer"], found["operator"], found["node"]
    return (
        f"{title} refuses the operator aten.{operator} at '{node}' ({_short(text)}): {_remedy(layer, text)}"
    )


def _remedy(layer: str, text: str) -> str:
    if layer == "DECONVOLUTION" and "bf16" in text:
        return (
            "it has no transposed convolution in bf16; convert the bundle, whose network then goes up without one "
            "(scanside engines convert BUNDLE --output FOLDER), or build it in fp32"
        )
    return "build another precision, or write the network without it"


def _short(text: str) -> str:
    """The first sentence of what TensorRT says, without the weights that it may print."""
    words = " ".join(text.split())
    return words if len(words) <= _LONGEST_MESSAGE else f"{words[:_LONGEST_MESSAGE]}…"


if __name__ == "__main__":
    main()
