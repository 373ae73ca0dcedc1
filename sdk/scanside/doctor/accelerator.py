"""GPUs: driver, CUDA, and TensorRT beside the torch that it has to fit."""

from __future__ import annotations

import re
import shutil
import subprocess
import warnings
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from scanside.doctor.check import Check
from scanside.doctor.versions import installed, required, satisfies

__all__ = ["check_accelerators"]

_DRIVER = Path("/proc/driver/nvidia/version")
_TENSORRT_NEEDS = ("torch", "tensorrt", "tensorrt-cu13-bindings", "tensorrt-cu13-libs")


def check_accelerators() -> list[Check]:
    """Look at driver, CUDA and TensorRT; nothing where torch is not installed."""
    if find_spec("torch") is None:
        return []
    driver = _driver()
    wanted = driver is not None
    cuda = list(_cuda(driver))
    torch_is_broken = any(one.name == "torch" for one in cuda)
    rtx = [] if torch_is_broken else list(_tensorrt_rtx(wanted=wanted))
    # Both bring the module torch_tensorrt, so that an environment has one of them.
    other = any(one.status != "missing" for one in rtx)
    return [*cuda, *_tensorrt(wanted=wanted and not other), *rtx]


def _driver() -> str | None:
    """The version of NVIDIA's driver; None where there is none."""
    if _DRIVER.exists():
        found = re.search(r"\s(\d+\.\d+(\.\d+)?)\s", _DRIVER.read_text(encoding="utf-8"))
        return found[1] if found else "of unknown version"
    # In some containers /proc shows nothing of the driver.
    program = shutil.which("nvidia-smi")
    if program is None:
        return None
    asked = [program, "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        run = subprocess.run(asked, check=False, capture_output=True, text=True, timeout=20)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return run.stdout.split("\n")[0].strip() or None if run.returncode == 0 else None


def _cuda(driver: str | None) -> Iterator[Check]:
    try:
        import torch
    except Exception as error:  # noqa: BLE001 — a broken torch raises anything, and saying so is the purpose
        yield Check("torch", "problem", f"cannot be imported: {error}", "reinstall torch")
        return
    if driver is not None:
        yield Check("NVIDIA driver", "ok", driver)
    cuda = torch.version.cuda
    # What torch has against a driver it says in a warning.
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        available = torch.cuda.is_available()
    if available:
        for i in range(torch.cuda.device_count()):
            yield _device(i)
    elif driver is None:
        built = f"torch was built for CUDA {cuda}" if cuda else "torch was built without CUDA"
        yield Check("CUDA", "missing", f"no device ({built})", "stages run on the CPU")
    elif cuda is None:
        yield Check(
            "CUDA",
            "problem",
            f"there is a driver, {driver}, but torch {torch.__version__} was built without CUDA",
            "install torch from the index of its CUDA version: https://pytorch.org/get-started/locally",
        )
    else:
        reason = str(said[-1].message).splitlines()[0] if said else "torch sees no device"
        yield Check(
            "CUDA",
            "problem",
            f"driver {driver}, torch for CUDA {cuda}: {reason}",
            "update the driver, or take a torch for an older CUDA; in a container, give it the GPU (--gpus all); "
            "see CUDA_VISIBLE_DEVICES",
        )


def _device(index: int) -> Check:
    import torch

    properties: Any = torch.cuda.get_device_properties(index)
    found = f"{properties.name}, {properties.total_memory / 2**30:.0f} GiB, sm{properties.major}{properties.minor}"
    try:
        # Small, but it needs a kernel for this very kind of GPU.
        torch.ones(8, device=f"cuda:{index}").square().sum().item()
    except RuntimeError as error:
        reason = str(error).splitlines()[0]
        advice = "free its memory, or take a torch that was built for this kind of GPU"
        return Check(f"CUDA device {index}", "problem", f"{found}: {reason}", advice)
    return Check(f"CUDA device {index}", "ok", found)


def _tensorrt(*, wanted: bool) -> Iterator[Check]:
    found = installed("torch-tensorrt")
    if found is None:
        if wanted:
            yield Check("TensorRT", "missing", "not installed", "pip install 'scanside[tensorrt]'")
        return
    wrong = []
    for name in _TENSORRT_NEEDS:
        asked, has = required("torch-tensorrt", name), installed(name)
        if asked and has is None:
            wrong.append(f"{name} is not installed, expected {asked}")
        elif has is not None and not satisfies(has, asked):
            wrong.append(f"{name} is {has}, expected {asked}")
    if wrong:
        advice = "pip install --upgrade 'scanside[tensorrt]': torch, torch-tensorrt and TensorRT go together"
        yield Check("TensorRT", "problem", f"torch-tensorrt {found}: {'; '.join(wrong)}", advice)
        return
    yield Check("TensorRT", "ok", f"torch-tensorrt {found}, TensorRT {installed('tensorrt') or 'of its own'}")


def _tensorrt_rtx(*, wanted: bool) -> Iterator[Check]:
    from scanside.engines.backends.trt_build import RTX, cannot_convert

    title, (bindings, libraries) = RTX.title, RTX.packages
    version, built_with = installed(bindings), installed(RTX.converter)
    if version is None:
        if wanted or built_with is not None:
            yield Check(title, "missing", f"the package '{bindings}' is not installed", RTX.install)
        return
    asked = required(RTX.converter, "tensorrt-rtx")
    if installed(libraries) != version:
        wrong = f"{bindings} {version}, but {libraries} {installed(libraries) or 'is not installed'}"
        yield Check(title, "problem", wrong, RTX.install)
    elif built_with is None:
        yield Check(
            title, "ok", f"{version}, which runs plans; {RTX.converter}, which builds them, is not installed"
        )
    elif not satisfies(version, asked):
        yield Check(
            title, "problem", f"{version}, but {RTX.converter} {built_with} expects {asked}", RTX.install
        )
    elif reason := cannot_convert(RTX):
        yield Check(title, "problem", reason, RTX.install_converter)
    else:
        yield Check(title, "ok", f"{version}, {RTX.converter} {built_with}")
