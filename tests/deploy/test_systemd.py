"""The systemd unit."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from scanside_deploy.chains import NODE_PORT
from scanside_gadgetron.settings import ServerConfig

UNIT = Path(__file__).resolve().parents[2] / "deploy" / "systemd" / "scanside.service"


def settings() -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for name, value in re.findall(r"^(\w+)=(.*)$", UNIT.read_text("utf-8"), re.MULTILINE):
        found.setdefault(name, []).append(value)
    return found


def test_systemd_takes_it(tmp_path: Path) -> None:
    systemd = shutil.which("systemd-analyze")
    if systemd is None:
        pytest.skip("systemd-analyze is not installed")
    # The program is not installed here; any other stands in for it.
    text = UNIT.read_text("utf-8").replace("/opt/scanside/bin/scanside", "/bin/true")
    (tmp_path / UNIT.name).write_text(text)
    for broken in (False, True):
        if broken:
            (tmp_path / UNIT.name).write_text(text.replace("ProtectSystem=", "ProtectsSystem="))
        run = subprocess.run(
            [systemd, "verify", "--man=no", str(tmp_path / UNIT.name)], capture_output=True, text=True
        )
        said = [line for line in run.stderr.splitlines() if UNIT.name in line]
        assert bool(said) is broken, run.stderr


def test_unprivileged_and_reloadable() -> None:
    found = settings()
    assert found["User"] == ["scanside"]
    assert found["CapabilityBoundingSet"] == [""]
    assert found["NoNewPrivileges"] == ["yes"]
    assert found["ExecReload"] == ["/bin/kill -HUP $MAINPID"]
    # Running scans get the time that the server gives them.
    assert float(found["TimeoutStopSec"][0]) > ServerConfig().grace_seconds


def test_writes_only_where_it_may() -> None:
    found = settings()
    state = f"/var/lib/{found['StateDirectory'][0]}"
    variables = dict(one.split("=", 1) for one in found["Environment"])
    for name in ("SCANSIDE_ENGINE_CACHE", "SCANSIDE_ENGINES"):
        assert variables[name].startswith(f"{state}/")
    assert variables["SCANSIDE_TRUSTED_KEYS"].startswith("/etc/")


def test_settings_of_the_server() -> None:
    config = ServerConfig.load(UNIT.with_name("server.yaml"))
    found = settings()
    assert config.noise_store is not None
    assert config.noise_store.is_relative_to(f"/var/lib/{found['StateDirectory'][0]}")
    # PrivateTmp would hide the place that nodes look at by themselves.
    assert str(config.handover) == f"/run/{found['RuntimeDirectory'][0]}/pool.sock"
    assert f"SCANSIDE_POOL={config.handover}" in UNIT.read_text("utf-8")
    # The chains look for the server here.
    assert (config.host, config.port) == ("localhost", NODE_PORT)
