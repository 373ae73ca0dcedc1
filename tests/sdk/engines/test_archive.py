"""Archives of exported graphs: what could run code when torch opens it is refused before torch sees it.

Every attack is shown to work on torch first, where it does: a guard against something harmless would prove nothing.
"""

from __future__ import annotations

import io
import json
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.export import Dim, ExportedProgram

from scanside.engines.archive import check_archive, load_graph, save_graph
from scanside.errors import UnsafeArchive

GRAPH = "models/model.json"
CONSTANTS = "data/constants/model_constants_config.json"
WEIGHTS = "data/weights/model_weights_config.json"


class Network(nn.Module):
    """A step of data consistency and a network; its weights are arguments, as in bundles."""

    def forward(
        self, weights: dict[str, torch.Tensor], image: torch.Tensor, mask: torch.Tensor
    ) -> torch.Tensor:
        complex_image = torch.view_as_complex(image.permute(0, 2, 3, 1).contiguous())
        kspace = torch.fft.fft2(complex_image, norm="ortho") * mask
        consistent = torch.view_as_real(torch.fft.ifft2(kspace, norm="ortho")).permute(0, 3, 1, 2)
        features = nn.functional.conv2d(image, weights["net.0.weight"], padding=1)
        features = nn.functional.leaky_relu(nn.functional.instance_norm(features))
        pooled = nn.functional.avg_pool2d(features, 2)
        up = nn.functional.interpolate(pooled, scale_factor=2.0, mode="nearest")
        correction = torch.einsum("bchw,oc->bohw", torch.cat([features, up], 1), weights["net.1.weight"])
        return image - consistent + correction * torch.tensor(0.5)


def weights() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(3)
    return {
        "net.0.weight": torch.randn(4, 2, 3, 3, generator=generator),
        "net.1.weight": torch.randn(2, 8, generator=generator),
    }


@pytest.fixture(scope="module")
def program() -> ExportedProgram:
    k1, k0 = Dim("k1", min=2, max=64), Dim("k0", min=2, max=64)
    shapes = (dict.fromkeys(weights()), {2: 8 * k1, 3: 8 * k0}, {1: 8 * k1})
    inputs = (weights(), torch.zeros(1, 2, 32, 48), torch.ones(1, 32, 1))
    return torch.export.export(Network(), inputs, dynamic_shapes=shapes)


