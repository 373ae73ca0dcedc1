"""What holds for all commands."""

from __future__ import annotations

import importlib
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import Result

import scanside.cli
from scanside import __version__

Scanside = Callable[..., Result]


def test_version(scanside: Scanside) -> None:
    assert scanside("--version").stdout.strip() == f"scanside {__version__}"


def test_help_names_every_command_and_the_notice(scanside: Scanside) -> None:
    text = scanside("--help").stdout
    for command in ("demo", "replay", "simulate", "inspect", "serve", "stages", "pipelines", "doctor"):
        assert command in text
    assert "Research use only" in text


def test_help_loads_nothing_heavy() -> None:
    code = (
        "import sys; from typer.testing import CliRunner; from scanside.cli.app import app\n"
        "assert CliRunner().invoke(app, ['--help']).exit_code == 0\n"
        "print(*{'torch', 'matplotlib', 'yaml', 'scipy', 'ismrmrd', 'gadgetron'} & set(sys.modules))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert run.stdout.split() == []


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("inspect", "no-such-file.h5"), "no-such-file.h5"),
        (("inspect", __file__), "neither an ISMRMRD HDF5 file nor an ISMRMRD stream"),
        (("stages", "grapa"), "did you mean 'grappa'?"),
        (("pipelines", "grapa"), "known are"),
        (("simulate", "--preset", "brain", "-o", "x.h5"), "no simulated scan is called 'brain'"),
    ],
)
def test_errors_are_one_message(scanside: Scanside, arguments: tuple[str, ...], said: str) -> None:
    result = scanside(*arguments, status=1)
    assert result.stderr.startswith("error: ")
    assert said in result.stderr
    assert result.stderr.count("\n") == 1
    assert "Traceback" not in result.output


@pytest.mark.parametrize("how", ["option", "variable"])
def test_debug_keeps_the_traceback(scanside: Scanside, monkeypatch: pytest.MonkeyPatch, how: str) -> None:
    if how == "variable":
        monkeypatch.setenv("SCANSIDE_DEBUG", "1")
    with pytest.raises(FileNotFoundError):
        scanside(*(["--debug"] if how == "option" else []), "inspect", "no-such-file.h5")


def test_text_of_an_error_is_no_markup(scanside: Scanside, tmp_path: Path) -> None:
    odd = tmp_path / "[red]:x:.h5"
    assert str(odd) in scanside("inspect", odd, status=1).stderr


def test_missing_packages_are_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in [name for name in sys.modules if name.startswith("scanside.cli.")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "typer", None)
    with pytest.raises(SystemExit) as exit_:
        scanside.cli.main()
    assert exit_.value.code == 1
    assert "pip install 'scanside[cli]'" in capsys.readouterr().err
    monkeypatch.undo()
    importlib.import_module("scanside.cli.app")
