"""What is built is what is in the tree: the wheel holds all packages and runs without the rest."""

from __future__ import annotations

import subprocess
import sys
from email.parser import Parser
from importlib.metadata import entry_points
from pathlib import Path
from zipfile import ZipFile

import pytest

REPO = Path(__file__).resolve().parents[1]
SOURCES = (
    REPO / "sdk" / "scanside",
    REPO / "plugin" / "scanside_gadgetron",
    REPO / "training" / "scanside_training",
    REPO / "deploy" / "scanside_deploy",
)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> ZipFile:
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    run = subprocess.run(build, cwd=REPO, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    (path,) = folder.glob("*.whl")
    return ZipFile(path)


def metadata(wheel: ZipFile, name: str) -> str:
    (path,) = (path for path in wheel.namelist() if path.endswith(f".dist-info/{name}"))
    return wheel.read(path).decode()


def test_wheel_holds_the_packages_whole(wheel: ZipFile) -> None:
    expected = {
        path.relative_to(source.parent).as_posix()
        for source in SOURCES
        for path in source.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert {"scanside/py.typed", "scanside_gadgetron/py.typed"} <= expected
    assert {name for name in wheel.namelist() if ".dist-info/" not in name} == expected


def test_base_needs_nothing_heavy(wheel: ZipFile) -> None:
    needs = Parser().parsestr(metadata(wheel, "METADATA")).get_all("Requires-Dist", [])
    base = {need.split(">=")[0] for need in needs if "extra ==" not in need}
    assert base == {"numpy", "h5py", "ismrmrd", "gadgetron", "pydantic", "threadpoolctl"}


def test_wheel_runs_without_the_tree(wheel: ZipFile, tmp_path: Path) -> None:
    wheel.extractall(tmp_path)
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]); import scanside.mrd, scanside_gadgetron as node; "
        "print(scanside.__file__, node.__file__, sep='\\n')"
    )
    # Isolated, and away from the tree: only what was unpacked can be imported.
    run = subprocess.run(
        [sys.executable, "-I", "-c", code, str(tmp_path)], cwd=tmp_path, capture_output=True, text=True
    )
    assert run.returncode == 0, run.stderr
    assert all(Path(file).is_relative_to(tmp_path) for file in run.stdout.split())


def test_command_and_stages_are_registered(wheel: ZipFile) -> None:
    registered = metadata(wheel, "entry_points.txt")
    assert "scanside = scanside.cli:main" in registered
    files = [path.stem for path in (REPO / "sdk" / "scanside" / "stages").glob("[!_]*.py")]
    missing = [name for name in files if f" = scanside.stages.{name}:" not in registered]
    assert not missing, "register each file in stages/ under [project.entry-points.'scanside.stages']"


def test_registered_stages_can_be_imported() -> None:
    for point in entry_points(group="scanside.stages"):
        if point.dist is not None and point.dist.name == "scanside":
            assert point.load().__doc__, point