@pytest.fixture(scope="module")
def saved(program: ExportedProgram, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("graph") / "graph.pt2"
    save_graph(program, path)
    return path


def entries_of(path: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(path) as archive:
        return {name.partition("/")[2]: archive.read(name) for name in archive.namelist()}


def packed(entries: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, data in entries.items():
            archive.writestr(f"graph/{name}", data)
    return buffer.getvalue()


def edited(path: Path, change: Callable[[dict[str, Any]], None], entry: str = GRAPH) -> bytes:
    entries = entries_of(path)
    fields = json.loads(entries[entry])
    change(fields)
    return packed({**entries, entry: json.dumps(fields).encode()})


def nodes(graph: dict[str, Any]) -> list[dict[str, Any]]:
    return graph["graph_module"]["graph"]["nodes"]


class Payload:
    """Leaves a file behind when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.mark,)


def torch_opens(data: bytes) -> None:
    """What a reader without the check would do; errors afterwards are no help to it."""
    try:
        torch.export.load(io.BytesIO(data)).module()
    except Exception:  # noqa: BLE001
        return


def test_graph_survives_for_other_sizes(saved: Path) -> None:
    generator = torch.Generator().manual_seed(5)
    image = torch.randn(1, 2, 48, 64, generator=generator)
    mask = (torch.rand(1, 48, 1, generator=generator) < 0.4).float()
    expected = Network()(weights(), image, mask)
    result = load_graph(saved).module()(weights(), image, mask)
    torch.testing.assert_close(result, expected, rtol=0, atol=0)


def test_nothing_of_the_exporting_machine_is_written(saved: Path, program: ExportedProgram) -> None:
    whole = io.BytesIO()
    torch.export.save(program, whole)
    assert b"stack_trace" in whole.getvalue()
    assert b"test_archive" in whole.getvalue()
    assert b"stack_trace" not in saved.read_bytes()
    assert b"test_archive" not in saved.read_bytes()
    assert entries_of(saved)["data/sample_inputs/model.pt"] == b""


def test_equal_graphs_give_equal_files(saved: Path, tmp_path: Path) -> None:
    save_graph(load_graph(saved), tmp_path / "again.pt2")
    assert (tmp_path / "again.pt2").read_bytes() == saved.read_bytes()


def test_archive_as_torch_writes_it_is_refused(program: ExportedProgram, tmp_path: Path) -> None:
    torch.export.save(program, tmp_path / "graph.pt2")
    with pytest.raises(
        UnsafeArchive, match="example inputs, which are unpickled; write the graph with save_graph"
    ):
        check_archive(tmp_path / "graph.pt2")


def test_weights_inside_are_refused(tmp_path: Path) -> None:
    program = torch.export.export(nn.Conv2d(2, 2, 3), (torch.zeros(1, 2, 8, 8),))
    with pytest.raises(UnsafeArchive, match="weights, which belong in the bundle's weights file"):
        save_graph(program, tmp_path / "graph.pt2")
    assert not (tmp_path / "graph.pt2").exists()


def attack_example_inputs(saved: Path, mark: Path) -> bytes:
    buffer = io.BytesIO()
    torch.save(Payload(mark), buffer)
    return packed({**entries_of(saved), "data/sample_inputs/model.pt": buffer.getvalue()})


def attack_legacy_weights(saved: Path, mark: Path) -> bytes:
    buffer = io.BytesIO()
    torch.save(Payload(mark), buffer)
    return packed({**entries_of(saved), "data/weights/model.pt": buffer.getvalue()})


def attack_legacy_constants(saved: Path, mark: Path) -> bytes:
    buffer = io.BytesIO()
    torch.save(Payload(mark), buffer)
    return packed({**entries_of(saved), "data/constants/model.pt": buffer.getvalue()})


def attack_pickled_constant(saved: Path, mark: Path) -> bytes:
    entries = entries_of(saved)
    buffer = io.BytesIO()
    torch.save(Payload(mark), buffer)
    config = json.loads(entries[CONSTANTS])
    for payload in config["config"].values():
        payload["use_pickle"] = True
    entries["data/constants/tensor_0"] = buffer.getvalue()
    return packed({**entries, CONSTANTS: json.dumps(config).encode()})


def attack_size_expression(saved: Path, mark: Path) -> bytes:
    def change(graph: dict[str, Any]) -> None:
        sizes = graph["graph_module"]["graph"]["tensor_values"]["image"]["sizes"]
        sizes[2]["as_expr"]["expr_str"] = f"__import__('pathlib').Path({str(mark)!r}).touch() or Integer(8)"

    return edited(saved, change)


def attack_guard(saved: Path, mark: Path) -> bytes:
    code = f"__import__('pathlib').Path({str(mark)!r}).touch() is None"
    return edited(saved, lambda graph: graph.update(guards_code=[code]))


def attack_input_tree(saved: Path, mark: Path) -> bytes:
    """Python's defaultdict in the inputs has its factory's module imported: any module that can be found."""
    (mark.parent / f"{mark.name}_module.py").write_text(f"open({str(mark)!r}, 'w').close()\nfactory = dict\n")

    def change(graph: dict[str, Any]) -> None:
        signature = graph["graph_module"]["module_call_graph"][0]["signature"]
        context = {
            "default_factory_module": f"{mark.name}_module",
            "default_factory_name": "factory",
            "dict_context": [],
        }
        tree = {"type": "collections.defaultdict", "context": context, "children_spec": []}
        signature["out_spec"] = json.dumps([1, tree])

    return edited(saved, change)


ATTACKS = (
    attack_example_inputs,
    attack_legacy_weights,
    attack_legacy_constants,
    attack_pickled_constant,
    attack_size_expression,
    attack_input_tree,
)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.__name__.removeprefix("attack_"))
def test_attack_works_on_torch_and_is_refused_before(
    attack: Callable[[Path, Path], bytes], saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    mark = tmp_path / "executed"
    data = attack(saved, mark)
    with pytest.raises(UnsafeArchive):
        load_graph(data)
    assert not mark.exists()
    torch_opens(data)
    assert mark.exists(), "torch is no longer open to this: say so here, and keep the check"


def test_guards_are_refused(saved: Path, tmp_path: Path) -> None:
    with pytest.raises(UnsafeArchive, match="'guards_code' is not empty"):
        check_archive(attack_guard(saved, tmp_path / "executed"))


def set_target(target: str) -> Callable[[dict[str, Any]], None]:
    return lambda graph: nodes(graph)[0].update(target=target)


@pytest.mark.parametrize(
    "target",
    [
        "torch.os.system",
        "torch.ops.aten.from_file.default",
        "torch.ops.aten.save.default",
        "torch.ops.aten.set_.source_Tensor",
        "torch.ops.higher_order.wrap_with_autocast",
        "torch.ops.mylib.op.default",
        "#custom:op",
        "_operator.methodcaller",
        "builtins.eval",
        "torch.ops.aten.add.Tensor\nimport os",
        "",
    ],
)
def test_other_operators_are_refused(saved: Path, target: str) -> None:
    with pytest.raises(UnsafeArchive, match="not in the list of operators that only compute"):
        check_archive(edited(saved, set_target(target)))


def test_torch_has_the_operators_that_write_files() -> None:
    """They are why a list is needed; `save` pickles to a file of the graph's choice."""
    assert torch.ops.aten.from_file.default
    assert torch.ops.aten.save.default


@pytest.mark.parametrize(
    "target", ["torch.ops.aten.add.Tensor", "torch.ops.aten.relu_.default", "_operator.mul"]
)
def test_known_operators_pass(saved: Path, target: str) -> None:
    check_archive(edited(saved, set_target(target)))


@pytest.mark.parametrize(
    "expression",
    [
        "__import__('os').system('true')",
        "Symbol.__class__",
        "(lambda: 1)()",
        "Integer(8) if 1 else 2",
        "Symbol('s0; import os')",
        "Pow(Integer(9), Integer(999999999))",
        "Pow(Integer(9), Pow(Integer(9), Integer(9)))",
        "[x for x in Integer(8)]",
        "f'{Integer(8)}'",
        "exec('1')",
        "Mul(" * 2000 + ")" * 2000,
        "Integer(" + "9" * 400 + ")",
        "",
    ],
)
def test_expressions_other_than_sizes_are_refused(saved: Path, expression: str) -> None:
    def change(graph: dict[str, Any]) -> None:
        sizes = graph["graph_module"]["graph"]["tensor_values"]["image"]["sizes"]
        sizes[2]["as_expr"]["expr_str"] = expression

    with pytest.raises(UnsafeArchive, match="no plain size"):
        check_archive(edited(saved, change))


@pytest.mark.parametrize(
    "expression",
    [
        "Symbol('s12', positive=True, integer=True)",
        "Mul(Integer(8), Symbol('s12', positive=True, integer=True))",
        "Add(Integer(-1), Mul(Integer(2), Pow(Symbol('s12', integer=True), Integer(2))))",
        "FloorDiv(Symbol('s12', integer=True), Integer(2))",
        "Max(Integer(1), Symbol('u0', integer=True))",
    ],
)
def test_sizes_pass(saved: Path, expression: str) -> None:
    def change(graph: dict[str, Any]) -> None:
        sizes = graph["graph_module"]["graph"]["tensor_values"]["image"]["sizes"]
        sizes[2]["as_expr"]["expr_str"] = expression

    check_archive(edited(saved, change))


def test_names_that_become_source_code_are_identifiers(saved: Path) -> None:
    code = "x = __import__('os').getcwd()\n    y"

    def rename(graph: dict[str, Any]) -> None:
        nodes(graph)[0]["name"] = code
        nodes(graph)[0]["outputs"][0]["as_tensor"]["name"] = code

    with pytest.raises(UnsafeArchive, match="could become code"):
        check_archive(edited(saved, rename))


@pytest.mark.parametrize(
    ("field", "value", "why"),
    [
        ("as_graph", {"name": "sub", "graph": {}}, "holds a nested graph"),
        ("as_custom_obj", {"name": "x", "class_fqn": "y"}, "an object of a custom class"),
        ("as_operator", "torch.ops.aten.add.Tensor", "an operator as a value"),
    ],
)
def test_arguments_that_are_more_than_tensors_are_refused(
    saved: Path, field: str, value: Any, why: str
) -> None:
    def change(graph: dict[str, Any]) -> None:
        nodes(graph)[0]["inputs"][0]["arg"] = {field: value}

    with pytest.raises(UnsafeArchive, match=why):
        check_archive(edited(saved, change))


def test_unknown_fields_are_refused(saved: Path) -> None:
    with pytest.raises(UnsafeArchive, match="unknown field 'more'"):
        check_archive(edited(saved, lambda graph: graph.update(more=1)))


def test_repeated_fields_are_refused(saved: Path) -> None:
    entries = entries_of(saved)
    twice = entries[GRAPH][:-1] + b',"guards_code":["1"]}'
    with pytest.raises(UnsafeArchive, match="a key stands twice"):
        check_archive(packed({**entries, GRAPH: twice}))


@pytest.mark.parametrize(
    ("name", "what"),
    [
        ("data/constants/custom_obj_0", "an object that is unpickled"),
        ("data/constants/opaque_obj_0", "an object that is unpickled"),
        ("data/weights/weight_0", "weights, which belong"),
        ("data/aotinductor/model/model.so", "compiled code"),
        ("serialized_state_dict.pt", "torch 2.7 and earlier"),
        ("extra/notes.txt", "does not belong to a graph"),
        ("models/other.json", "does not belong to a graph"),
        ("../outside", "does not belong to a graph"),
    ],
)
def test_other_entries_are_refused(saved: Path, name: str, what: str) -> None:
    with pytest.raises(UnsafeArchive, match=what):
        check_archive(packed({**entries_of(saved), name: b"x"}))


def test_opaque_objects_are_unpickled_by_torch(saved: Path, tmp_path: Path) -> None:
    """Why the list of constants must not name other files: this one runs where torch knows opaque objects."""
    entries = entries_of(saved)
    config = json.loads(entries[CONSTANTS])
    for payload in config["config"].values():
        payload.update(path_name="opaque_obj_0", use_pickle=True, tensor_meta=None)
    pickled = pickle.dumps(Payload(tmp_path / "executed"))
    data = packed({**entries, CONSTANTS: json.dumps(config).encode(), "data/constants/opaque_obj_0": pickled})
    with pytest.raises(UnsafeArchive, match="an object that is unpickled"):
        load_graph(data)
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize("missing", [GRAPH, WEIGHTS, CONSTANTS, "archive_format"])
def test_missing_entries_are_named(saved: Path, missing: str) -> None:
    entries = entries_of(saved)
    del entries[missing]
    with pytest.raises(UnsafeArchive, match=f"'{missing}' is missing"):
        check_archive(packed(entries))


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_archive_tricks_are_refused(saved: Path, tmp_path: Path) -> None:
    entries = entries_of(saved)

    twice = io.BytesIO(packed(entries))
    with zipfile.ZipFile(twice, "a") as archive:
        archive.writestr(f"graph/{GRAPH}", b"{}")
    with pytest.raises(UnsafeArchive, match="there twice"):
        check_archive(twice.getvalue())

    bomb = io.BytesIO()
    with zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(f"graph/{GRAPH}", b" " * 33 * 2**20)
    assert len(bomb.getvalue()) < 2**20
    with pytest.raises(UnsafeArchive, match="unpacked, its entries are larger"):
        check_archive(bomb.getvalue())

    two_roots = io.BytesIO(packed(entries))
    with zipfile.ZipFile(two_roots, "a") as archive:
        archive.writestr("other/byteorder", b"little")
    with pytest.raises(UnsafeArchive):
        check_archive(two_roots.getvalue())

    for data in (b"", b"PK", saved.read_bytes()[:2000], pickle.dumps({})):
        with pytest.raises(UnsafeArchive, match="not an archive"):
            check_archive(data)

    large = tmp_path / "large.pt2"
    with large.open("wb") as file:
        file.truncate(33 * 2**20)
    with pytest.raises(UnsafeArchive, match="too many for a graph"):
        check_archive(large)


def test_what_torch_sees_is_what_was_checked(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bytes before and after the archive, in which another reader might find another archive, are gone."""
    seen = []
    load = torch.export.load
    monkeypatch.setattr(torch.export, "load", lambda file: (seen.append(file.getvalue()), load(file))[1])
    load_graph(b"before" + saved.read_bytes())
    load_graph(saved)
    assert seen[0] == seen[1]
    assert not seen[0].startswith(b"before")
