"""What runs beside: the Python that Gadgetron starts, and a server of ours."""

from __future__ import annotations

import http.client
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from scanside._version import __version__
from scanside.doctor.check import Check
from scanside_gadgetron.pool.handover import find_pool

if TYPE_CHECKING:
    from scanside_gadgetron.settings import ServerConfig

__all__ = ["check_gadgetron_node", "check_server"]

_SECONDS = 3.0

_LOOK = """
import json, platform
from importlib.metadata import version
import gadgetron.external, scanside_gadgetron, scanside
found = {"scanside": scanside.__version__, "Python": platform.python_version()}
found.update((name, version(name)) for name in ("gadgetron", "ismrmrd", "numpy"))
print(json.dumps(found))
"""


def check_gadgetron_node() -> Check:
    """Whether the interpreter that Gadgetron would start finds the node: the first python on PATH, as it does."""
    name = "Gadgetron node"
    python = shutil.which("python") or shutil.which("python3")
    if python is None:
        return Check(
            name, "missing", "no python on PATH", "put the environment's bin folder on Gadgetron's PATH"
        )
    here = Path(sys.executable).parent
    ours = Path(python).parent == here
    advice = (
        "pip install --upgrade scanside"
        if ours
        else f"Gadgetron starts the first python on its PATH: put {here} in front of it"
    )
    try:
        run = subprocess.run([python, "-c", _LOOK], check=False, capture_output=True, text=True, timeout=60)
    except (OSError, subprocess.TimeoutExpired) as error:
        return Check(name, "problem" if ours else "missing", f"{python}: {error}", advice)
    if run.returncode:
        reason = (run.stderr.strip().splitlines() or ["no message"])[-1]
        return Check(name, "problem" if ours else "missing", f"{python}: {reason}", advice)
    found: dict[str, str] = json.loads(run.stdout.splitlines()[-1])
    if found["scanside"] != __version__:
        what = f"{python} has Scanside {found['scanside']}, this is {__version__}"
        return Check(name, "problem", what, advice)
    told = ", ".join(f"{package} {version}" for package, version in found.items())
    return Check(name, "ok", f"{python}: {told}")


def check_server(settings: ServerConfig) -> list[Check]:
    """Whether a server runs here: does it take the scans of executed nodes, and is it ready?"""
    checks = [_handover()]
    if settings.monitor is not None:
        checks.append(_ready(settings.monitor.port))
    return checks


def _handover() -> Check:
    pool = find_pool()
    if pool is None:
        advice = (
            "scanside serve takes over the scans of executed nodes; without it each of them loads everything"
        )
        return Check("hand-over", "missing", "no server of this user listens for executed nodes", advice)
    pool.close()
    return Check("hand-over", "ok", "a server takes the scans of executed nodes")


def _ready(port: int) -> Check:
    name = "server"
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=_SECONDS)
    try:
        connection.request("GET", "/readyz")
        answer = connection.getresponse()
        text = answer.read(200).decode(errors="replace").strip()
    except (OSError, http.client.HTTPException) as error:
        advice = "start it: scanside serve"
        return Check(name, "missing", f"none answers on port {port} ({error})", advice)
    finally:
        connection.close()
    if answer.status != 200:
        return Check(name, "missing", f"not ready: {text}", "wait, and look at its log if that takes long")
    return Check(name, "ok", f"ready, on port {port}")
