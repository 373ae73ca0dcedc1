"""Packages and stages."""

from __future__ import annotations

from importlib.metadata import version

import pytest

from scanside.doctor import software as module
from scanside.doctor.check import Check
from scanside.doctor.software import check_software


def by_name() -> dict[str, Check]:
    return {check.name: check for check in check_software()}


def test_versions_are_told() -> None:
    checks = by_name()
    assert checks["numpy"] == Check("numpy", "ok", version("numpy"))
    assert checks["torch"] == Check("torch", "ok", version("torch"))


def test_missing_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    real = module.find_spec
    monkeypatch.setattr(module, "find_spec", lambda name: None if name == "matplotlib" else real(name))
    check = by_name()["matplotlib"]
    assert (check.status, check.advice) == ("missing", "pip install --upgrade 'scanside[report]'")


def test_missing_base(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "installed", lambda name: None if name == "h5py" else "99")
    assert by_name()["h5py"].status == "problem"


@pytest.mark.parametrize("package", ["numpy", "torch"])
def test_too_old(monkeypatch: pytest.MonkeyPatch, package: str) -> None:
    monkeypatch.setattr(module, "installed", lambda name: "1.1" if name == package else "99")
    check = by_name()[package]
    assert check.status == "problem"
    assert "1.1, expected >=" in check.found
