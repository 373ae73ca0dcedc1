"""`scanside inspect`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from typer.testing import Result

Scanside = Callable[..., Result]


def test_text(scanside: Scanside, small_scan: Path) -> None:
    text = scanside("inspect", small_scan).stdout
    for expected in (
        "64 × 32 × 1",
        "32 × 32 × 1",
        "kspace_encode_step_1  0 – 30",
        "12 lines (embedded), kspace_encode_step_1 10 to 21",
        "█·█·█·█·█·▓▓▓▓▓▓▓▓▓▓▓▓█·█·█·█·█",
        "2 slices",
        "Nothing looks wrong.",
    ):
        assert expected in text, text


def test_json(as_json: Callable[..., Any], small_scan: Path) -> None:
    found = as_json("inspect", small_scan)
    assert found["findings"] == []
    assert found["n_readouts"] == 16 + 2 * 22
    assert found["encodings"][0]["geometry"]["0"]["directions"] == ["L", "P", "H"]


def test_pictures(scanside: Scanside, small_scan: Path, tmp_path: Path) -> None:
    scanside("inspect", small_scan, "--png", tmp_path / "a" / "s.png", "--report", tmp_path / "b" / "r.html")
    assert (tmp_path / "a" / "s.png").read_bytes().startswith(b"\x89PNG")
    assert "Research use only" in (tmp_path / "b" / "r.html").read_text("utf-8")
