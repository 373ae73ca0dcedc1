"""What all tests share: the real data, programs written by others, and skips that say why."""

from __future__ import annotations

import importlib.util
import os
import shutil
from pathlib import Path

import hypothesis
import pytest

REPO = Path(__file__).resolve().parents[1]
HAS_TORCH = importlib.util.find_spec("torch") is not None

if "PYTEST_XDIST_WORKER" in os.environ:
    # Each worker has a core. Set before torch and NumPy load; the processes that tests start inherit it.
    os.environ.setdefault("OMP_NUM_THREADS", "1")

# pytest-timeout bounds a test; how long one example takes says more about the machine than about the code.
hypothesis.settings.register_profile("scanside", hypothesis.settings(), deadline=None)
hypothesis.settings.load_profile("scanside")


def pytest_ignore_collect(collection_path: Path) -> bool | None:
    """Without torch, leave out the modules and folders that hold no test for the torch-free environment.

    They may import torch at their top, so they must not be imported at all.
    """
    is_module = collection_path.match("test_*.py")
    if HAS_TORCH or not (is_module or collection_path.is_dir()):
        return None
    modules = [collection_path] if is_module else collection_path.rglob("test_*.py")
    return None if any("torch_free" in module.read_text("utf-8") for module in modules) else True


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip what this machine cannot run."""
    for item in items:
        if not HAS_TORCH and item.get_closest_marker("torch_free") is None:
            item.add_marker(pytest.mark.skip(reason="needs torch: pip install 'scanside[torch]'"))
        elif item.get_closest_marker("cuda") and not _cuda_available():
            item.add_marker(pytest.mark.skip(reason="needs a CUDA device, and torch sees none"))
        elif item.get_closest_marker("tensorrt") and importlib.util.find_spec("tensorrt") is None:
            item.add_marker(
                pytest.mark.skip(reason="needs TensorRT: the package 'tensorrt' is not installed")
            )


def _cuda_available() -> bool:
    import torch

    return torch.cuda.is_available()


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder with the real scans, which are too large for the repository."""
    folder = Path(os.environ.get("SCANSIDE_DATA", REPO.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"the real scans are not at {folder}: set SCANSIDE_DATA to the folder that holds them")
    return folder


@pytest.fixture(scope="session")
def bart() -> str:
    """Path of BART's program."""
    return _program("bart", "bart")


@pytest.fixture(scope="session")
def ismrmrd_generate() -> str:
    """Path of the ISMRMRD tools' generator of a Cartesian Shepp-Logan scan."""
    return _program("ismrmrd_generate_cartesian_shepp_logan", "ismrmrd-tools")


def _program(name: str, debian_package: str) -> str:
    path = shutil.which(name)
    if path is None:
        pytest.skip(f"'{name}' is not installed: apt-get install {debian_package}, or make ci-deps")
    return path
