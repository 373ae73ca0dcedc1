"""`scanside doctor`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from typer.testing import Result

from scanside import doctor
from scanside.doctor import Check


def test_text_and_json_say_the_same(scanside: Callable[..., Result], as_json: Callable[..., Any]) -> None:
    checks = as_json("doctor")["checks"]
    text = scanside("doctor").stdout
    assert [check["name"] for check in checks if check["name"] not in text] == []


def test_problems_are_told_by_the_exit_status(
    scanside: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = Check("h5py", "problem", "not installed", "pip install --upgrade scanside")
    monkeypatch.setattr(doctor, "examine", lambda: [broken])
    assert "pip install --upgrade scanside" in scanside("doctor", status=1).stdout
