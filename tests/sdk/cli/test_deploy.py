"""`scanside deploy`."""

from __future__ import annotations

import json
from pathlib import Path
from xml.etree import ElementTree

import pytest
from typer.testing import CliRunner, Result

from scanside.cli import console
from scanside.cli.deploy import deploy


@pytest.fixture(autouse=True)
def wide(monkeypatch: pytest.MonkeyPatch) -> None:
    for terminal in (console.console, console.err):
        monkeypatch.setattr(terminal, "_width", 400)


def run(*arguments: object) -> Result:
    result = CliRunner().invoke(deploy, [str(argument) for argument in arguments])
    assert result.exit_code == 0, result.output
    return result


def test_chain_to_standard_output_and_to_a_file(tmp_path: Path) -> None:
    asked = ("chain", "--place", "images", "--how", "connect", "--pipeline", "student")
    changes = ("--set", "engine.deadline_ms=500", "--port", "18001")
    text = run(*asked, *changes).stdout
    external = ElementTree.fromstring(text).find("stream/external")
    assert external is not None
    assert external[0].attrib == {"address": "localhost", "port": "18001"}
    assert 'name="engine.deadline_ms" value="500"' in text
    run(*asked, *changes, "-o", tmp_path / "config" / "student.xml")
    assert (tmp_path / "config" / "student.xml").read_text("utf-8") == text


def test_openrecon(tmp_path: Path) -> None:
    shown = ("--parameter", "finish.series=1:99")
    said = run(
        "openrecon", "-p", "grappa", *shown, "--name", "My recon", "--vendor", "Clinic", "-o", tmp_path
    )
    label = json.loads((tmp_path / "OpenReconLabel.json").read_text("utf-8"))
    assert [one["id"] for one in label["parameters"]] == ["config", "finishSeries"]
    assert f"OpenRecon_Clinic_MyRecon_V{label['general']['version']}.zip" in said.stderr


def test_pack_says_what_is_missing(tmp_path: Path) -> None:
    run("openrecon", "-p", "grappa", "-o", tmp_path)
    result = CliRunner().invoke(deploy, ["pack", str(tmp_path)])
    assert result.exit_code == 1
    assert "no image.tar" in str(result.exception)


def test_openrecon_without_parameters_takes_likely_ones(tmp_path: Path) -> None:
    run("openrecon", "-p", "grappa", "-o", tmp_path, "--injector", "compleximage", "--gpu")
    label = json.loads((tmp_path / "OpenReconLabel.json").read_text("utf-8"))
    assert [one["id"] for one in label["parameters"]] == ["config", "finishKind"]
    assert label["reconstruction"]["can_use_gpu"] is True


def test_tyger_to_standard_output_and_to_a_file(tmp_path: Path) -> None:
    asked = ("tyger", "-p", "student", "--set", "engine.deadline_ms=500", "--gpu")
    text = run(*asked).stdout
    assert "engine.deadline_ms=500" in text
    run(*asked, "-o", tmp_path / "new" / "codespec.yaml")
    assert (tmp_path / "new" / "codespec.yaml").read_text("utf-8") == text
