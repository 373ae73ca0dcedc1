"""`scanside doctor`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import Result

from scanside import doctor
from scanside.doctor import Check


def test_text_and_json_say_the_same(
    scanside: Callable[..., Result], as_json: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    checks = as_json("doctor")["checks"]
    assert {"numpy", "clock", "port 9002"} <= {check["name"] for check in checks}
    monkeypatch.setattr(doctor, "examine", lambda config: [Check(**check) for check in checks])
    text = scanside("doctor").stdout
    for check in checks:
        assert check["name"] in text
        assert check["found"].split()[0] in text


def test_problems_are_told_by_the_exit_status(
    scanside: Callable[..., Result], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    asked = []
    broken = Check("h5py", "problem", "not installed", "pip install --upgrade scanside")
    monkeypatch.setattr(doctor, "examine", lambda config: asked.append(config) or [broken])
    config = tmp_path / "server.yaml"
    assert "pip install --upgrade scanside" in scanside("doctor", "--config", config, status=1).stdout
    assert asked == [config]


def test_a_path_stays_in_one_piece(scanside: Callable[..., Result], monkeypatch: pytest.MonkeyPatch) -> None:
    path = "/opt/" + "far/" * 40 + "python"
    found = [Check("Gadgetron node", "missing", path, f"put {path} in front"), Check("h5py", "ok", "3.16")]
    monkeypatch.setattr(doctor, "examine", lambda config: found)
    lines = scanside("doctor").stdout.splitlines()
    assert lines == [
        f"– Gadgetron node  {path}",
        f"{'':18}→ put {path} in front",
        "✓ h5py            3.16",
    ]
