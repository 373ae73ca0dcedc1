"""`scanside study`: what it writes, prints and refuses. What studies compute has its own tests."""

from __future__ import annotations

import csv
import importlib.util
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import Result

from scanside.cli import study as command

Scanside = Callable[..., Result]

BASE = """
name: base
model: {kind: unet, channels: 2, pools: 1}
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
  validation_samples: 1
max_steps: 1
accelerator: cpu
"""

STUDY = """
name: widths
base: base.yaml
variations:
  - {name: narrow, labels: {channels: 2}}
  - {name: wide, labels: {channels: 4}, settings: {model: {channels: 4}}}
samples: 1
pictures: 1
speed: null
comparisons: [{variation: wide, against: narrow}]
"""


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setenv("SCANSIDE_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "base.yaml").write_text(BASE)
    path = tmp_path / "widths.yaml"
    path.write_text(STUDY)
    threads = torch.get_num_threads()
    yield path
    torch.set_num_threads(threads)


@pytest.fixture
def nothing_is_trained(config: Path, tmp_path: Path) -> Iterator[None]:
    yield
    assert not (tmp_path / "studies").exists()


def test_study(scanside: Scanside, config: Path) -> None:
    result = scanside("study", config, "--threads", 1)
    folder = Path("studies/widths")
    with (folder / "table.csv").open(newline="", encoding="utf-8") as file:
        rows = {row["network"]: row for row in csv.DictReader(file)}
    assert list(rows) == ["zero-filled", "narrow", "wide"]
    for name in ("narrow-seed1", "wide-seed1"):
        assert (folder / "runs" / name / "model.safetensors").is_file()
        assert name in result.stderr, "what is being trained"
    table, differences = result.stdout.split("compared")
    for name, row in rows.items():
        (line,) = (line for line in table.splitlines() if line.startswith(f"{name} "))
        assert f"{float(row['psnr_mean']):.2f} ± " in line
    assert "wide against narrow" in differences
    assert f"{folder / 'report.html'} has the pictures" in result.stdout
    assert (folder / "report.html").is_file()


def test_finished_runs_are_kept(scanside: Scanside, config: Path, tmp_path: Path) -> None:
    output = tmp_path / "elsewhere"
    one = ["study", config, "-o", output, "--threads", 1, "--set", "comparisons=[]"]
    scanside(*one, "--set", "variations=[{name: narrow}]")
    record = output / "runs" / "narrow-seed1" / "training.json"
    before = record.stat().st_mtime_ns
    scanside(*one, "--set", "variations=[{name: narrow}]", "--set", "seeds=[1, 2]")
    assert record.stat().st_mtime_ns == before
    assert (output / "runs" / "narrow-seed2" / "training.json").is_file()
    refused = scanside(*one, "--set", "settings.max_steps=2", status=1).stderr
    assert "narrow-seed1 holds a run with other settings (max_steps): choose another folder" in refused


def test_a_training_that_fails_is_named(scanside: Scanside, config: Path, tmp_path: Path) -> None:
    variations = "variations=[{name: narrow}, {name: lost, settings: {initial: nowhere}}]"
    result = scanside("study", config, "--set", variations, "--set", "comparisons=[]", "--threads", 1)
    assert "not trained: lost-seed1: nowhere" in result.stderr
    assert (tmp_path / "studies/widths/runs/narrow-seed1/model.safetensors").is_file()


def test_a_network_that_cannot_be_compared_is_named(scanside: Scanside, config: Path) -> None:
    magnitudes = "{model: {image_channels: 1}, data: {simulation: {task: {channels: magnitude}}}}"
    variations = f"variations=[{{name: narrow}}, {{name: other, settings: {magnitudes}}}]"
    result = scanside("study", config, "--set", variations, "--set", "comparisons=[]", "--threads", 1)
    assert "not compared: other-seed1, 1 image(s): the data's images have 2 channel(s)" in result.stderr


@pytest.mark.usefixtures("nothing_is_trained")
@pytest.mark.parametrize(
    ("right", "wrong", "says"),
    [
        (
            "samples:",
            "sample:",
            "widths.yaml: the configuration of a study has no setting 'sample' (did you mean",
        ),
        ("against:", "agianst:", "comparisons[0] has no setting 'agianst' (did you mean 'against'?)"),
        ("{channels: 4}}}", "{chanels: 4}}}", "model has no setting 'chanels' (did you mean 'channels'?)"),
        ("base.yaml", "bsae.yaml", "bsae.yaml: the training configuration cannot be read: No such file"),
        ("against: narrow", "against: narow", "there is no variation narow; there are narrow, wide"),
    ],
)
def test_typo(scanside: Scanside, config: Path, right: str, wrong: str, says: str) -> None:
    assert STUDY.count(right) == 1
    config.write_text(STUDY.replace(right, wrong))
    error = scanside("study", config, status=1).stderr
    assert says in error
    assert "Traceback" not in error


@pytest.mark.usefixtures("nothing_is_trained")
def test_typo_in_the_base(scanside: Scanside, config: Path, tmp_path: Path) -> None:
    (tmp_path / "base.yaml").write_text(BASE.replace("max_steps", "max_step"))
    error = scanside("study", config, status=1).stderr
    assert (
        "base.yaml: a training configuration has no setting 'max_step' (did you mean 'max_steps'?)" in error
    )


@pytest.mark.usefixtures("nothing_is_trained")
def test_without_lightning(scanside: Scanside, config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def find(name: str) -> Any:
        return None if name == "lightning" else importlib.util.find_spec(name)

    monkeypatch.setattr(command, "find_spec", find)
    error = scanside("study", config, status=1).stderr
    assert "scanside study needs the package 'lightning'" in error
    assert "pip install 'scanside[training]'" in error


SEARCH = """
name: rates
base: base.yaml
search: {grid: {optimiser.lr: [0.01, 0.001]}}
"""


def test_search(scanside: Scanside, config: Path, tmp_path: Path) -> None:
    config.write_text(SEARCH)
    result = scanside("study", config, "--threads", 1)
    folder = Path("studies/rates")
    assert "trial 2 of 2: trial-" in result.stderr
    with (folder / "trials.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        (line,) = (line for line in result.stdout.splitlines() if line.startswith(row["trial"]))
        assert row["optimiser.lr"] in line
    assert f"scanside train {folder / 'best.yaml'} trains with the best settings" in result.stdout
    scanside("train", folder / "best.yaml", "-o", tmp_path / "best", "--threads", 1)
    assert (tmp_path / "best" / "model.safetensors").is_file()


def test_folds(scanside: Scanside, config: Path) -> None:
    base = BASE.replace("size: 48}", "size: 48, split: {folds: 2, validation: 0.4}}")
    (config.parent / "base.yaml").write_text(base)
    config.write_text(STUDY.replace("samples: 1", "samples: 3\nfolds: 2"))
    result = scanside("study", config, "--threads", 1)
    assert "4 of 4: wide-seed1-fold1" in result.stderr
    (line,) = (
        line
        for line in result.stdout.splitlines()
        if line.startswith("wide against narrow") and "SSIM" in line
    )
    assert "(6 subjects)" in line
