"""`scanside regions`: what it writes, prints and refuses. What classifiers learn has its own tests."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import Result

from scanside_training.regions import load_classifier

Scanside = Callable[..., Result]


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "findings.yaml"
    path.write_text(
        "{channels: 2, stride: 1, size: 32, n_slices: 2, n_stacks: 4, n_validation: 4, steps: 1, batch_size: 2}"
    )
    return path


def test_regions(scanside: Scanside, config: Path, tmp_path: Path) -> None:
    result = scanside("regions", config, "-o", tmp_path / "findings", "--set", "steps=2")
    assert result.stdout.startswith("2 steps in ")
    assert "(chance 0.5)" in result.stdout
    assert load_classifier(tmp_path / "findings").stride == 1


def test_an_unknown_setting_is_told(scanside: Scanside, config: Path, tmp_path: Path) -> None:
    refused = scanside("regions", config, "-o", tmp_path / "findings", "--set", "step=2", status=1).stderr
    assert "the configuration of a classifier has no setting 'step' (did you mean 'steps'?)" in refused
    assert not (tmp_path / "findings").exists()
