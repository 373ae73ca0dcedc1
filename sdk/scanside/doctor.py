"""What is installed, what works, and what to do about the rest."""

from __future__ import annotations

import platform
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

from scanside._version import __version__
from scanside.errors import ScansideError

__all__ = ["Check", "examine"]

Status = Literal["ok", "missing", "problem"]

_EXTRAS = {
    "torch": (("torch", "torch"), ("yaml", "PyYAML")),
    "cli": (("typer", "typer"), ("rich", "rich")),
    "report": (("jinja2", "Jinja2"), ("matplotlib", "matplotlib")),
}
"""Modules and their distributions by the extra that brings them."""

_BASE = ("numpy", "h5py", "ismrmrd", "gadgetron", "pydantic")
_TOOLS = {
    "BART": ("bart", "only tests need it: apt-get install bart"),
    "ISMRMRD tools": (
        "ismrmrd_generate_cartesian_shepp_logan",
        "only tests need them: apt-get install ismrmrd-tools",
    ),
    "Gadgetron server": ("gadgetron", "only needed where its chains run"),
}
"""Programs, and who needs them."""

MRD_PORT = 9002
"""The port that MRD clients use unless told otherwise."""


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was looked at.

    Attributes:
        name: what.
        status: ``ok``; ``missing``: optional and not there; ``problem``: broken.
        found: what was found.
        advice: what to do, empty where all is well.
    """

    name: str
    status: Status
    found: str
    advice: str = ""

    def to_dict(self) -> dict[str, str]:
        """As JSON-ready values."""
        return asdict(self)


def examine() -> list[Check]:
    """Look at everything, from the interpreter to the network."""
    return [
        Check("Scanside", "ok", __version__),
        _python(),
        *_packages(),
        *_devices(),
        _gadgetron_node(),
        _stages(),
        *_tools(),
        _temporary_folder(),
        _port(MRD_PORT),
    ]


def _python() -> Check:
    found = f"{platform.python_version()} ({sys.executable})"
    if sys.version_info < (3, 11):
        return Check("Python", "missing", found, "formats and node run; reconstruction needs 3.11 or later")
    return Check("Python", "ok", found)


def _packages() -> Iterator[Check]:
    for distribution in _BASE:
        found = _version(distribution)
        if found is None:
            yield Check(distribution, "problem", "not installed", "pip install --upgrade scanside")
        else:
            yield Check(distribution, "ok", found)
    for extra, modules in _EXTRAS.items():
        for module, distribution in modules:
            if find_spec(module) is None:
                yield Check(distribution, "missing", "not installed", f"pip install 'scanside[{extra}]'")
            else:
                yield Check(distribution, "ok", _version(distribution) or "installed")


def _devices() -> Iterator[Check]:
    if find_spec("torch") is None:
        return
    try:
        import torch
    except Exception as error:  # noqa: BLE001 — a broken torch raises anything, and saying so is the purpose
        yield Check("torch", "problem", f"cannot be imported: {error}", "reinstall torch")
        return
    if not torch.cuda.is_available():
        cuda = torch.version.cuda
        built = f"torch was built for CUDA {cuda}" if cuda else "torch was built without CUDA"
        yield Check("CUDA", "missing", f"no device ({built})", "stages run on the CPU")
    for i in range(torch.cuda.device_count()):
        properties: Any = torch.cuda.get_device_properties(i)
        memory = properties.total_memory / 2**30
        yield Check(f"CUDA device {i}", "ok", f"{properties.name}, {memory:.0f} GiB")


def _gadgetron_node() -> Check:
    """Whether the interpreter that Gadgetron would start finds the node: the first python on PATH, as it does."""
    name = "Gadgetron node"
    python = shutil.which("python") or shutil.which("python3")
    if python is None:
        return Check(
            name, "missing", "no python on PATH", "put the environment's bin folder on Gadgetron's PATH"
        )
    code = "import gadgetron.external, scanside_gadgetron"
    run = subprocess.run([python, "-c", code], check=False, capture_output=True, text=True, timeout=60)
    if run.returncode == 0:
        return Check(name, "ok", f"{python} imports gadgetron and scanside_gadgetron")
    reason = (run.stderr.strip().splitlines() or ["no message"])[-1]
    here = Path(sys.executable).parent
    if Path(python).parent == here:
        return Check(name, "problem", f"{python}: {reason}", "pip install --upgrade scanside")
    advice = f"Gadgetron starts the first python on its PATH: put {here} in front of it"
    return Check(name, "missing", f"{python}: {reason}", advice)


def _stages() -> Check:
    try:
        from scanside.registry import load_stage, stage_names

        names = stage_names()
        for name in names:
            load_stage(name)
    except ScansideError as error:
        return Check("stages", "problem" if find_spec("torch") else "missing", str(error))
    return (
        Check("stages", "ok", ", ".join(names))
        if names
        else Check(
            "stages", "problem", "none is registered", "reinstall scanside: its entry points are missing"
        )
    )


def _tools() -> Iterator[Check]:
    for name, (program, advice) in _TOOLS.items():
        path = shutil.which(program)
        yield Check(name, "ok", path) if path else Check(name, "missing", f"no {program} on PATH", advice)


def _temporary_folder() -> Check:
    folder = tempfile.gettempdir()
    try:
        with tempfile.TemporaryFile():
            free = shutil.disk_usage(folder).free / 2**30
    except OSError as error:
        return Check(
            "temporary files", "problem", str(error), "set TMPDIR to a folder that can be written to"
        )
    return Check("temporary files", "ok", f"{folder}, {free:.1f} GiB free")


def _port(port: int) -> Check:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            found = f"taken ({error.strerror})"
            return Check(f"port {port}", "missing", found, "scanside serve --port takes another")
    return Check(f"port {port}", "ok", "free for scanside serve")


def _version(distribution: str) -> str | None:
    try:
        return version(distribution)
    except PackageNotFoundError:
        return None
