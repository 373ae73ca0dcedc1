"""Running commands in this process."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from scanside.cli import console
from scanside.cli.app import app

Scanside = Callable[..., Result]

LOGGED = ("scanside", "scanside_gadgetron", "scanside_training", "scanside_deploy")

SMALL = """
phantom: {kind: shepp-logan, supersampling: [1, 1, 1]}
coils: {n_coils: 4}
sampling: {acceleration: [2, 1], acs: [12, 0]}
geometry: {matrix: [32, 32, 1], n_slices: 2}
"""


@pytest.fixture
def scanside(monkeypatch: pytest.MonkeyPatch) -> Iterator[Scanside]:
    """Runs a command; its exit status must be as expected, and a failure must not be a traceback."""
    monkeypatch.setenv("COLUMNS", "400")
    for terminal in (console.console, console.err):
        monkeypatch.setattr(terminal, "_width", 400)  # nothing is wrapped
    handlers = {name: logging.getLogger(name).handlers for name in LOGGED}

    def run(*arguments: object, status: int = 0) -> Result:
        result = CliRunner().invoke(app, [str(argument) for argument in arguments])
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        assert result.exit_code == status, f"{result.stdout}\n{result.stderr}"
        return result

    yield run
    for name, before in handlers.items():
        logging.getLogger(name).handlers = before


@pytest.fixture
def as_json(scanside: Scanside) -> Callable[..., Any]:
    """Runs a command with --json and gives what it printed, which must be one JSON document and nothing else."""

    def run(*arguments: object, status: int = 0) -> Any:
        return json.loads(scanside(*arguments, "--json", status=status).stdout)

    return run


@pytest.fixture(scope="session")
def small_scan(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small simulated scan, made by the command."""
    folder = tmp_path_factory.mktemp("scan")
    config = folder / "small.yaml"
    config.write_text(SMALL)
    arguments = ["simulate", "--config", config, "-o", folder / "scan.h5", "--truth", folder / "truth.npz"]
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert result.exit_code == 0, result.output
    return folder / "scan.h5"
