"""``scanside qa``."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import Result

from scanside.testing.disk import write_disk_scan

Scanside = Callable[..., Result]

PIPELINE = (
    "name: plain\nstages: [noise, oversampling, accumulate, coil-maps, {fourier: {combine: maps}}, finish]\n"
)


@pytest.fixture(scope="module")
def phantom(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("phantom") / "phantom.h5"
    write_disk_scan(path, n=64)
    path.with_name("plain.yaml").write_text(PIPELINE)
    return path


def test_qa(
    scanside: Scanside,
    as_json: Callable[..., Any],
    phantom: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    limits = tmp_path / "limits.yaml"
    limits.write_text("{piu: 90, diameter_mm: 3}\n")
    options = ("qa", phantom, "-p", phantom.with_name("plain.yaml"), "--limits", limits)
    store = tmp_path / "store"
    text = scanside(*options, "--store", store, "--diameter", 170).stdout
    for part in ("SNR", "diameter x, mm", "ghosting", "uniformity", "✓"):
        assert part in text
    (report,) = store.glob("*.html")
    assert "Phantom check" in report.read_text("utf-8")
    assert len((store / "qa.jsonl").read_text().splitlines()) == 1
    monkeypatch.setenv("SCANSIDE_QA", str(store))
    found = as_json(*options, "--report", tmp_path / "r.html")
    assert found["passed"]
    assert found["verdicts"][0]["low"] == pytest.approx(0.85 * found["snr"])
    assert (tmp_path / "r.html").exists()
    assert json.loads((store / "qa.jsonl").read_text().splitlines()[1])["snr"] == found["snr"]


def test_out_of_limits_is_the_exit_status(
    scanside: Scanside, as_json: Callable[..., Any], phantom: Path, tmp_path: Path
) -> None:
    options = ("qa", phantom, "-p", phantom.with_name("plain.yaml"))
    assert "out of limits" in scanside(*options, "--diameter", 500, status=3).stdout
    assert not as_json(*options, "--diameter", 500, status=3)["passed"]
    wrong = tmp_path / "limits.yaml"
    wrong.write_text("snrr: 3\n")
    assert "It may set snr" in scanside(*options, "--limits", wrong, status=1).stderr
