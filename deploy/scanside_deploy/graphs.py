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
from scanside.engines.manifest import Lowering as AnyLowering
from scanside.engines.shapes import columns_specs, film_specs, unrolled_specs
from scanside.errors import ConfigError
from scanside.recon.consistency import Lowering
from scanside_training.models import (
    BODIES,
    DualUnet,
    DualUnetConfig,
    Exact,
    ExactConfig,
    ModelConfig,
    Temporal,
    Unet,
    UnetConfig,
    Unrolled,
    UnrolledConfig,
    build_model,
)
from scanside_training.models.exact import WEIGHT_LIMITS as EXACT_WEIGHT_LIMITS
from scanside_training.models.exact import ExactUnrolled
from scanside_training.models.rules import WEIGHT_LIMITS, ProximalConfig

__all__ = ["Graphs", "Network", "lowering_of", "n_frames_of", "network_of", "write_graphs"]

Network = Unet | Unrolled | Exact | DualUnet | Temporal

_FILES: dict[Precision, str] = {"fp32": "graph.pt2", "bf16": "graph-bf16.pt2"}


def network_of(model: ModelConfig, lowering: Lowering) -> Network:
    """A network with fresh weights that computes data consistency in some way: the weights are the same for all.

    Raises:
        ConfigError: no bundle can be made of it.
    """
    if isinstance(model, UnrolledConfig) and model.sensitivities is not None:
        raise ConfigError(
            "a network that estimates its coil maps takes coil images, which no engine stage makes: "
            "train it with given maps (leave out model.sensitivities)"
        )
    if not isinstance(model, (UnetConfig, ExactConfig)):
        model = model.model_copy(update={"lowering": lowering})
    return build_model(model).eval()


def lowering_of(network: Network) -> AnyLowering:
    """How the network's data consistency is written; ``none`` where it has none."""
    config = network.config
    if isinstance(config, UnetConfig) or (isinstance(config, DualUnetConfig) and config.consistency is None):
        return "none"
    return "columns" if isinstance(config, ExactConfig) else config.lowering


def n_frames_of(network: Network | ExactUnrolled) -> int | None:
    """Length of the windows that the network takes; None where it takes single images."""
    return network.n_frames if isinstance(network, (DualUnet, Temporal)) else None


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
    inputs, weights = _written(network, _offered(network), _FILES, writer)
    columns = _columns_form(network)
    if columns is not None and isinstance(network, Unrolled):
        _written(ExactUnrolled(network).eval(), columns.inputs, columns.graphs, writer)
    save_file({k: v.to(kept).contiguous() for k, v in weights.items()}, writer.path(WEIGHTS_FILE))
    return Graphs(inputs, (TensorSpec(name="image", axes=inputs[0].axes),), dict(_FILES), columns)


def _columns_form(network: Network) -> ColumnsForm | None:
    """The exact form of a network that has one: λ as its training had it."""
    if isinstance(network, Exact):
        smallest, largest = EXACT_WEIGHT_LIMITS
        return ColumnsForm(
            inputs=columns_specs(),
            graphs=_FILES,
            weight=network.config.weight,
            smallest=smallest,
            largest=largest,
        )
    if not isinstance(network, Unrolled) or not isinstance(network.config.consistency, ProximalConfig):
        return None
    smallest, largest = WEIGHT_LIMITS
    return ColumnsForm(
        inputs=columns_specs(),
        graphs={precision: f"columns-{file}" for precision, file in _FILES.items()},
        weight=float(network.log_weights.detach().exp()),
        smallest=smallest,
        largest=largest,
    )


def _written(
    network: Network | ExactUnrolled,
    offered: tuple[TensorSpec, ...],
    files: Mapping[Precision, str],
    writer: BundleWriter,
) -> tuple[tuple[TensorSpec, ...], dict[str, torch.Tensor]]:
    """Export a network in every precision; what its graphs take of what it is offered, and its weights."""
    inputs = offered
    weights: dict[str, torch.Tensor] = {}
    for precision, file in files.items():
        program, tensors = _exported(network, precision, offered, inputs)
        if left_over := _left_over(program, inputs):
            # Compilers drop such inputs or refuse them, and then all that follow are bound to the wrong tensors.
            inputs = tuple(spec for spec in inputs if spec not in left_over)
            program, tensors = _exported(network, precision, offered, inputs)
        save_graph(program, writer.path(file))
        weights = weights or tensors
    return inputs, weights


def _offered(network: Network) -> tuple[TensorSpec, ...]:
    """What a network of this kind is called with, in its order."""
    if isinstance(network, Unet):
        return (TensorSpec(name="image", axes=("batch", network.config.image_channels, "k1", "k0")),)
    if isinstance(network, Exact):
        return columns_specs()
    if isinstance(network, Unrolled):
        return unrolled_specs(lowering_of(network))
    return film_specs(lowering_of(network), network.config.start if isinstance(network, Temporal) else None)


def _exported(
    network: Network | ExactUnrolled,
    precision: Precision,
    offered: Sequence[TensorSpec],
    inputs: Sequence[TensorSpec],
) -> tuple[ExportedProgram, dict[str, torch.Tensor]]:
    """Graph and weights; in bf16 the bodies compute in it, everything around them stays in fp32."""
    if precision == "bf16":
        network = copy.deepcopy(network)
        for module in network.modules():
            if isinstance(module, BODIES):
                module.to(torch.bfloat16)
    m, n_frames = network.multiple_of, n_frames_of(network)
    # Sizes that differ from each other and from all fixed lengths, so that none is taken for another.
    k1, k0, *_ = (n * m for n in (4, 6, 7) if n * m != n_frames)
    n_coils = 7 if n_frames == 5 else 5
    example = tuple(torch.zeros(spec.shape(k1, k0, n_coils, n_frames=n_frames)) for spec in inputs)

    def call(_network: nn.Module, given: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor | None, ...]:
        found = dict(zip(inputs, given, strict=True))
        return tuple(found.get(spec) for spec in offered)

    hook = network.register_forward_pre_hook(call)
    try:
        return export_graph(network, example, dynamic_axes([spec.axes for spec in inputs], m))
    finally:
        hook.remove()


def _left_over(program: ExportedProgram, inputs: Sequence[TensorSpec]) -> list[TensorSpec]:
    """The inputs that nothing in a graph depends on."""
    nodes = {node.name: node for node in program.graph.nodes if node.op == "placeholder"}
    names = program.graph_signature.user_inputs[-len(inputs) :]
    return [spec for spec, name in zip(inputs, names, strict=True) if not nodes[str(name)].users]
