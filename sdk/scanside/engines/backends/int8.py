"""Convolutions in int8 for OpenVINO, quantised by NNCF with ranges from scans as the network was trained for."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from scanside.errors import BundleError, ConfigError, EngineError

if TYPE_CHECKING:
    from torch.export import ExportedProgram
    from torch.fx import Node

    from scanside.engines.backends.base import Source

__all__ = ["inner_convolutions", "quantised", "what_is_missing"]


def what_is_missing(source: Source) -> str | None:
    """Why no engine in int8 can be made from a source here; None where it can."""
    if find_spec("nncf") is None:
        return "nncf, which quantises, is not installed; pip install 'scanside[int8]'"
    if next(iter(source.calibration()), None) is None:
        return "the bundle brings no cases to take ranges from: take a newer one, or build it again"
    return None


def quantised(model: Any, source: Source) -> Any:
    """The same model with its convolutions in int8, but for the first and last of each network part.

    What goes into a first one has any scale, as no norm came before, and what comes out of a last one is the
    correction itself. Norms, data consistency and all else stay in fp32.

    Args:
        model: OpenVINO's, converted from the fp32 graph.
        source: that it was converted from.

    Raises:
        EngineError: there is nothing to quantise, or NNCF cannot do it.
    """
    try:
        inner = inner_convolutions(source.program("bf16"))
    except (BundleError, ConfigError) as error:
        raise EngineError(f"the bf16 graph says where network parts begin and end: {error}") from error
    operators = model.get_ordered_ops()
    found = [one for one in operators if _is_convolution(one.get_type_name())]
    ranks = _ranks(
        (one.get_friendly_name(), _is_convolution(one.get_type_name()), _parents(one)) for one in operators
    )
    # OpenVINO folds and renames: what stays is how many convolutions come before one.
    if set(ranks) != set(inner):
        raise EngineError("openvino put the convolutions in another order than the graph has")
    if not any(inner.values()):
        raise EngineError("no convolution lies between two others, so that there is nothing to quantise")
    outer = [one.get_friendly_name() for one, rank in zip(found, ranks, strict=True) if not inner[rank]]
    others = {one.get_type_name() for one in operators} - {one.get_type_name() for one in found}
    samples = [[one.numpy() for one in inputs] for inputs in source.calibration()]
    with _quiet():
        import nncf

        try:
            return nncf.quantize(
                model,
                nncf.Dataset(samples),
                subset_size=len(samples),
                # What leaky ReLUs put out lies on one side for the most part.
                preset=nncf.QuantizationPreset.MIXED,
                ignored_scope=nncf.IgnoredScope(names=outer, types=sorted(others), validate=False),
            )
        except (RuntimeError, ValueError, nncf.errors.UnsupportedModelError) as error:
            raise EngineError(f"nncf cannot quantise the graph: {error}") from error


def inner_convolutions(program: ExportedProgram) -> dict[int, bool]:
    """For the convolutions of a bf16 graph, whether others lie before and behind them in their network part.

    A part begins where something is cast to bf16, and ends where it is cast back. Several of one rank are inner ones
    if all of them are.
    """
    nodes = [node for node in program.graph.nodes if _dtype(node) == torch.bfloat16]
    before: dict[Node, bool] = {}
    for node in nodes:
        before[node] = (
            node.op == "placeholder"  # weights, which say nothing of where a part begins
            or _is_convolution(str(node.target))
            or all(before.get(one, False) for one in node.all_input_nodes if _dtype(one))
        )
    behind: dict[Node, bool] = {}
    for node in reversed(nodes):
        users = [one for one in node.users if _dtype(one)]
        behind[node] = all(_is_convolution(str(one.target)) or behind.get(one, False) for one in users)
    convolutions = [node for node in program.graph.nodes if _is_convolution(str(node.target))]
    inner = [before.get(node.all_input_nodes[0], False) and behind.get(node, False) for node in convolutions]
    ranks = _ranks(
        (node.name, _is_convolution(str(node.target)), [one.name for one in node.all_input_nodes])
        for node in program.graph.nodes
    )
    return {
        rank: all(one for one, other in zip(inner, ranks, strict=True) if other == rank) for rank in ranks
    }


def _ranks(nodes: Iterable[tuple[str, bool, Sequence[str]]]) -> list[int]:
    """How many convolutions come before each convolution, from name, kind and parents of all nodes in their order."""
    before: dict[str, int] = {}
    ranks: list[int] = []
    for name, is_convolution, parents in nodes:
        before[name] = 0
        for parent in parents:
            before[name] |= before[parent]
        if is_convolution:
            before[name] |= 1 << len(ranks)
            ranks.append(before[name].bit_count() - 1)
    return ranks


def _is_convolution(kind: str) -> bool:
    """Of an operator's kind in either graph: ``aten.conv2d.default``, ``Convolution``."""
    return kind.startswith(("aten.conv", "Convolution", "GroupConvolution"))


def _parents(operator: Any) -> list[str]:
    return [one.get_source_output().get_node().get_friendly_name() for one in operator.inputs()]


def _dtype(node: Node) -> torch.dtype | None:
    """Of a tensor, or of the tensors of a list; None for numbers."""
    value = node.meta.get("val")
    first = value[0] if isinstance(value, (list, tuple)) and value else value
    return first.dtype if isinstance(first, torch.Tensor) else None


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """NNCF without its telemetry, which would tell Google Analytics what is quantised, and without its progress bars.

    It makes its own class that of all new loggers, which is undone.
    """
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    kind = logging.getLoggerClass()
    try:
        import nncf  # noqa: F401
    finally:
        logging.setLoggerClass(kind)
    logging.getLogger("nncf").setLevel(logging.ERROR)
    with (
        Path(os.devnull).open("w", encoding="utf-8") as nowhere,
        contextlib.redirect_stdout(nowhere),
        contextlib.redirect_stderr(nowhere),
    ):
        yield
