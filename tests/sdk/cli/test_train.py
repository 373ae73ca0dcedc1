"""`scanside train`: its options, what it prints and refuses. The training itself has its own tests."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import Result

from scanside.cli import train as command

Scanside = Callable[..., Result]

CONFIG = """
name: small
model: {kind: unet, channels: 4, pools: 2}
loss: {terms: [{kind: l1}]}
data:
  sources: [{kind: synthetic, n_subjects: 6, slices_per_subject: 1, size: 48}]
  simulation:
    task: {kind: image, channels: complex}
    k1: [32, 32]
    k0: [32, 32]
    readout_crop: null
    coils: {n_coils: [1, 1], measured: 0}
    masks: {acceleration: [2, 2], acs: [6, 6]}
    espirit: {probability: 0}
  batch_size: 2
  validation_samples: 2
max_steps: 2
accelerator: cpu
"""


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setenv("SCANSIDE_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "small.yaml"
    path.write_text(CONFIG)
    threads = torch.get_num_threads()
    yield path
    torch.set_num_threads(threads)


def record(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "training.json").read_text("utf-8"))
    return found


def test_train_and_resume(scanside: Scanside, config: Path) -> None:
    shown = scanside("train", config, "--threads", 1).stdout
    folder = Path("runs/small")
    made = record(folder)
    assert made["steps"] == 2
    assert made["machine"]["threads"] == 1
    assert "small after 2 steps" in shown
    assert f"{made['n_parameters']:,} parameters" in shown
    psnr = next(line for line in shown.splitlines() if line.startswith("psnr "))
    assert float(psnr.split()[1]) == pytest.approx(made["validation"]["psnr"], rel=1e-3)
    assert "holds a run already" in scanside("train", config, status=1).stderr
    scanside("train", config, "--resume", "--set", "max_steps=3", "--threads", 1)
    assert record(folder)["steps"] == 3


def test_settings_and_output(scanside: Scanside, config: Path, tmp_path: Path) -> None:
    output = tmp_path / "elsewhere"
    scanside(
        "train", config, "-o", output, "--set", "max_steps=1", "--set", "optimiser.lr=2e-3", "--threads", 1
    )
    assert record(output)["steps"] == 1
    assert "lr: 0.002" in (output / "config.yaml").read_text("utf-8")
    assert not (tmp_path / "runs").exists()


def test_typo(scanside: Scanside, config: Path, tmp_path: Path) -> None:
    error = scanside("train", config, "--set", "model.chanels=8", status=1).stderr
    assert "small.yaml: model has no setting 'chanels' (did you mean 'channels'?)" in error
    assert "Traceback" not in error
    assert not (tmp_path / "runs").exists()


def test_no_file(scanside: Scanside, tmp_path: Path) -> None:
    assert "cannot be read: No such file" in scanside("train", tmp_path / "no.yaml", status=1).stderr


def test_without_lightning(scanside: Scanside, config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def find(name: str) -> Any:
        return None if name == "lightning" else importlib.util.find_spec(name)

    monkeypatch.setattr(command, "find_spec", find)
    error = scanside("train", config, status=1).stderr
    assert "needs the package 'lightning'" in error
    assert "pip install 'scanside[training]'" in error
