"""The house stands: imports run one way, the base stays light, and nothing large is in the repository.

The imports are read from the source, so that one inside a function counts as much as one at the top.
"""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import packages_distributions, requires
from pathlib import Path

import pytest

pytestmark = pytest.mark.torch_free

REPO = Path(__file__).resolve().parents[1]
SOURCES = (
    REPO / "sdk" / "scanside",
    REPO / "plugin" / "scanside_gadgetron",
    REPO / "training" / "scanside_training",
    REPO / "deploy" / "scanside_deploy",
)

LAYERS = (
    {"append_log", "errors", "memory", "plain_yaml", "scratch", "storage", "texts", "threads", "_version"},
    {"agreement", "losses", "metrics", "mrd", "privacy", "recon", "sampling", "trace"},
    {"inspection", "items", "outline", "recording", "scan", "noise_store", "series", "simulate"},
    {"context", "dicom", "engines"},
    {"convert", "registry", "stage", "stage_list"},
    {"stages"},
    {"pipeline", "pipelines", "execution", "suitability"},
    {"replay", "report", "serving"},
    {"datasets", "many", "qa", "shadow", "testing"},
    {"bench", "demo", "doctor", "scanside_gadgetron", "scanside_training"},
    {"scanside_deploy"},
    {"cli"},
    {"__main__"},
)
"""The parts of the SDK and the plugin from the ground up: each imports from its own layer and those below."""

PURE = {
    "errors": set(),
    "agreement": {"errors", "mrd"},
    "mrd": {"errors", "texts"},
    "recon": {"errors"},
    "sampling": {"errors", "texts"},
    "simulate": {"errors", "mrd", "sampling"},
}
"""Parts that know these other parts only."""

FOREIGN = {
    "errors": set(),
    "agreement": {"numpy"},
    "mrd": {"numpy", "h5py"},
    "recon": {"numpy", "torch"},
    "sampling": {"numpy"},
    "simulate": {"numpy", "pydantic"},
}
"""Parts that use these packages only, besides the standard library."""

HEAVY = {
    "torch",
    "typer",
    "rich",
    "jinja2",
    "matplotlib",
    "scipy",
    "yaml",
    "lightning",
    "torchmetrics",
    "safetensors",
    "openvino",
    "onnx",
    "onnxruntime",
    "cryptography",
    "anyio",
    "opentelemetry",
    "prometheus_client",
    "pydicom",
    "pynetdicom",
    "ray",
    "starlette",
    "uvicorn",
}
OTHER_NAMES = {"PIL": "pillow", "opentelemetry": "opentelemetry-sdk", "yaml": "PyYAML"}
"""Distributions of packages that are imported under another name."""

LARGEST_FILE = 16 * 2**20


@dataclass(frozen=True)
class Import:
    """Where a module imports another, and when: at its start, later in a function, or for types only."""

    importer: str
    imported: str
    line: int
    when: str

    def __str__(self) -> str:
        return f"{self.importer}:{self.line} imports {self.imported}"


