"""Codespecs for Tyger: the fields that it knows, and a command line that runs between two named pipes."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
import yaml

from scanside.errors import ConfigError, StageConfigError
from scanside.mrd.files import StreamWriter, open_recording
from scanside.mrd.messages import ImageMessage
from scanside.mrd.v2.schemas import known_schema
from scanside.testing.small import small_readouts, small_scan
from scanside_deploy.tyger import codespec

SHIPPED = Path(__file__).resolve().parents[2] / "deploy" / "tyger" / "codespec.yaml"
FIELDS = {
    "kind",
    "name",
    "buffers",
    "image",
    "command",
    "args",
    "workingDir",
    "env",
    "resources",
    "maxReplicas",
}
"""Of a codespec for a job, as Tyger's guide lists them."""


def spec(*arguments: Any, **options: Any) -> dict[str, Any]:
    found = yaml.safe_load(codespec(*arguments, **options))
    assert isinstance(found, dict)
    return found


def test_the_shipped_one_is_what_the_module_writes() -> None:
    assert SHIPPED.read_text("utf-8") == codespec()


def test_fields() -> None:
    found = spec("student", {"engine.deadline_ms": "500"}, image="registry/scanside:1", gpu=True, cpu="4")
    assert found.keys() <= FIELDS
    assert found["kind"] == "job"
    assert found["buffers"] == {"inputs": ["input"], "outputs": ["output"]}
    assert found["image"] == "registry/scanside:1"
    assert found["command"] == ["scanside", "stream", "student"]
    assert found["args"][:4] == ["--input", "$(INPUT_PIPE)", "--output", "$(OUTPUT_PIPE)"]
    assert found["args"][4:] == ["--set", "engine.deadline_ms=500"]
    assert found["resources"] == {"requests": {"cpu": "4", "memory": "4Gi"}, "gpu": 1}
    assert "gpu" not in spec()["resources"]


def test_texts_are_no_variables() -> None:
    (value,) = (one for one in spec("unrolled", {"engine.bundle": "$(HOME)"})["args"] if "HOME" in one)
    assert value == "engine.bundle=$$(HOME)"


def test_what_would_not_run_is_refused(tmp_path: Path) -> None:
    own = tmp_path / "own.yaml"
    own.write_text("name: own\nstages: [noise]\n")
    with pytest.raises(ConfigError, match="is a file, and a run has only what is in its image"):
        codespec(str(own))
    with pytest.raises(StageConfigError):
        codespec("grappa", {"grappa.no_such": "1"})


def test_its_command_runs_between_named_pipes(tmp_path: Path) -> None:
    scan, images = tmp_path / "scan.mrd", tmp_path / "images.mrd"
    with StreamWriter(scan, small_scan().header.xml, schema=known_schema("2.1")) as writer:
        for block in small_readouts():
            writer.write(block)
    pipes = {f"$({name}_PIPE)": tmp_path / name for name in ("INPUT", "OUTPUT")}
    for pipe in pipes.values():
        os.mkfifo(pipe)
    found = spec("fft")
    command = [str(pipes.get(word, word)) for word in [*found["command"], *found["args"]]]
    assert command[0] == "scanside"
    threads = [
        threading.Thread(target=lambda: pipes["$(INPUT_PIPE)"].write_bytes(scan.read_bytes()), daemon=True),
        threading.Thread(
            target=lambda: images.write_bytes(pipes["$(OUTPUT_PIPE)"].read_bytes()), daemon=True
        ),
    ]
    for thread in threads:
        thread.start()
    run = subprocess.run(
        [sys.executable, "-c", "from scanside.cli import main; main()", *command[1:], "--device", "cpu"],
        capture_output=True,
    )
    assert run.returncode == 0, run.stderr
    for thread in threads:
        thread.join(30)
    with open_recording(images) as recording:
        assert [type(one) for one in recording.items()] == [ImageMessage]
