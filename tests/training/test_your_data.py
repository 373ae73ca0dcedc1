"""The page "Your data in ten minutes", followed on files that are built like fastMRI's."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import typer
from tests.training.data.fastmri_files import write_knees
from typer.testing import CliRunner, Result

from scanside.cli.app import app
from scanside.engines.bundle import Bundle

pytestmark = pytest.mark.usefixtures("slice_cache", "one_thread")

REPO = Path(__file__).resolve().parents[2]
SMALL = {
    "initial": "null",
    "model": "{n_cascades: 1, channels: 4, pools: 1, consistency: {iterations: 1, initial_iterations: 2}}",
    "precision": "32-true",
    "data.num_workers": "0",
    "data.validation_samples": "2",
    "data.simulation.readout_crop": "32",
    "data.simulation.k1": "[48, 48]",
    "data.simulation.k0": "[48, 48]",
    "data.simulation.masks": "{acceleration: [2, 3], acs: [12, 14]}",
    "max_steps": "2",
    "validation.every_steps": "2",
}
"""Little of it."""


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """Runs a command in a folder of its own."""
    monkeypatch.chdir(tmp_path)

    def command(*words: object) -> Result:
        result = CliRunner().invoke(app, [str(word) for word in words])
        assert result.exit_code == 0, result.output
        return result

    return command


def test_from_a_folder_to_a_table_and_an_engine(run: Callable[..., Result], tmp_path: Path) -> None:
    write_knees(tmp_path / "multicoil_train", 10, 48, n_coils=3)
    checked: dict[str, Any] = json.loads(run("data", "check", "multicoil_train", "--json").stdout)
    assert len({one["subject"] for one in checked["files"]}) == 10
    assert {one["problem"] for one in checked["files"]} == {None}

    changes = [word for name, value in SMALL.items() for word in ("--set", f"{name}={value}")]
    source = "data.sources=[{kind: fastmri, folder: multicoil_train, what: kspace}]"
    run("train", REPO / "training/configs/fastmri.yaml", "--set", source, *changes)
    run(
        *("evaluate", REPO / "training/configs/evaluate-fastmri.yaml"),
        *(
            "--candidate",
            "unrolled=runs/fastmri",
            "--set",
            "data.samples=2",
            "--set",
            "pictures=1",
            "-o",
            "table",
        ),
    )
    table = (tmp_path / "table" / "table.csv").read_text("utf-8")
    assert "unrolled" in table
    assert "CG-SENSE" in table
    assert (tmp_path / "table" / "report.html").is_file()
    build = ("engines", "build", "runs/fastmri", "--output", "bundles/fastmri", "--licence", "research")
    run(*build, "--bucket", "48x48", "--backend", "eager")
    built = Bundle.open(tmp_path / "bundles" / "fastmri").manifest
    assert "kind: fastmri" in (tmp_path / "bundles" / "fastmri" / built.training.config).read_text("utf-8")


def test_a_file_becomes_a_scan(run: Callable[..., Result], tmp_path: Path) -> None:
    write_knees(tmp_path / "multicoil_train", 1, 64, n_coils=3)
    run("convert", "multicoil_train/file0000000.h5", "scan.h5")
    run("replay", "scan.h5", "-p", "fft", "-o", "images.h5", "--device", "cpu")


def test_commands_of_the_page_exist() -> None:
    page = (REPO / "training" / "DATA.md").read_text("utf-8")
    lines = [line.partition("#")[0] for line in page.splitlines() if line.startswith("scanside ")]
    assert len(lines) >= 6
    group: Any = typer.main.get_command(app)
    for line in lines:
        words = line.split()[1:]
        command = group
        while words and words[0] in getattr(command, "commands", ()):
            command = command.commands[words.pop(0)]
        assert not hasattr(command, "commands"), line
