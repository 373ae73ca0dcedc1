"""`scanside inspect`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import pytest
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


@pytest.mark.parametrize(
    ("old", "new", "level", "status"),
    [
        ("scanside_1_1_2", "", "note", 0),
        ("<receiverChannels>4<", "<receiverChannels>6<", "warning", 3),
        ("<center>16<", "<center>5<", "error", 1),
    ],
)
def test_exit_status_tells_the_gravest_finding(
    scanside: Scanside,
    as_json: Callable[..., Any],
    small_scan: Path,
    tmp_path: Path,
    old: str,
    new: str,
    level: str,
    status: int,
) -> None:
    path = tmp_path / "scan.h5"
    path.write_bytes(small_scan.read_bytes())
    with h5py.File(path, "r+") as file:
        xml = file["dataset/xml"]
        assert old in xml.asstr()[0]
        xml[0] = xml.asstr()[0].replace(old, new)
    assert f"{level}: " in scanside("inspect", path, status=status).stdout
    assert as_json("inspect", path, status=status)["findings"][0]["level"] == level
