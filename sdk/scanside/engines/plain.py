"""What an exported graph computes, read from its archive in a second or two.

`scanside.engines.archive.load_graph` gives what exporters and compilers ask for: every tensor in the graph with its
size as a formula, and that each formula holds. For a network of thousands of operators that takes torch most of a
minute, and none of it matters to running the graph. Here only its operators are read, in their order, with their
arguments; nothing in the archive is evaluated.
"""

from __future__ import annotations

import json
import math
import operator
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import fx, nn
from torch.export import ExportedProgram

from scanside.engines.archive import CONSTANTS, GRAPH, check_archive
from scanside.errors import BundleError

__all__ = ["PlainGraph", "read_plain"]

_DTYPES = {
    1: torch.uint8,
    2: torch.int8,
    3: torch.int16,
    4: torch.int32,
    5: torch.int64,
    6: torch.float16,
    7: torch.float32,
    8: torch.float64,
    9: torch.complex32,
    10: torch.complex64,
    11: torch.complex128,
    12: torch.bool,
    13: torch.bfloat16,
}
_MEMORY_FORMATS = {
    1: torch.contiguous_format,
    2: torch.channels_last,
    3: torch.channels_last_3d,
    4: torch.preserve_format,
}
_STRIDED = 7
_POSITIONAL = 1
_MODULES = {"torch": torch, "_operator": operator, "math": math}


@dataclass(frozen=True)
class PlainGraph:
    """A graph without weights, to be run as it is or traced anew.

    Attributes:
        module: called with constants, weights and inputs, one after the other; gives a tuple of outputs.
        constants: that came with the graph.
        weights: shape and type of the weights, in their order.
    """

    module: fx.GraphModule
    constants: tuple[torch.Tensor, ...]
    weights: tuple[torch.Tensor, ...]

    @classmethod
    def of(cls, program: ExportedProgram) -> PlainGraph:
        """Of a program that was just exported by `scanside.engines.graph.export_graph`."""
        values = {node.name: node.meta["val"] for node in program.graph.nodes if node.op == "placeholder"}
        names = (str(name) for name in program.graph_signature.user_inputs)
        lifted = program.graph_signature.inputs_to_lifted_tensor_constants.values()
        return cls(
            program.graph_module,
            tuple(program.constants[name] for name in lifted),
            tuple(values[name] for name in names if name.startswith(_WEIGHT)),
        )


_WEIGHT = "weights_"
"""Begins the names of all weights in graphs: those of the dictionary that they are exported with."""


def read_plain(source: Path | bytes, where: str | None = None) -> PlainGraph:
    """Read an exported graph, after `check_archive`.

    Args:
        source: the archive, or its bytes.
        where: named in errors; by default the file.

    Raises:
        UnsafeArchive: the archive asks for more than reading a graph.
        BundleError: the graph is written in a way that this version does not know.
    """
    where = where or (str(source) if isinstance(source, Path) else "graph")
    entries = check_archive(source, where)
    whole = json.loads(entries[GRAPH])
    try:
        graph, signature = whole["graph_module"]["graph"], whole["graph_module"]["signature"]
        reader = _Reader(graph)
        constants = _constants(signature["input_specs"], entries)
        weights = [_meta(graph["tensor_values"][name]) for name in reader.inputs if name.startswith(_WEIGHT)]
        return PlainGraph(reader.read(), constants, tuple(weights))
    except (LookupError, TypeError, AttributeError, ValueError) as error:
        made_with = whole.get("torch_version", "unknown")
        raise BundleError(
            f"{where}: this version cannot read the graph, which torch {made_with} wrote ({type(error).__name__}: "
            f"{str(error)[:200]}): build the bundle again, or convert it (scanside engines convert)"
        ) from error


