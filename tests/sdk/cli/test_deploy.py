"""`scanside deploy`."""

from __future__ import annotations

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
