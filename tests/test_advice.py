"""What messages advise exists: commands, options, settings, pipelines and extras that texts of the source name.

Docstrings tell developers; every other text may reach an operator.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import tomllib
from pydantic import BaseModel
from typer.main import get_command

from scanside.cli.app import app
from scanside.pipeline import pipeline_names
from scanside.registry import load_stage, stage_names
from scanside.simulate import ScanConfig

REPO = Path(__file__).parents[1]
SOURCES = [
    path
    for folder in (
        "sdk/scanside",
        "plugin/scanside_gadgetron",
        "training/scanside_training",
        "deploy/scanside_deploy",
    )
    for path in sorted((REPO / folder).rglob("*.py"))
]


def texts() -> Iterator[tuple[str, str]]:
    """Texts of the source but docstrings, and where each stands; what is filled in becomes an ellipsis."""
    for path in SOURCES:
        tree = ast.parse(path.read_text("utf-8"))
        told = {
            id(node.body[0].value)
            for node in ast.walk(tree)
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
            and node.body and isinstance(node.body[0], ast.Expr)
        }  # fmt: skip
        told |= {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
        inner = {
            id(part) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in node.values
        }
        for node in ast.walk(tree):
            if id(node) in told or id(node) in inner:
                continue
            where = f"{path.relative_to(REPO)}:{getattr(node, 'lineno', 0)}"
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                yield where, node.value
            elif isinstance(node, ast.JoinedStr):
                parts = (str(part.value) if isinstance(part, ast.Constant) else "…" for part in node.values)
                yield where, "".join(parts)


TEXTS = tuple(texts())

FOREIGN_OPTIONS = {
    *("--force-reinstall", "--no-deps", "--upgrade"),  # pip
    *("--gpus", "--platform", "--shm-size"),  # docker
    "--codespec",  # tyger
    *("--format", "--query-gpu"),  # nvidia-smi
    "--head",  # ray
}


def mentions(pattern: str) -> list[tuple[str, str]]:
    """What a pattern finds in the texts, and where."""
    found = re.compile(pattern)
    return [(match, where) for where, text in TEXTS for match in found.findall(text)]


def advised(pattern: str) -> list[tuple[str, str]]:
    """As `mentions`, of texts of more than a word: no names of files, metrics or fields."""
    return [(match, where) for where, text in TEXTS if " " in text for match in re.findall(pattern, text)]


def commands(group: object, name: str = "") -> Iterator[tuple[str, set[str]]]:
    """All commands with their options."""
    options = {
        option for parameter in group.params for option in (*parameter.opts, *parameter.secondary_opts)
    }  # type: ignore[attr-defined]
    yield name, options
    for word, command in getattr(group, "commands", {}).items():
        yield from commands(command, f"{name} {word}".strip())


COMMANDS = dict(commands(get_command(app)))
COMMANDS["dicom"] |= COMMANDS["dicom export"]  # which it is by default


def test_the_texts_are_found() -> None:
    assert len(TEXTS) > 5000
    assert any("choose one with --group NAME" in text for _, text in TEXTS)


def test_options() -> None:
    # The server has its own command line, for machines without the packages of the other.
    known = set().union(*COMMANDS.values()) | FOREIGN_OPTIONS | {"--help", "--log-level"}
    unknown = {(name, where) for name, where in mentions(r"(?<![\w-])--[a-z][a-z-]+") if name not in known}
    assert unknown == set()


def test_commands() -> None:
    """With what goes behind them: an option belongs to the command that is named with it."""
    groups = {name for name in COMMANDS if any(other.startswith(f"{name} ") for other in COMMANDS)}
    found = mentions(r"scanside ([a-z]+)(?: ([a-z]+))?([^\n'`;]*)")
    assert found
    wrong = []
    for (first, second, rest), where in found:
        command = f"{first} {second}" if first in groups and f"{first} {second}" in COMMANDS else first
        options = re.findall(r"(?<![\w-])--?[a-z][a-z-]*", rest)
        if command not in COMMANDS or not set(options) <= COMMANDS[command] | FOREIGN_OPTIONS:
            wrong.append((where, first, second, options))
    assert wrong == []


def test_settings_of_stages() -> None:
    names = {name: set(load_stage(name).Config.model_fields) for name in stage_names()}
    settings = advised(rf"(?<![\w.-])({'|'.join(map(re.escape, names))})\.([a-z][a-z_0-9]*)\b(?!\()")
    assert len(settings) > 20
    wrong = [
        (f"{stage}.{setting}", where)
        for (stage, setting), where in settings
        if setting not in names[stage] and not in_simulation(stage, setting)
    ]
    assert wrong == []


def in_simulation(*path: str) -> bool:
    """Whether it is a setting of simulated scans."""
    model: object = ScanConfig
    for name in path:
        if not (isinstance(model, type) and issubclass(model, BaseModel) and name in model.model_fields):
            return False
        model = model.model_fields[name].annotation
    return True


def test_pipelines() -> None:
    named = mentions(r"pipelines? '([a-z-]+)'")
    assert named
    assert {name for name, _ in named} <= set(pipeline_names())


def test_stages() -> None:
    named = advised(r"stages? '([a-z-]+)'")
    assert named
    assert {name for name, _ in named} <= set(stage_names())


def test_extras() -> None:
    extras = set(tomllib.loads((REPO / "pyproject.toml").read_text())["project"]["optional-dependencies"])
    named = {extra for names, _ in mentions(r"scanside\[([a-z,-]+)\]") for extra in names.split(",")}
    assert named
    assert named <= extras


@pytest.mark.parametrize(
    "wrong",
    [
        *("--no-such-option", "scanside no-such", "scanside inspect FILE --workers 3", "grappa.no_such"),
        *("pipeline 'no-such'", "stage 'no-such'"),
    ],
)
def test_wrong_advice_would_be_found(monkeypatch: pytest.MonkeyPatch, wrong: str) -> None:
    monkeypatch.setitem(globals(), "TEXTS", (*TEXTS, ("here", f"it fails: use {wrong} instead")))
    failed = 0
    for test in (test_options, test_commands, test_settings_of_stages, test_pipelines, test_stages):
        try:
            test()
        except AssertionError:
            failed += 1
    assert failed == 1
