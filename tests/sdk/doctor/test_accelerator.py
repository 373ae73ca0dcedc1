"""GPUs. There may be none here, so torch and driver are played."""

from __future__ import annotations

import warnings

import pytest
import torch

from scanside.doctor import accelerator
from scanside.doctor.accelerator import check_accelerators
from scanside.doctor.check import Check
from scanside.engines.backends import trt_build


def by_name() -> dict[str, Check]:
    return {check.name: check for check in check_accelerators()}


@pytest.fixture
def driver(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(accelerator, "_driver", lambda: "570.124.06")


@pytest.fixture
def no_device(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)


@pytest.mark.usefixtures("no_device")
def test_no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(accelerator, "_driver", lambda: None)
    checks = by_name()
    assert checks["CUDA"].status == "missing"
    assert "NVIDIA driver" not in checks


@pytest.mark.usefixtures("driver", "no_device")
def test_torch_without_cuda_beside_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.version, "cuda", None)
    check = by_name()["CUDA"]
    assert check.status == "problem"
    assert "570.124.06" in check.found
    assert "without CUDA" in check.found


@pytest.mark.usefixtures("driver")
def test_driver_too_old_for_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> bool:
        warnings.warn("The NVIDIA driver on your system is too old (found version 11040).", stacklevel=1)
        return False

    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setattr(torch.cuda, "is_available", refuse)
    check = by_name()["CUDA"]
    assert check.status == "problem"
    assert "too old" in check.found
    assert "update the driver" in check.advice


@pytest.mark.parametrize(
    ("installed", "says"),
    [
        ({"torch-tensorrt": "2.13.0", "torch": "2.13.0", "tensorrt": "11.0.0"}, ""),
        (
            {"torch-tensorrt": "2.13.0", "torch": "2.12.1", "tensorrt": "11.0.0"},
            "torch is 2.12.1, expected <2.14",
        ),
        (
            {"torch-tensorrt": "2.13.0", "torch": "2.13.0", "tensorrt": "10.9"},
            "tensorrt is 10.9, expected <11.1",
        ),
        ({"torch-tensorrt": "2.13.0", "torch": "2.13.0"}, "tensorrt is not installed"),
        ({}, "not installed"),
    ],
)
@pytest.mark.usefixtures("driver", "no_device")
def test_tensorrt_and_torch_go_together(
    monkeypatch: pytest.MonkeyPatch, installed: dict[str, str], says: str
) -> None:
    needs = {"torch": "<2.14.0,>=2.13.0", "tensorrt": "<11.1.0,>=11.0.0"}
    monkeypatch.setattr(accelerator, "installed", installed.get)
    monkeypatch.setattr(accelerator, "required", lambda _, name: needs.get(name, ""))
    check = by_name()["TensorRT"]
    assert check.status == ("ok" if not says else "problem" if installed else "missing")
    assert says in check.found


@pytest.mark.parametrize(
    ("found", "status", "says"),
    [
        ({}, "missing", "'tensorrt-rtx-cu13-bindings' is not installed"),
        ({"bindings": "1.5.0.114"}, "problem", "tensorrt-rtx-cu13-libs is not installed"),
        ({"bindings": "1.5.0.114", "libs": "1.6.1.120"}, "problem", "libs 1.6.1.120"),
        ({"bindings": "1.5.0.114", "libs": "1.5.0.114"}, "ok", "1.5.0.114, which runs plans"),
        (
            {"bindings": "1.6.1.120", "libs": "1.6.1.120", "converter": "2.13.0"},
            "problem",
            "torch-tensorrt-rtx 2.13.0 expects <1.6.0.0,>=1.5.0.114",
        ),
        (
            {"bindings": "1.5.0.114", "libs": "1.5.0.114", "converter": "1.99.0"},
            "problem",
            "does not go with",
        ),
        ({"bindings": "1.5.0.114", "libs": "1.5.0.114", "converter": "2.13.0"}, "ok", "rtx 2.13.0"),
    ],
)
@pytest.mark.usefixtures("driver", "no_device")
def test_tensorrt_rtx_is_whole(
    monkeypatch: pytest.MonkeyPatch, found: dict[str, str], status: str, says: str
) -> None:
    names = {
        "bindings": "tensorrt-rtx-cu13-bindings",
        "libs": "tensorrt-rtx-cu13-libs",
        "converter": "torch-tensorrt-rtx",
    }
    versions = {names[key]: version for key, version in found.items()}
    needs = {"tensorrt-rtx": "<1.6.0.0,>=1.5.0.114"}
    monkeypatch.setattr(accelerator, "installed", versions.get)
    monkeypatch.setattr(accelerator, "required", lambda _, name: needs.get(name, ""))
    against = (
        "torch-tensorrt-rtx 1.99.0 does not go with torch" if found.get("converter") == "1.99.0" else None
    )
    monkeypatch.setattr(trt_build, "cannot_convert", lambda library: against)
    checks = by_name()
    check = checks["TensorRT-RTX"]
    assert (check.status, check.found != "") == (status, True)
    assert says in check.found
    assert check.advice.startswith("pip install") == (status != "ok")
    # The other TensorRT would take the place of its module.
    assert ("TensorRT" in checks) == (not found)


@pytest.mark.cuda
def test_gpu() -> None:
    checks = by_name()
    assert checks["CUDA device 0"].status == "ok"
    assert torch.cuda.get_device_properties(0).name in checks["CUDA device 0"].found
    assert "NVIDIA driver" in checks
