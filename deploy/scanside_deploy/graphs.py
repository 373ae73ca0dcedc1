"""A network's exported graphs, as a bundle holds them."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from safetensors.torch import save_file
from torch import nn
from torch.export import ExportedProgram

from scanside.engines.archive import save_graph
from scanside.engines.bundle import BundleWriter
from scanside.engines.graph import dynamic_axes, export_graph
from scanside.engines.manifest import WEIGHTS_FILE, ColumnsForm, Precision, TensorSpec
from scanside.engines.shapes import columns_specs
from scanside.errors import ConfigError
from scanside.recon.consistency import Lowering
from scanside_training.models import Body, Network, NetworkConfig

__all__ = ["Graphs", "network_of", "write_graphs"]

_FILES: dict[Precision, str] = {"fp32": "graph.pt2", "bf16": "graph-bf16.pt2"}


def network_of(model: NetworkConfig, lowering: Lowering) -> Network:
    """A network with fresh weights that computes data consistency in some way: the weights are the same for all.

    Raises:
        ConfigError: no bundle can be made of it.
    """
    if model.unfit:
        raise ConfigError(model.unfit)
    return model.lowered(lowering).build().eval()


@dataclass(frozen=True)
class Graphs:
    """What was written of a network.

    Attributes:
        inputs: what the graphs take, in their order: of all that a network of its kind is offered, what it uses.
        outputs: what they give.
        files: name of the graph's file for each precision.
        columns: the exact form of a network that has one.
    """

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    files: dict[Precision, str]
    columns: ColumnsForm | None


def write_graphs(network: Network, writer: BundleWriter, kept: torch.dtype = torch.float32) -> Graphs:
    """Export a network in all precisions into a bundle, and its weights, which are inputs of the graphs.

    Args:
        network: with its weights, in evaluation mode.
        writer: of the bundle.
        kept: type in which the weights are kept.
    """
    # Without a body nothing of a network computes in another precision.
    bodies = any(isinstance(part, Body) for part in network.modules())
    files = {one: file for one, file in _FILES.items() if bodies or one == "fp32"}
    inputs, weights = _written(network, network, network.offered(), files, writer)
    exact, columns = network.exact(), None
    if exact is not None:
        alone = exact.network is network
        smallest, largest = exact.limits
        columns = ColumnsForm(
            inputs=columns_specs(),
            graphs=files if alone else {precision: f"columns-{file}" for precision, file in files.items()},
            weight=exact.weight,
            smallest=smallest,
            largest=largest,
        )
        if not alone:
            _written(exact.network.eval(), network, columns.inputs, columns.graphs, writer)
    save_file({k: v.to(kept).contiguous() for k, v in weights.items()}, writer.path(WEIGHTS_FILE))
    return Graphs(inputs, network.outputs(), files, columns)


def _written(
    module: nn.Module,
    network: Network,
    offered: tuple[TensorSpec, ...],
    files: Mapping[Precision, str],
    writer: BundleWriter,
) -> tuple[tuple[TensorSpec, ...], dict[str, torch.Tensor]]:
    """Export a form of a network in every precision: what its graphs take of what is offered, and its weights."""
    inputs = offered
    weights: dict[str, torch.Tensor] = {}
    for precision, file in files.items():
        program, tensors = _exported(module, network, precision, offered, inputs)
        if left_over := _left_over(program, inputs):
            # Compilers drop such inputs or refuse them, and then all that follow are bound to the wrong tensors.
            inputs = tuple(spec for spec in inputs if spec not in left_over)
            program, tensors = _exported(module, network, precision, offered, inputs)
        save_graph(program, writer.path(file))
        weights = weights or tensors
    return inputs, weights


def _exported(
    module: nn.Module,
    network: Network,
    precision: Precision,
    offered: Sequence[TensorSpec],
    inputs: Sequence[TensorSpec],
) -> tuple[ExportedProgram, dict[str, torch.Tensor]]:
    """Graph and weights; in bf16 the bodies compute in it, everything around them stays in fp32."""
    if precision == "bf16":
        module = copy.deepcopy(module)
        for part in module.modules():
            if isinstance(part, Body):
                part.to(torch.bfloat16)
    m, n_frames, fixed = network.multiple_of, network.n_frames, network.fixed_size
    # Sizes that differ from each other and from all fixed lengths, so that none is taken for another.
    k1, k0, *_ = fixed or (n * m for n in (4, 6, 7) if n * m != n_frames)
    n_coils = 7 if n_frames == 5 else 5
    example = tuple(torch.zeros(spec.shape(k1, k0, n_coils, n_frames=n_frames)) for spec in inputs)

    def call(_module: nn.Module, given: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor | None, ...]:
        found = dict(zip(inputs, given, strict=True))
        return tuple(found.get(spec) for spec in offered)

    hook = module.register_forward_pre_hook(call)
    try:
        axes = dynamic_axes([spec.axes for spec in inputs], m, any_size=fixed is None)
        return export_graph(module, example, axes)
    finally:
        hook.remove()


def _left_over(program: ExportedProgram, inputs: Sequence[TensorSpec]) -> list[TensorSpec]:
    """The inputs that nothing in a graph depends on."""
    nodes = {node.name: node for node in program.graph.nodes if node.op == "placeholder"}
    names = program.graph_signature.user_inputs[-len(inputs) :]
    return [spec for spec, name in zip(inputs, names, strict=True) if not nodes[str(name)].users]
