"""`scanside convert`: the scan that it writes, and what it refuses."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.sdk.datasets.conftest import coils_of
from typer.testing import Result

from scanside.datasets.fastmri import write_fastmri

Scanside = Callable[..., Result]


@pytest.fixture
def knee(tmp_path: Path) -> Path:
    path = tmp_path / "file1000001.h5"
    write_fastmri(path, coils_of(2, 3, 36, 64), patient="somebody", image_size=(32, 32))
    return path


def test_convert(scanside: Scanside, as_json: Callable[..., Any], knee: Path, tmp_path: Path) -> None:
    told = scanside("convert", knee, tmp_path / "scan.h5").stdout
    assert told.startswith("2 images of fastmri, subject somebody: ")
    found = scanside("inspect", tmp_path / "scan.h5", status=3).stdout
    assert "36 of 36 lines" in found


def test_a_file_of_another_data_set(scanside: Scanside, knee: Path, tmp_path: Path) -> None:
    knee.write_bytes(knee.read_bytes()[:3000])
    refused = scanside("convert", knee, tmp_path / "scan.h5", status=1).stderr
    assert "looks like a file of no data set that is known" in refused
    assert not (tmp_path / "scan.h5").exists()


def test_the_file_is_not_written_over(scanside: Scanside, knee: Path) -> None:
    assert "is named twice" in scanside("convert", knee, knee, status=2).stderr
