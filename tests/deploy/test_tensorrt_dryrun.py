from __future__ import annotations

import gc
import json
import subprocess
import typing
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch._export.serde import serialize

from scanside.engines.archive import load_graph, save_graph
from scanside.engines.graph import bind, dynamic_axes, export_graph
from scanside.engines.manifest import Range, Shapes, TensorSpec
from scanside.engines.probes import vectors_of
from scanside.errors import BackendUnavailable
from scanside_deploy.tensorrt_dryrun import __main__ as program
from scanside_deploy.tensorrt_dryrun import networks, stand_in
from scanside_deploy.tensorrt_dryrun.check import DryRun
from scanside_deploy.tensorrt_dryrun.quick import quick_graphs
from scanside_training.models import UnrolledConfig, build_model
from scanside_training.models.unrolled import GradientConfig

REPO = Path(__file__).resolve().parents[2]
PYTHON = REPO / ".venv-tensorrt" / "bin" / "python"

ONE_ENGINE = DryRun(
    "net", "fp32", n_operators=9, n_supported=9, n_engines=1, inputs_in_order=True, relative_error=1e-7
)
CUT = replace(ONE_ENGINE, n_supported=7, n_engines=2, fallback=("aten._fft_c2c",))


@pytest.fixture
def tensorrt_python() -> Path:
    if not PYTHON.is_file():
        pytest.skip("there is no .venv-tensorrt: make tensorrt-dryrun makes it")
    return PYTHON


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_real_torch_tensorrt_makes_one_engine_of_every_network(tensorrt_python: Path, tmp_path: Path) -> None:
    results = tmp_path / "results.json"
    done = subprocess.run(
        [tensorrt_python, "-m", "scanside_deploy.tensorrt_dryrun", "--json", results],
        capture_output=True,
        text=True,
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    *networks, control = json.loads(results.read_text("utf-8"))
    names = {row["network"] for row in networks}
    assert names >= {"U-Net", "VarNet, pmatrix", "MoDL, pmatrix", "dual U-Net", "temporal, pmatrix"}
    for row in networks:
        assert row["n_engines"] == 1, row
        assert row["fallback"] == [], row
        assert row["n_supported"] == row["n_operators"] > 50, row
        assert row["problems"] == [], row
        if row["precision"] == "fp32":
            assert 0 <= row["relative_error"] < 1e-5, row
    assert any(row["relative_error"] > 0 for row in networks), "only operators that are lowered differ at all"
    assert control["n_engines"] > 1
    assert any("fft" in name for name in control["fallback"])
    assert "What this does not show" in done.stdout


def test_keywords_are_compared_with_the_signature_of_the_real_torch_tensorrt(tensorrt_python: Path) -> None:
    script = """
from scanside.engines.backends.torch_tensorrt import build_settings, check_keywords
from scanside.errors import EngineError
from scanside_deploy.tensorrt_dryrun.stand_in import torch_tensorrt_without_tensorrt
with torch_tensorrt_without_tensorrt() as torch_tensorrt:
    convert = torch_tensorrt.dynamo.convert_exported_program_to_serialized_trt_engine
    check_keywords(convert, list(build_settings()))
    try:
        check_keywords(convert, ["enabled_precisions", "disable_tf32"])
    except EngineError as error:
        assert "enabled_precisions" in str(error) and "disable_tf32" not in str(error), error
    else:
        raise SystemExit("a keyword that torch-tensorrt ignores was taken")
"""
    done = subprocess.run([tensorrt_python, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_real_bindings_have_all_that_the_backend_calls(tensorrt_python: Path) -> None:
    script = """
from scanside_deploy.tensorrt_dryrun.stand_in import torch_tensorrt_without_tensorrt
with torch_tensorrt_without_tensorrt():
    import tensorrt as trt
trt.Runtime.deserialize_cuda_engine, trt.Logger.WARNING, trt.TensorIOMode.OUTPUT, trt.float32
engine, context = trt.ICudaEngine, trt.IExecutionContext
engine.num_io_tensors, engine.get_tensor_name, engine.get_tensor_mode, engine.get_tensor_shape
engine.get_tensor_dtype, engine.create_execution_context
context.set_tensor_address, context.execute_async_v3
"""
    done = subprocess.run([tensorrt_python, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_real_torch_tensorrt_without_its_libraries_is_reported_as_such(tensorrt_python: Path) -> None:
    script = "from scanside.engines.backends.torch_tensorrt import _loads; print(_loads('torch_tensorrt'))"
    done = subprocess.run([tensorrt_python, "-c", script], capture_output=True, text=True, check=True)
    assert "TensorRT's library libnvinfer is missing" in done.stdout.splitlines()[-1]
    assert "libnvinfer.so.11" in done.stdout.splitlines()[-1]


def test_one_whole_engine_has_no_problem() -> None:
    assert ONE_ENGINE.problems == ()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"n_engines": 2}, "cut into 2"),
        ({"n_engines": 0}, "cut into 0"),
        ({"fallback": ("aten.sort",)}, "aten.sort"),
        ({"n_supported": 8}, "8 of 9"),
        ({"n_empty": 1}, "without elements"),
        ({"inputs_in_order": False}, "another order"),
        ({"relative_error": 1e-3}, "differs by 0.001"),
        ({"relative_error": float("nan")}, "differs by nan"),
        ({"relative_error": None}, "differs by None"),
        ({"failure": "torch-tensorrt cannot lower it"}, "cannot lower"),
    ],
)
def test_each_fault_is_a_problem(change: dict[str, object], words: str) -> None:
    (problem,) = replace(ONE_ENGINE, **change).problems
    assert words in problem


@pytest.mark.parametrize(
    ("network", "control", "status"), [(ONE_ENGINE, CUT, 0), (CUT, CUT, 1), (ONE_ENGINE, ONE_ENGINE, 1)]
)
def test_exit_status_tells_whether_all_came_out_as_expected(
    network: DryRun,
    control: DryRun,
    status: int,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    outcomes = {"net": network, "control": control}
    runs = [
        SimpleNamespace(name=name, source=None, tensors=(), precision="fp32", must_pass=name == "net")
        for name in outcomes
    ]

    @contextmanager
    def torch_tensorrt() -> Iterator[SimpleNamespace]:
        yield SimpleNamespace(__version__="2.13.0")

    monkeypatch.setitem(program.sys.modules, "tensorrt", SimpleNamespace(__version__="11.0"))
    monkeypatch.setattr(program, "torch_tensorrt_without_tensorrt", torch_tensorrt)
    monkeypatch.setattr(program, "candidates", lambda: runs)
    monkeypatch.setattr(program, "dry_run", lambda module, name, *rest: outcomes[name])
    assert program.main([]) == status
    assert "What this does not show" in capsys.readouterr().out


def test_missing_package_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(stand_in.importlib.util, "find_spec", lambda name: None)
    assert program.main([]) == 2
    assert "'torch_tensorrt', which is not installed" in capsys.readouterr().err


def test_missing_compiler_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stand_in.shutil, "which", lambda name: None)
    with pytest.raises(BackendUnavailable, match="'gcc': install a C compiler"):
        stand_in._run("gcc", "--version")


def test_functions_that_nothing_else_has_are_stood_in_for() -> None:
    symbols = """
                 U PyList_New
                 U _PyObject_New
                 w __gmon_start__
                 U malloc@GLIBC_2.2.5
                 U createInferBuilder_INTERNAL
"""
    assert stand_in._missing_functions(symbols.strip("\n")) == ["createInferBuilder_INTERNAL"]


def test_bundle_is_tried_at_its_first_size_on_its_own_data() -> None:
    """A bundle as far as the dry run looks at it, around a real network."""
    config = UnrolledConfig(
        n_cascades=1, channels=2, pools=2, lowering="pmatrix", consistency=GradientConfig()
    )
    model = build_model(config).eval()
    specs = (
        TensorSpec(name="image", axes=("batch", 2, "k1", "k0")),
        TensorSpec(name="maps", axes=("batch", "coil", 2, "k1", "k0")),
        TensorSpec(name="noise", axes=("batch", 1, 1, 1)),
        TensorSpec(name="p", axes=("batch", 2, "k1", "k1")),
    )
    example = tuple(torch.randn(spec.shape(16, 24, 3)) for spec in specs)
    program, weights = export_graph(
        model, example, dynamic_axes([spec.axes for spec in specs], model.multiple_of)
    )
    case = {
        "truth": torch.randn(2, 20, 20),
        "maps": torch.randn(2, 2, 20, 20),
        "mask": torch.ones(20, 1),
        "noise": torch.tensor(0.01),
    }
    bundle = SimpleNamespace(
        name="tiny",
        manifest=SimpleNamespace(
            task="unrolled",
            lowering="pmatrix",
            inputs=specs,
            shapes=Shapes(multiple_of=4, buckets=((32, 24), (64, 64)), coils=Range(low=2, high=32)),
            precisions=("fp32",),
        ),
        graph=lambda precision: program,
        weights=lambda: weights,
        vectors=lambda: vectors_of("unrolled", [case]),
    )
    (candidate,) = networks._of_bundle(bundle)  # type: ignore[arg-type]
    assert (candidate.name, candidate.precision, candidate.must_pass) == ("bundle tiny", "fp32", True)
    assert [spec.shape for spec in candidate.source.inputs] == [
        (1, 2, 32, 24),
        (1, 8, 2, 32, 24),
        (1, 1, 1, 1),
        (1, 2, 32, 32),
    ]
    found = bind(candidate.source)(*candidate.tensors)
    torch.testing.assert_close(found, model(*candidate.tensors))


def test_graphs_that_are_read_quickly_are_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = UnrolledConfig(
        n_cascades=1, channels=2, pools=1, lowering="pmatrix", consistency=GradientConfig()
    )
    model = build_model(config).eval()
    axes = (
        ("batch", 2, "k1", "k0"),
        ("batch", "coil", 2, "k1", "k0"),
        ("batch", 1, 1, 1),
        ("batch", 2, "k1", "k1"),
    )
    sizes = {"batch": 1, "coil": 3, "k1": 8, "k0": 6}
    example = tuple(torch.ones([sizes.get(str(axis), axis) for axis in one]) for one in axes)  # type: ignore[misc]
    written, _ = export_graph(model, example, dynamic_axes(axes, model.multiple_of))
    save_graph(written, tmp_path / "graph.pt2")

    def everything(graph: torch.export.ExportedProgram) -> list[str]:
        nodes = [f"{node.format_node()} {node.meta.get('val')}" for node in graph.graph.nodes]
        return [*nodes, str(graph.graph_signature), str(graph.range_constraints)]

    expressions: list[object] = []
    sympify = serialize.sympy.sympify
    monkeypatch.setattr(
        serialize.sympy, "sympify", lambda text, **how: (expressions.append(text), sympify(text, **how))[1]
    )
    plain = everything(load_graph(tmp_path / "graph.pt2"))
    n_plain = len(expressions)
    expressions.clear()
    look_up = typing.get_type_hints
    with quick_graphs():
        assert not gc.isenabled()
        first, second = (everything(load_graph(tmp_path / "graph.pt2")) for _ in range(2))
    assert first == second == plain
    assert any("2*k1" in line or "2*s" in line for line in plain), "no size that is to be had from a formula"
    assert 0 < 5 * len(expressions) < n_plain
    assert gc.isenabled()
    assert typing.get_type_hints is look_up


def test_control_is_last_and_the_only_one_that_must_not_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(networks, "available_bundles", dict)
    few = {"U-Net": networks.REFERENCE["U-Net"]}
    monkeypatch.setattr(networks, "REFERENCE", few)
    assert [(one.name, one.precision, one.must_pass) for one in networks.candidates()] == [
        ("U-Net", "fp32", True),
        ("U-Net", "bf16", True),
        (networks.CONTROL, "fp32", False),
    ]
