"""One network through torch-tensorrt's lowering and partitioning, and the verdict on what came out."""

from __future__ import annotations

import io
import tempfile
from collections.abc import Iterator
from contextlib import redirect_stdout
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest import mock

import torch

from scanside.engines.backends.base import Precision, Source
from scanside.engines.backends.torch_tensorrt import build_plan
from scanside.engines.graph import bind, specialise
from scanside.errors import EngineError

__all__ = ["TOLERANCE", "DryRun", "dry_run"]

TOLERANCE: dict[Precision, float] = {"fp32": 1e-5, "bf16": 2e-2}
"""Largest relative error of the lowered graph, ‖lowered − eager‖ / ‖eager‖: the limits that engines have."""


@dataclass(frozen=True)
class DryRun:
    """What torch-tensorrt makes of one network.

    Attributes:
        network: which one.
        precision: of its graph.
        n_operators: in the lowered graph.
        n_supported: of these, those that have a converter to TensorRT.
        n_engines: TensorRT engines that the graph is cut into.
        fallback: operators that would run in PyTorch between them, with their counts.
        n_empty: tensors without elements in the lowered graph.
        inputs_in_order: whether the engine takes the network's inputs by the same names in the same order, which
            is how the backend binds them.
        relative_error: of the lowered graph against the network, on the CPU; None where it could not be run.
        failure: why lowering failed, where it did.
    """

    network: str
    precision: Precision
    n_operators: int = 0
    n_supported: int = 0
    n_engines: int = 0
    fallback: tuple[str, ...] = ()
    n_empty: int = 0
    inputs_in_order: bool = False
    relative_error: float | None = None
    failure: str = ""

    @property
    def problems(self) -> tuple[str, ...]:
        """Why this network cannot be one TensorRT engine; empty where nothing speaks against it."""
        return tuple(self._problems())

    def _problems(self) -> Iterator[str]:
        if self.failure:
            yield self.failure
            return
        if self.n_engines != 1:
            yield f"cut into {self.n_engines} TensorRT engines, expected 1"
        if self.fallback:
            yield f"{len(self.fallback)} operators run in PyTorch: {', '.join(sorted(set(self.fallback)))}"
        if self.n_supported != self.n_operators:
            yield f"TensorRT has {self.n_supported} of {self.n_operators} operators"
        if self.n_empty:
            yield f"{self.n_empty} tensors without elements, which TensorRT may refuse"
        if not self.inputs_in_order:
            yield "the engine would take its inputs by other names or in another order"
        limit = TOLERANCE[self.precision]
        # Written so that NaN is a problem as well.
        if self.relative_error is None or not self.relative_error <= limit:
            yield f"the lowered graph differs by {self.relative_error}, limit {limit:g}"


def dry_run(
    torch_tensorrt: ModuleType,
    network: str,
    source: Source,
    tensors: tuple[torch.Tensor, ...],
    precision: Precision = "fp32",
) -> DryRun:
    """Lower and partition a network as its engine would be built, and compare the outcome with the network.

    The backend's own function builds the plan, up to the point where TensorRT would take the graph: that is the
    graph which is then partitioned and run.

    Args:
        torch_tensorrt: from `torch_tensorrt_without_tensorrt`, whose block must still be open.
        network: its name in the report.
        source: what the backend would be given.
        tensors: inputs to compare with, in the shapes of the source.
        precision: of the graph.
    """
    compiler: Any = torch_tensorrt.dynamo._compiler  # noqa: SLF001 — nothing public shows the lowered graph
    built: list[_Built] = []

    def keep(graph: torch.fx.GraphModule, inputs: Any, settings: Any, **_others: Any) -> _Plan:
        built.append(_Built(graph, inputs, settings))
        return _Plan()

    program = specialise(source, precision)
    trackers: list[Any] = []
    with (
        redirect_stdout(io.StringIO()),
        tempfile.TemporaryDirectory() as scratch,
        mock.patch.object(compiler, "interpret_module_to_result", keep),
        mock.patch.object(
            compiler, "dryrun_stats_display", lambda tracker, _enabled: trackers.append(tracker)
        ),
        # Pieces that stay in PyTorch would be moved to the GPU at once.
        mock.patch.object(compiler, "to_torch_device", return_value=torch.device("cpu")),
    ):
        try:
            build_plan(program, source.inputs, Path(scratch))
            (made,) = built
            names = [str(node.target) for node in made.graph.graph.nodes if node.op == "placeholder"]
            # A network that is cut must be reported with its pieces; demanding the whole would hide them.
            settings = replace(made.settings, dryrun=True, require_full_compilation=False)
            lowered = compiler.compile_module(made.graph, made.inputs, {}, settings)
        except Exception as error:  # noqa: BLE001 — lowering passes raise anything
            reason = next(iter(str(error).splitlines()), "")
            return DryRun(
                network,
                precision,
                failure=f"torch-tensorrt cannot lower it: {type(error).__name__}: {reason}",
            )
    if not trackers:
        return DryRun(network, precision, failure="torch-tensorrt found no operator that TensorRT has")
    tracker = trackers[-1]
    engines = [part for name, part in lowered.named_children() if "_run_on_acc" in name]
    return DryRun(
        network,
        precision,
        n_operators=tracker.total_ops_in_graph,
        n_supported=tracker.supported_ops_in_graph,
        n_engines=tracker.tensorrt_graph_count,
        fallback=tuple(node.split(",")[0].removeprefix("Node: ") for node in tracker.to_run_in_torch),
        n_empty=sum(_n_empty(part) for part in engines),
        inputs_in_order=names == list(program.graph_signature.user_inputs),
        relative_error=_relative_error(lowered, bind(source, precision), tensors),
    )


@dataclass(frozen=True)
class _Built:
    """What torch-tensorrt was about to hand to TensorRT."""

    graph: torch.fx.GraphModule
    inputs: Any
    settings: Any


@dataclass(frozen=True)
class _Plan:
    """What it gets back instead of an engine."""

    serialized_engine: bytes = b""


def _n_empty(part: torch.fx.GraphModule) -> int:
    """Tensors without elements that operators take or give."""
    values = (node.meta.get("val") for node in part.graph.nodes)
    return sum(isinstance(value, torch.Tensor) and value.numel() == 0 for value in values)


def _relative_error(lowered: Any, network: torch.nn.Module, tensors: tuple[torch.Tensor, ...]) -> float:
    with torch.no_grad():
        expected = network(*tensors)
        found = lowered(*tensors)
    if isinstance(found, (tuple, list)):
        if len(found) != 1:
            raise EngineError(f"the lowered graph gives {len(found)} results, expected 1")
        (found,) = found
    error = torch.linalg.vector_norm(found.double() - expected.double())
    return float(error / torch.linalg.vector_norm(expected.double()))