class _Reader:
    """Makes a graph of what `torch.export.save` wrote of one.

    Args:
        graph: as in the archive, checked.
    """

    def __init__(self, graph: Mapping[str, Any]) -> None:
        self.inputs = [_only(one)[1]["name"] for one in graph["inputs"]]
        self._serialised = graph
        self._graph = fx.Graph()
        self._values: dict[str, Any] = {}

    def read(self) -> fx.GraphModule:
        """The graph, called with all of its inputs one after the other."""
        for name in self.inputs:
            self._values[name] = self._graph.placeholder(name)
        for node in self._serialised["nodes"]:
            self._add(node)
        self._graph.output(tuple(self._argument(one) for one in self._serialised["outputs"]))
        return fx.GraphModule(nn.Module(), self._graph)

    def _add(self, node: Mapping[str, Any]) -> None:
        module, *path = node["target"].split(".")
        target: Any = _MODULES[module]
        for name in path:
            target = getattr(target, name)
        positional, named = [], {}
        for one in node["inputs"]:
            value = self._argument(one["arg"])
            if one.get("kind") == _POSITIONAL or not one["name"]:
                positional.append(value)
            else:
                named[one["name"]] = value
        result = self._graph.call_function(target, tuple(positional), named)
        outputs = node["outputs"]
        if len(outputs) == 1:
            self._name(result, outputs[0])
        else:
            for index, output in enumerate(outputs):
                self._name(self._item(result, index), output)

    def _item(self, value: fx.Node, index: int) -> fx.Node:
        return self._graph.call_function(operator.getitem, (value, index))

    def _name(self, value: fx.Node, output: Mapping[str, Any]) -> None:
        """Remember what an operator gives by the name that others call it by."""
        kind, what = _only(output)
        if kind == "as_tensor":
            self._values[what["name"]] = value
        elif kind == "as_tensors":
            for index, one in enumerate(what):
                self._values[one["name"]] = self._item(value, index)
        elif kind in _SYMBOLS:
            self._values[what["as_name"]] = value
        elif kind != "as_none":
            raise ValueError(f"an operator gives '{kind}'")

    def _argument(self, argument: Mapping[str, Any]) -> Any:
        kind, value = _only(argument)
        if kind in _PLAIN:
            return value
        match kind:
            case "as_none":
                return None
            case "as_tensor":
                return self._values[value["name"]]
            case "as_tensors":
                return [self._values[one["name"]] for one in value]
            case "as_optional_tensor":
                return self._argument(value)
            case "as_optional_tensors":
                return [self._argument(one) for one in value]
            case "as_float":
                return float(value)  # infinity stands there as a text
            case "as_floats":
                return [float(one) for one in value]
            case "as_scalar_type":
                return _DTYPES[value]
            case "as_memory_format":
                return _MEMORY_FORMATS[value]
            case "as_layout" if value == _STRIDED:
                return torch.strided
            case "as_device":
                return torch.device(value["type"], value["index"])
            case "as_complex":
                return complex(value["real"], value["imag"])
        if kind in _SYMBOLS:
            return self._symbol(value)
        if kind in ("as_sym_ints", "as_sym_floats", "as_sym_bools"):
            return [self._symbol(one) for one in value]
        raise ValueError(f"an operator takes '{kind}'")

    def _symbol(self, argument: Mapping[str, Any]) -> Any:
        """A number that the graph computes, or one that is fixed."""
        kind, value = _only(argument)
        return self._values[value] if kind == "as_name" else value


_PLAIN = frozenset({"as_int", "as_ints", "as_bool", "as_bools", "as_string", "as_strings"})
_SYMBOLS = frozenset({"as_sym_int", "as_sym_float", "as_sym_bool"})


def _only(union: Mapping[str, Any]) -> tuple[str, Any]:
    """Kind and value of what is one of several kinds."""
    ((kind, value),) = union.items()
    return kind, value


def _constants(specs: Sequence[Mapping[str, Any]], entries: Mapping[str, bytes]) -> tuple[torch.Tensor, ...]:
    """The tensors that came with a graph, which are its first inputs."""
    payloads = json.loads(entries[CONSTANTS])["config"]
    found = []
    kinds = [_only(spec)[0] for spec in specs]
    if kinds != sorted(kinds, key=lambda kind: kind == "user_input"):
        raise ValueError("its constants are not its first inputs")
    for spec in specs:
        kind, what = _only(spec)
        if kind == "user_input":
            continue
        if kind != "tensor_constant":
            raise ValueError(f"it has an input of the kind '{kind}'")
        payload = payloads[what["tensor_constant_name"]]
        meta = payload["tensor_meta"]
        data = entries[f"{CONSTANTS.rpartition('/')[0]}/{payload['path_name']}"]
        flat = torch.frombuffer(bytearray(data), dtype=_DTYPES[meta["dtype"]])
        sizes, strides = ([_only(one)[1] for one in meta[name]] for name in ("sizes", "strides"))
        found.append(flat.as_strided(sizes, strides, _only(meta["storage_offset"])[1]))
    return tuple(found)


def _meta(value: Mapping[str, Any]) -> torch.Tensor:
    """Shape and type of a weight."""
    sizes = [_only(one)[1] for one in value["sizes"]]
    return torch.empty(sizes, dtype=_DTYPES[value["dtype"]], device="meta")
