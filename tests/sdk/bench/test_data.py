"""The bench of training data: it reads all that it says, and leaves nothing."""

from __future__ import annotations

import os

import pytest

from scanside.bench import NAMES, data


def test_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SCANSIDE_CACHE", "before")
    monkeypatch.setattr(data, "SHAPE", (3, 256, 192))
    monkeypatch.setattr(data, "N_FILES", 2)
    monkeypatch.setattr(data, "N_SLICES", 2)
    monkeypatch.setattr(data, "_RUNS", 1)
    result = data.measure(lambda _: None)
    assert "data" in NAMES
    assert [(row["contender"], row["files"]) for row in result.rows] == [
        ("h5py, one process", "disk"),
        ("h5py, 4 processes", "disk"),
        ("Scanside, 4 workers", "disk"),
        ("h5py, one process", "memory"),
        ("h5py, 4 processes", "memory"),
        ("Scanside, 4 workers", "memory"),
        ("Scanside, 4 workers, coil maps estimated", "memory"),
    ]
    assert all(row["median"] > 0 for row in result.rows)
    (promise,) = result.headline
    assert promise.value == pytest.approx(result.rows[2]["median"] / result.rows[0]["median"], abs=1e-3)
    assert os.environ["SCANSIDE_CACHE"] == "before"
