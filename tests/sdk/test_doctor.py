"""The doctor tells a healthy installation from one that lacks something."""

from __future__ import annotations

import os
import socket
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

from scanside import doctor
from scanside.doctor import Check, examine


def by_name() -> dict[str, Check]:
    return {check.name: check for check in examine()}


def test_healthy_installation(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(Path(sys.executable).parent), prepend=os.pathsep)
    checks = by_name()
    assert [check for check in checks.values() if check.status == "problem"] == []
    assert checks["numpy"].found == version("numpy")
    assert checks["Gadgetron node"].status == "ok"
    assert "accumulate" in checks["stages"].found
    assert all(check.advice for check in checks.values() if check.status != "ok")


def test_missing_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    real = doctor.find_spec
    monkeypatch.setattr(doctor, "find_spec", lambda name: None if name == "matplotlib" else real(name))
    check = by_name()["matplotlib"]
    assert (check.status, check.advice) == ("missing", "pip install 'scanside[report]'")


def test_python_that_gadgetron_would_start(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    other = tmp_path / "python"
    other.write_text("#!/bin/sh\necho 'no module named gadgetron' >&2; exit 1\n")
    other.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    check = by_name()["Gadgetron node"]
    assert check.status == "missing"
    assert str(other) in check.found
    assert str(Path(sys.executable).parent) in check.advice


def test_taken_port(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        monkeypatch.setattr(doctor, "MRD_PORT", port)
        assert by_name()[f"port {port}"].status == "missing"
    assert by_name()[f"port {port}"].status == "ok"


def test_folder_that_cannot_be_written(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> None:
        raise PermissionError("no")

    monkeypatch.setattr("tempfile.TemporaryFile", refuse)
    assert by_name()["temporary files"].status == "problem"
