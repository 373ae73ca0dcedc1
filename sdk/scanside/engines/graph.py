"""Graphs without weights: exported with the weights as inputs, and bound to them when an engine is made.

A bundle holds its weights once, as safetensors, and a graph that has none: what is executed cannot disagree with
what is hashed, and the archive of the graph needs nothing that would have to be unpickled.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import nn
from torch.export import Dim, ExportedProgram

from scanside.engines.backends.base import InputShape, Precision, Source
from scanside.engines.plain import PlainGraph
from scanside.errors import ConfigError, EngineError

__all__ = [
    "BoundGraph",
    "GraphSource",
    "ShapesOnly",
    "bind",
    "dynamic_axes",
    "example_tensors",
    "export_graph",
    "fourier_operators",
    "specialise",
]

DynamicShape = dict[int, object]
_SMALLEST = 2  # torch.export takes a size of 1 for a constant


class _Weightless(nn.Module):
    """Calls a module with weights that are arguments; holds it where ``nn.Module`` does not see its parameters."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self._module = (module,)

    def forward(self, weights: dict[str, torch.Tensor], *inputs: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = torch.func.functional_call(self._module[0], weights, inputs)
        return result


def dynamic_axes(
    axes: Sequence[Sequence[str | int]], multiple_of: int = 1, *, any_size: bool = True
) -> tuple[DynamicShape, ...]:
    """The ``dynamic_shapes`` of inputs whose axes are named.

    Args:
        axes: for every input its axes as in the manifest; ``k1`` and ``k0`` may have any size that is a multiple of
            `multiple_of`, ``coil`` any size, all others, ``time`` among them, keep the size of the example.
        multiple_of: what the network needs, 2 to the number of its poolings.
        any_size: whether ``k1`` and ``k0`` may change; else they, too, keep the size of the example.

    Returns:
        One mapping from axis to `torch.export.Dim` per input.
    """
    dims: dict[str, object] = {"coil": Dim("coil", min=_SMALLEST)}
    for name in ("k1", "k0"):
        # Multiples of one are the dimension itself, which must not be written as a product.
        step = Dim(name, min=_SMALLEST)
        dims[name] = multiple_of * step if multiple_of > 1 else step
    if not any_size:
        dims = {"coil": dims["coil"]}
    return tuple({i: dims[str(name)] for i, name in enumerate(names) if name in dims} for names in axes)


def export_graph(
    module: nn.Module,
    example_inputs: Sequence[torch.Tensor],
    dynamic_shapes: Sequence[DynamicShape],
) -> tuple[ExportedProgram, dict[str, torch.Tensor]]:
    """Export a network without its weights.

    Args:
        module: the trained network in evaluation mode.
        example_inputs: inputs of any allowed size, batch 1.
        dynamic_shapes: per input, which of its axes have more than one size; see `dynamic_axes`.

    Returns:
        The program, called as ``program.module()(weights, *inputs)``, and the weights by name (parameters and
        buffers, sorted).

    Raises:
        ConfigError: the network is in training mode, or some of its tensors are not registered as parameters or
            buffers, so that they would end up in the graph.
    """
    if module.training:
        raise ConfigError(f"{type(module).__name__} is in training mode: call .eval() before it is exported")
    named = [*module.named_parameters(), *module.named_buffers()]
    weights = {name: tensor.detach() for name, tensor in sorted(named)}
    fixed: dict[str, DynamicShape] = {name: {} for name in weights}
    with torch.no_grad():
        program = torch.export.export(
            _Weightless(module).eval(),
            (weights, *example_inputs),
            dynamic_shapes=(fixed, tuple(dynamic_shapes)),
        )
    if program.state_dict:
        raise ConfigError(f"the exported graph holds weights of its own: {', '.join(program.state_dict)}")
    program.example_inputs = None  # they hold the weights, and would be pickled into the archive
    return program, weights


class BoundGraph(nn.Module):
    """A graph with its weights: takes the network's inputs only.

    Shapes are not checked here; the runners do that, with messages for people.

    Args:
        graph: without weights.
        weights: all weights by name; converted to the types that the graph computes in.

    Raises:
        ConfigError: weights are missing, superfluous or of another shape.
    """

    def __init__(self, graph: PlainGraph, weights: Mapping[str, torch.Tensor]) -> None:
        super().__init__()
        names = sorted(weights)
        if len(graph.weights) != len(weights):
            raise ConfigError(f"the graph takes {len(graph.weights)} weights, but there are {len(weights)}")
        self._first: list[str] = []
        for index, constant in enumerate(graph.constants):
            self._first.append(f"constant_{index}")
            self.register_buffer(self._first[-1], constant)
        for name, like in zip(names, graph.weights, strict=True):
            tensor = weights[name]
            if tensor.shape != like.shape:
                raise ConfigError(
                    f"weight '{name}' has shape {tuple(tensor.shape)}, but the graph takes {tuple(like.shape)}: "
                    "graph and weights are of different models"
                )
            bound = nn.Parameter(tensor.detach().to(like.dtype), requires_grad=False)
            self._first.append("weight_" + name.replace(".", "__"))
            self.register_parameter(self._first[-1], bound)
        self.graph = graph.module

    def forward(self, *inputs: torch.Tensor) -> torch.Tensor:
        """The network's output."""
        result: torch.Tensor
        (result,) = self.graph(*(getattr(self, name) for name in self._first), *inputs)
        return result


def bind(source: Source, precision: Precision = "fp32") -> BoundGraph:
    """The network of a source as a module, for all sizes that its graph allows."""
    return BoundGraph(source.plain(precision), source.weights())


def example_tensors(inputs: Sequence[InputShape]) -> tuple[torch.Tensor, ...]:
    """Zeros in the shapes of an engine's inputs."""
    return tuple(torch.zeros(spec.shape) for spec in inputs)


def specialise(source: Source, precision: Precision = "fp32") -> ExportedProgram:
    """A program with the weights inside and for the source's shapes alone, as compilers and converters want it.

    Raises:
        EngineError: the graph does not allow these shapes.
    """
    try:
        with torch.no_grad():
            return torch.export.export(bind(source, precision), example_tensors(source.inputs))
    except (RuntimeError, AssertionError, ValueError) as error:
        shapes = ", ".join(map(str, source.inputs))
        raise EngineError(f"the graph cannot be made for the shapes {shapes}: {error}") from error


def fourier_operators(program: ExportedProgram) -> list[str]:
    """Names of the Fourier transforms in a graph, empty where there is none."""
    called = {str(node.target) for node in program.graph.nodes if node.op == "call_function"}
    return sorted(name for name in called if "fft" in name)


@dataclass(frozen=True)
class ShapesOnly:
    """A `Source` for engines that carry graph and weights themselves.

    Attributes:
        inputs: static shape of every input.
    """

    inputs: tuple[InputShape, ...]

    def program(self, precision: Precision) -> ExportedProgram:
        """None is there.

        Raises:
            EngineError: always.
        """
        raise EngineError("the engine asked for the graph, although it should carry it")

    def plain(self, precision: Precision) -> PlainGraph:
        """None is there.

        Raises:
            EngineError: always.
        """
        raise EngineError("the engine asked for the graph, although it should carry it")

    def weights(self) -> Mapping[str, torch.Tensor]:
        """None are there.

        Raises:
            EngineError: always.
        """
        raise EngineError("the engine asked for the weights, although it should carry them")

    def calibration(self) -> Sequence[tuple[torch.Tensor, ...]]:
        """None is there.

        Raises:
            EngineError: always.
        """
        raise EngineError("the engine asked for inputs to calibrate with, although it is built")


@dataclass(frozen=True)
class GraphSource:
    """A `Source` whose graphs and weights are in memory.

    Attributes:
        inputs: static shape of every input.
        programs: the graph for each precision.
        tensors: weights by name.
        samples: inputs to calibrate with.
    """

    inputs: tuple[InputShape, ...]
    programs: Mapping[Precision, ExportedProgram]
    tensors: Mapping[str, torch.Tensor] = field(repr=False)
    samples: Sequence[tuple[torch.Tensor, ...]] = field(default=(), repr=False)

    def program(self, precision: Precision) -> ExportedProgram:
        """See `Source`."""
        if precision not in self.programs:
            raise ConfigError(f"there is no {precision} graph, only {', '.join(self.programs)}")
        return self.programs[precision]

    def plain(self, precision: Precision) -> PlainGraph:
        """See `Source`."""
        return PlainGraph.of(self.program(precision))

    def weights(self) -> Mapping[str, torch.Tensor]:
        """See `Source`."""
        return self.tensors

    def calibration(self) -> Sequence[tuple[torch.Tensor, ...]]:
        """See `Source`."""
        return self.samples
