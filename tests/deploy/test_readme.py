"""The deployment page: its commands exist, and its files are taken by those who read them."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from scanside.cli.app import app
from scanside.engines.bundle import Bundle
from scanside.pipeline import Pipeline
from scanside.registry import stage_names
from scanside.simulate import preset
from scanside_gadgetron.settings import ServerConfig

REPO = Path(__file__).resolve().parents[2]
PAGE = (REPO / "deploy" / "README.md").read_text("utf-8")


def shell() -> list[str]:
    """All lines of the page's shell blocks, continued ones joined."""
    blocks = re.findall(r"^```sh\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    return "\n".join(blocks).replace("\\\n", " ").splitlines()


def files() -> dict[str, str]:
    """What the page writes into files, by their names."""
    found = re.findall(r"^cat > (\S+) <<'END'\n(.*?)^END$", PAGE, re.MULTILINE | re.DOTALL)
    return dict(found)


COMMANDS = [
    line[line.index("scanside ") :]
    for line in shell()
    if re.match(r"(scanside|.*&& scanside|\S+=\S+ scanside) ", line)
]


def test_page_has_what_is_looked_for() -> None:
    assert len(COMMANDS) >= 8
    assert set(files()) == {
        *("site/pipelines/student-pacs.yaml", "site/server.yaml"),
        *("my_network.py", "ports.yaml"),
    }


@pytest.mark.parametrize("line", COMMANDS)
def test_commands_and_options_exist(line: str) -> None:
    words = shlex.split(line, comments=True)[1:]
    command: Any = typer.main.get_command(app)
    while words and words[0] in getattr(command, "commands", ()):
        command = command.commands[words.pop(0)]
    assert not hasattr(command, "commands"), f"there is no command for {words}"
    # Parsing says what is missing and what is unknown; nothing is run.
    with command.make_context(command.name, words):
        pass


def test_servers_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "server.yaml").write_text(files()["site/server.yaml"])
    config = ServerConfig.load(tmp_path / "server.yaml")
    assert config.pipeline in files()
    assert config.monitor is not None
    assert f"http://127.0.0.1:{config.monitor.port}/readyz" in PAGE
    assert f"look for the server on {config.port}" in PAGE


def test_pipeline(tmp_path: Path) -> None:
    if "dicom" not in stage_names():
        pytest.skip("the stage 'dicom' is not registered in this environment: install scanside anew")
    (tmp_path / "own.yaml").write_text(files()["site/pipelines/student-pacs.yaml"])
    pipeline = Pipeline.load(tmp_path / "own.yaml")
    # The shipped student for the size of the scan that is tried, and the archive behind it.
    size = preset("brain-oblique").geometry.matrix[1::-1]
    shipped = Pipeline.load("student", {"engine.sizes": [list(size)]})
    assert pipeline.labels == (*shipped.labels, "dicom")
    assert [one.config for one in pipeline.stages[:-1]] == [one.config for one in shipped.stages]


@pytest.mark.parametrize(
    "path", re.findall(r"`((?:chains|containers|kubernetes|systemd|prometheus|grafana)/[\w./-]*)`", PAGE)
)
def test_folders_exist(path: str) -> None:
    assert (REPO / "deploy" / path).exists()


@pytest.mark.slow
def test_a_network_that_was_trained_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As the page has it, but for a smaller size and one backend."""
    for name in ("my_network.py", "ports.yaml"):
        (tmp_path / name).write_text(files()[name], "utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    for name in ("SCANSIDE_CACHE", "SCANSIDE_ENGINE_CACHE"):
        monkeypatch.setenv(name, str(tmp_path / name))
    (line,) = [one for one in COMMANDS if "--module" in one]
    words = shlex.split(line)[1:]
    words[words.index("ports.yaml")] = str(tmp_path / "ports.yaml")
    words[words.index("bundles/sharpen")] = str(tmp_path / "sharpen")
    words[words.index("256x256")] = "192x192"
    made = CliRunner().invoke(app, [*words, "--backend", "eager"])
    assert made.exit_code == 0, made.output
    manifest = Bundle.open(tmp_path / "sharpen").manifest
    assert (manifest.input_image, manifest.trained_on[0].licence) == ("cg-sense", "research")
    assert [report.passed for report in manifest.acceptance] == [True]
