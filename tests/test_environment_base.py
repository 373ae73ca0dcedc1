"""The torch-free environment is the one that the base promises to run in."""

from __future__ import annotations

import importlib
import importlib.util
from importlib.metadata import version
from pathlib import Path

import pytest

from scanside.inspection import inspect_file
from scanside.mrd.hdf5 import Hdf5Writer
from scanside.simulate import preset, simulate
from scanside.suitability import pipelines_for

pytestmark = pytest.mark.torch_free

if importlib.util.find_spec("torch") is not None:
    pytest.skip("this is about the environment without torch (make test-base)", allow_module_level=True)


@pytest.mark.parametrize(
    "package", ["torch", "yaml", "typer", "rich", "jinja2", "matplotlib", "scipy", "sigpy"]
)
def test_extras_are_absent(package: str) -> None:
    assert importlib.util.find_spec(package) is None


@pytest.mark.parametrize(("package", "oldest"), [("numpy", "1.26."), ("ismrmrd", "1.14.")])
def test_oldest_supported_versions(package: str, oldest: str) -> None:
    assert version(package).startswith(oldest)


def test_pipelines_say_what_they_lack(tmp_path: Path) -> None:
    """A scan is inspected all the same."""
    scan = simulate(preset("phantom-full"))
    with Hdf5Writer(tmp_path / "scan.h5", scan.header_xml) as writer:
        for item in scan.items():
            writer.write(item)
    found = inspect_file(tmp_path / "scan.h5")
    assert found.outline is not None
    for told in pipelines_for(found.outline):
        assert "which is not installed: pip install 'scanside[torch]'" in told.refusals[0]


@pytest.mark.parametrize("module", ["scanside", "scanside.errors", "scanside.mrd", "scanside_gadgetron"])
def test_imports(module: str) -> None:
    assert importlib.import_module(module).__doc__
