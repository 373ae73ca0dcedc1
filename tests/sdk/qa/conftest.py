"""Scans of a disk, each made once."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from scanside.testing.disk import write_disk_scan

PIPELINE = (
    "name: plain\nstages: [noise, oversampling, accumulate, coil-maps, {fourier: {combine: maps}}, finish]\n"
)


@pytest.fixture(scope="session")
def disk_scan(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    made: dict[str, Path] = {}

    def make(**settings: Any) -> Path:
        key = repr(sorted(settings.items()))
        if key not in made:
            made[key] = tmp_path_factory.mktemp("disk") / "phantom.h5"
            write_disk_scan(made[key], **settings)
        return made[key]

    return make


@pytest.fixture
def plain(tmp_path: Path) -> str:
    """A pipeline for fully sampled scans."""
    path = tmp_path / "plain.yaml"
    path.write_text(PIPELINE)
    return str(path)
