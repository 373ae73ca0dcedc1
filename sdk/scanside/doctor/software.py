"""Interpreter, packages, stages and programs."""

from __future__ import annotations

import platform
import shutil
import sys
from collections.abc import Iterator
from importlib.util import find_spec

from scanside._version import __version__
from scanside.doctor.check import Check, Status
from scanside.doctor.versions import installed, required, satisfies
from scanside.errors import ScansideError

__all__ = ["check_software"]

_EXTRAS = {
    "torch": (("torch", "torch"), ("yaml", "PyYAML")),
    "cli": (("typer", "typer"), ("rich", "rich")),
    "report": (("jinja2", "Jinja2"), ("matplotlib", "matplotlib")),
    "engines": (("safetensors", "safetensors"), ("cryptography", "cryptography")),
    "server": (
        ("prometheus_client", "prometheus-client"),
        ("starlette", "starlette"),
        ("uvicorn", "uvicorn"),
    ),
    "noncartesian": (("finufft", "finufft"),),
    "dicom": (("pydicom", "pydicom"), ("pynetdicom", "pynetdicom")),
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


def check_software() -> list[Check]:
    """Look at interpreter, packages, stages and programs."""
    return [Check("Scanside", "ok", __version__), _python(), *_packages(), _stages(), *_tools()]


def _python() -> Check:
    found = f"{platform.python_version()} ({sys.executable})"
    if sys.version_info < (3, 11):
        return Check("Python", "missing", found, "formats and node run; reconstruction needs 3.11 or later")
    return Check("Python", "ok", found)


def _packages() -> Iterator[Check]:
    for distribution in _BASE:
        yield _package(distribution, "problem", "pip install --upgrade scanside")
    for extra, modules in _EXTRAS.items():
        advice = f"pip install --upgrade 'scanside[{extra}]'"
        for module, distribution in modules:
            if find_spec(module) is None:
                yield Check(distribution, "missing", "not installed", advice)
            else:
                yield _package(distribution, "missing", advice)


def _package(distribution: str, if_absent: Status, advice: str) -> Check:
    found = installed(distribution)
    if found is None:
        return Check(distribution, if_absent, "not installed", advice)
    asked = required("scanside", distribution)
    if not satisfies(found, asked):
        return Check(distribution, "problem", f"{found}, expected {asked}", advice)
    return Check(distribution, "ok", found)


def _stages() -> Check:
    try:
        from scanside.registry import load_stage, stage_names

        names = stage_names()
        for name in names:
            load_stage(name)
    except ScansideError as error:
        status: Status = "problem" if find_spec("torch") else "missing"
        return Check("stages", status, str(error), "install what it needs, or uninstall what brings it")
    if not names:
        advice = "pip install --force-reinstall scanside: its entry points are missing"
        return Check("stages", "problem", "none is registered", advice)
    return Check("stages", "ok", ", ".join(names))


def _tools() -> Iterator[Check]:
    for name, (program, advice) in _TOOLS.items():
        path = shutil.which(program)
        yield Check(name, "ok", path) if path else Check(name, "missing", f"no {program} on PATH", advice)