def find_modules() -> dict[str, Path]:
    modules = {}
    for source in SOURCES:
        for path in source.rglob("*.py"):
            parts = path.relative_to(source.parent).with_suffix("").parts
            modules[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return modules


MODULES = find_modules()


def statements(tree: ast.AST, when: str = "start") -> Iterator[tuple[ast.Import | ast.ImportFrom, str]]:
    """All import statements below a node, and when they run."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            yield node, when
        elif isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            yield from statements(node, "types")
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield from statements(node, "later")
        else:
            yield from statements(node, when)


def imports_of(importer: str, source: str) -> list[Import]:
    found = []
    for node, when in statements(ast.parse(source)):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        else:
            assert node.level == 0, f"{importer}:{node.lineno}: a relative import; write the whole name"
            # `from package import name` imports a module where there is one of that name.
            whole = [f"{node.module}.{alias.name}" for alias in node.names]
            names = [name if name in MODULES else str(node.module) for name in whole]
        found += [Import(importer, name, node.lineno, when) for name in dict.fromkeys(names)]
    return found


IMPORTS = [found for name, path in MODULES.items() for found in imports_of(name, path.read_text("utf-8"))]
IMPORTS_TO_RUN = [one for one in IMPORTS if one.when != "types"]


def part(module: str) -> str | None:
    """The part of the house that a module belongs to; None for the packages of others."""
    root, *below = module.split(".")
    if root == "scanside":
        return below[0] if below else "scanside"
    return root if root.startswith("scanside_") else None


def layer(name: str) -> int:
    for level, parts in enumerate(LAYERS):
        if name in parts:
            return level
    # `import scanside` itself gathers the public names of the SDK for those who use it: it is the roof.
    assert name == "scanside", f"say in LAYERS of {Path(__file__).name} where scanside.{name} belongs"
    return len(LAYERS)


def cycle(edges: dict[str, set[str]]) -> list[str]:
    """One way round a directed graph, empty where there is none."""
    done: set[str] = set()

    def visit(node: str, way: list[str]) -> list[str]:
        if node in way:
            return [*way[way.index(node) :], node]
        if node in done:
            return []
        for below in sorted(edges.get(node, ())):
            if found := visit(below, [*way, node]):
                return found
        done.add(node)
        return []

    return next(filter(None, (visit(node, []) for node in sorted(edges))), [])


def test_reader_sees_every_kind_of_import() -> None:
    source = """
from typing import TYPE_CHECKING
from scanside import errors
from scanside.mrd.dtypes import COUNTERS
if TYPE_CHECKING:
    import torch
class A:
    import h5py
    def f(self):
        import yaml
"""
    found = {(one.imported, one.when) for one in imports_of("m", source)}
    assert found == {
        ("typing", "start"),
        ("scanside.errors", "start"),
        ("scanside.mrd.dtypes", "start"),
        ("torch", "types"),
        ("h5py", "start"),
        ("yaml", "later"),
    }


def test_cycle_is_found() -> None:
    assert cycle({"a": {"b"}, "b": {"c"}, "c": {"b"}}) == ["b", "c", "b"]
    assert cycle({"a": {"b", "c"}, "b": {"c"}}) == []


def test_all_parts_have_a_layer() -> None:
    for module in MODULES:
        layer(str(part(module)))


def test_imports_run_one_way() -> None:
    up = [
        str(one)
        for one in IMPORTS
        if (to := part(one.imported)) and layer(to) > layer(str(part(one.importer)))
    ]
    assert not up


@pytest.mark.parametrize("name", PURE)
def test_pure_parts(name: str) -> None:
    ours = [one for one in IMPORTS if part(one.importer) == name and part(one.imported)]
    assert not [str(one) for one in ours if part(one.imported) not in {name, *PURE[name]}]


@pytest.mark.parametrize("name", FOREIGN)
def test_packages_that_parts_use(name: str) -> None:
    known = FOREIGN[name] | sys.stdlib_module_names
    foreign = [one for one in IMPORTS_TO_RUN if part(one.importer) == name and not part(one.imported)]
    assert not [str(one) for one in foreign if one.imported.split(".")[0] not in known]


def test_no_circular_imports() -> None:
    """Nor in functions or for types only: what needs each other is one idea, or a third thing that both need."""
    edges: dict[str, set[str]] = {}
    for one in IMPORTS:
        if one.imported in MODULES and one.imported != one.importer:
            edges.setdefault(one.importer, set()).add(one.imported)
    assert not cycle(edges)


def test_packages_of_others_are_declared() -> None:
    declared = {normalised(re.split(r"[^\w.-]", line)[0]) for line in requires("scanside") or []}
    distributions = packages_distributions()
    undeclared = []
    for one in IMPORTS_TO_RUN:
        root = one.imported.split(".")[0]
        if part(root) or root in sys.stdlib_module_names:
            continue
        # Of a package that is not installed here, the distribution is known by the import's name, or not at all.
        if not declared & {
            normalised(name) for name in distributions.get(root, [OTHER_NAMES.get(root, root)])
        }:
            undeclared.append(str(one))
    assert not undeclared


def normalised(distribution: str) -> str:
    return re.sub(r"[-_.]+", "-", distribution).lower()


@pytest.mark.parametrize("module", ["scanside", "scanside.mrd", "scanside_gadgetron"])
def test_import_is_light(module: str) -> None:
    code = f"import {module}, sys; print(*sorted({HEAVY!r} & set(sys.modules)))"
    run = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert run.stdout.split() == []


def test_no_large_file_is_tracked() -> None:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=REPO, capture_output=True, text=True)
    if listed.returncode:
        pytest.skip(f"not a git checkout: {listed.stderr.strip()}")
    files = [REPO / name for name in listed.stdout.split("\0") if name]
    assert files
    assert not [str(file) for file in files if file.is_file() and file.stat().st_size > LARGEST_FILE]
