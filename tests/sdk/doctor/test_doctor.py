"""The whole examination: a healthy installation has no problem, and the server's settings are looked at."""

from __future__ import annotations

import os
import socket
import sys
from pathlib import Path

import pytest

from scanside import doctor
from scanside.doctor import Check, examine


@pytest.fixture(autouse=True)
def python_of_this_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(Path(sys.executable).parent), prepend=os.pathsep)
    monkeypatch.setenv("SCANSIDE_POOL", "off")  # a server may run on this machine


def by_name(config: Path | None = None) -> dict[str, Check]:
    checks = examine(config)
    names = [check.name for check in checks]
    assert len(set(names)) == len(names)
    return {check.name: check for check in checks}


def test_healthy_installation() -> None:
    checks = by_name()
    assert [check for check in checks.values() if check.status == "problem"] == []
    assert checks["Gadgetron node"].status == "ok"
    assert "accumulate" in checks["stages"].found
    assert checks["bundle brain-student"].found.startswith("1.2.0, whole")
    assert all(check.advice for check in checks.values() if check.status != "ok")


@pytest.fixture
def settings_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """What has nothing to do with the server's settings is not looked at again."""
    monkeypatch.setattr(doctor, "check_bundles", list)
    monkeypatch.setattr(doctor, "check_gadgetron_node", lambda: Check("Gadgetron node", "ok", ""))


@pytest.mark.usefixtures("settings_only")
def test_settings_of_the_server(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        (tmp_path / "file").touch()
        config = tmp_path / "server.yaml"
        config.write_text(
            f"{{port: {port}, pipeline: grapa, prepare: [fft], noise_store: {tmp_path}/file/noise}}"
        )
        checks = by_name(config)
    assert checks["server's settings"].status == "ok"
    assert checks["pipeline grapa"].status == "problem"
    assert "grappa" in checks["pipeline grapa"].found
    assert checks["pipeline fft"].status == "ok"
    assert checks[f"port {port}"].status == "missing"
    assert checks["noise store"].status == "problem"


@pytest.mark.usefixtures("settings_only")
def test_settings_that_let_everybody_in_are_told(tmp_path: Path) -> None:
    config = tmp_path / "server.yaml"
    config.write_text("{host: 0.0.0.0, allow: [0.0.0.0/0]}")
    found = by_name(config)["server's settings, allow"]
    assert found.status == "missing"
    assert "every machine" in found.found
    assert found.advice == "name the networks of your hosts"


@pytest.mark.usefixtures("settings_only")
def test_settings_that_cannot_be_read(tmp_path: Path) -> None:
    config = tmp_path / "server.yaml"
    config.write_text("{host: 0.0.0.0}")
    check = by_name(config)["server's settings"]
    assert check.status == "problem"
    assert "allow" in check.found
