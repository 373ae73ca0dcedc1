"""GPUs. There may be none here, so torch and driver are played."""

from __future__ import annotations

import warnings

import pytest
import torch

from scanside.doctor import accelerator
from scanside.doctor.accelerator import check_accelerators
from scanside.doctor.check import Check


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


@pytest.mark.cuda
def test_gpu() -> None:
    checks = by_name()
    assert checks["CUDA device 0"].status == "ok"
    assert torch.cuda.get_device_properties(0).name in checks["CUDA device 0"].found
    assert "NVIDIA driver" in checks
