"""From a bundle to one of this version, without training: the same weights in graphs that are exported anew."""

from __future__ import annotations

from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch.utils._pytree import tree_map

from scanside.engines.backends.base import InputShape
from scanside.engines.bundle import Bundle, BundleWriter
from scanside.engines.check import relative_error
from scanside.engines.graph import BoundGraph
from scanside.engines.manifest import WEIGHTS_FILE, Manifest, Range, Sampling, TensorSpec
from scanside.engines.plain import PlainGraph, read_plain
from scanside.engines.probes import Network, make_probes, read_cases
from scanside.errors import BundleError, ConfigError
from scanside.recon.consistency import LOWERINGS, Lowering
from scanside.storage import naming_disk
from scanside_deploy.graphs import network_of, write_graphs
from scanside_training.checkpoint import load_bundle_weights
from scanside_training.config import load_config
from scanside_training.data.simulation import SimulationConfig
from scanside_training.record import versions

__all__ = ["LARGEST_DIFFERENCE", "convert_bundle", "next_version"]

LARGEST_DIFFERENCE = 1e-6
"""Between the images of both networks, relative to them, computed in double precision.

In single precision, rounding alone makes more of a difference: a hundred steps of conjugate gradients turn another
order of sums into 5e-5 where a scan is ill-conditioned, which is also how far either network is from the truth.
"""

_MOST_COILS = 8


def convert_bundle(
    bundle: Bundle, output: Path, *, version: str | None = None, replace: bool = False
) -> Manifest:
    """Write a bundle again as this version builds it: for engines that take no other graphs, or for other ones.

    Its network is built from the configuration that came with it and gets its weights. What it says of training,
    data, quality and limits stays, and older ones get the levels of noise that the configuration tells; engines that
    were accepted or came with it belong to the graphs that it had.

    Args:
        bundle: opened.
        output: the new bundle's folder; may be that of `bundle`, which is then replaced.
        version: of the new bundle; the next minor one by default.
        replace: put it in the place of a bundle that is there.

    Returns:
        The manifest of the new bundle; no one signed it.

    Raises:
        ConfigError: the bundle does not say how it was trained, or this version knows no such network.
        FormatError: the weights are those of another network.
        BundleError: the new network computes something else, or the bundle cannot be written.
        RunError: the disk is full, or the folder must not be written.
        FileExistsError: there is something at `output`, and it may not be replaced.
    """
    manifest = bundle.manifest
    training = manifest.training
    if training is None:
        raise ConfigError(
            f"bundle '{bundle.name}' does not say how it was trained, and so not what its network is: build it from "
            "its training run (scanside engines build RUN)"
        )
    lowering: Lowering = next((one for one in LOWERINGS if one == manifest.lowering), "pmatrix")
    config = load_config(bundle.folder / training.config)
    network = network_of(config.model, lowering)
    load_bundle_weights(network, bundle)
    weights = bundle.weights()
    kept = torch.float16 if all(one.dtype == torch.float16 for one in weights.values()) else torch.float32
    with (
        naming_disk(output.parent, f"the bundle '{bundle.name}' was not written"),
        BundleWriter(output, replace=replace) as writer,
    ):
        graphs = write_graphs(network, writer, kept)
        _check_equal(bundle, graphs.inputs, writer.path(graphs.files["fp32"]), writer.path(WEIGHTS_FILE))
        for path in manifest.named_files():
            if path != WEIGHTS_FILE and path not in manifest.graph_files():
                writer.path(path).write_bytes(bundle.read(path))
        fields = {name: value for name, value in manifest if name not in ("schema_version", "files")}
        return writer.finish(
            **{
                **fields,
                "version": version or next_version(manifest.version),
                "created": datetime.now(timezone.utc),
                "made_with": versions(),
                "inputs": graphs.inputs,
                "outputs": graphs.outputs,
                "graphs": graphs.files,
                "columns": graphs.columns,
                "sampling": _with_snr(manifest.sampling, config.data.simulation),
                "acceptance": (),
            }
        )


def next_version(version: str) -> str:
    """The next minor version of a bundle: what it computes is the same, and how it does so is not."""
    major, minor, _ = version.split(".")
    return f"{major}.{int(minor) + 1}.0"


def _with_snr(sampling: Sampling, simulation: SimulationConfig) -> Sampling:
    low, high = simulation.snr
    return sampling if sampling.snr else sampling.model_copy(update={"snr": Range(low=low, high=high)})


def _check_equal(bundle: Bundle, inputs: tuple[TensorSpec, ...], graph: Path, weights: Path) -> None:
    """Compare the network that was written with that of the bundle, on the bundle's real cases.

    Raises:
        BundleError: they differ.
    """
    manifest = bundle.manifest
    cases = read_cases(manifest.task, bundle.vectors(), manifest.lowering)
    truth = next(iter(cases.values()))["truth"]
    k1, k0 = (-(-n // manifest.shapes.multiple_of) * manifest.shapes.multiple_of for n in truth.shape[-2:])
    n_coils = None if manifest.shapes.coils is None else manifest.shapes.coils_for(_MOST_COILS)

    def images(
        specs: tuple[TensorSpec, ...], graph: PlainGraph, tensors: dict[str, torch.Tensor]
    ) -> list[torch.Tensor]:
        shapes = tuple(
            InputShape(spec.name, spec.shape(k1, k0, n_coils, n_frames=manifest.shapes.frames))
            for spec in specs
        )
        network = _in_double_precision(BoundGraph(graph, tensors))
        probes = make_probes(Network(manifest.task, manifest.lowering, shapes), cases)
        with torch.inference_mode():
            return [
                network(*(one.double() for one in probe.inputs))
                for probe in probes
                if probe.truth is not None
            ]

    before = images(manifest.inputs, bundle.plain(), bundle.weights())
    now = images(inputs, read_plain(graph), load_file(weights))
    error = max(relative_error(one, other) for one, other in zip(now, before, strict=True))
    if not error <= LARGEST_DIFFERENCE:
        raise BundleError(
            f"as this version builds it, the network of bundle '{bundle.name}' gives other images: they differ by "
            f"{error:.2g} of those that it gave, allowed is {LARGEST_DIFFERENCE:g}. Keep the bundle as it is, which "
            "runs as before, or train the network again"
        )


def _in_double_precision(network: BoundGraph) -> BoundGraph:
    """The network with float64 wherever its graph says float32."""

    def doubled(argument: Any) -> Any:
        return torch.float64 if argument is torch.float32 else argument

    for node in network.graph.graph.nodes:
        node.args, node.kwargs = (tree_map(doubled, one) for one in (node.args, node.kwargs))
        if node.target is torch.ops.aten._assert_tensor_metadata.default:  # noqa: SLF001 — a node of the graph
            node.graph.erase_node(node)
    network.graph.recompile()
    return network.double()
