"""Engines that come with a bundle are taken where they were built for, and built again elsewhere."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from scanside.engines.backends.onnxruntime import OnnxRuntime
from scanside.engines.backends.openvino import OpenVino
from scanside.engines.build import BundleSource, Workshop
from scanside.engines.bundle import Bundle, BundleWriter, sign_bundle
from scanside.engines.cache import EngineCache
from scanside.engines.choice import Candidate
from scanside.engines.signing import generate_key
from scanside.engines.trust import TrustPolicy

Find = Callable[[], tuple[Candidate, list[str]]]


@pytest.fixture
def find(bundle_folder: Path, tmp_path: Path, bundle_fields: Callable[..., dict[str, Any]]) -> Find:
    """Looks for an engine of a signed bundle that brings one for this machine; its cache is empty."""
    if reason := OnnxRuntime().buildable():
        pytest.skip(reason)

    def candidate(bundle: Bundle, cache: Path) -> tuple[Candidate, list[str]]:
        said: list[str] = []
        workshop = Workshop(BundleSource(bundle, (64, 64)), EngineCache(cache), said.append)
        (one,) = workshop.candidates(("onnxruntime",), "fp32")
        return one, said

    built, _ = candidate(Bundle.open(bundle_folder), tmp_path / "where it was built")
    assert built.accepted
    assert built.entry is not None
    with BundleWriter(tmp_path / "signed") as writer:
        for name in ("graph.pt2", "vectors.safetensors", "weights.safetensors"):
            shutil.copy(bundle_folder / name, writer.path(name))
        for file in built.entry.folder.iterdir():
            shutil.copy(file, writer.path(f"engines/{built.entry.key.digest}/{file.name}"))
        writer.finish(**bundle_fields())
    private, public, _ = generate_key(tmp_path / "keys", "site")
    sign_bundle(tmp_path / "signed", private)
    trusted = tmp_path / "trusted"
    trusted.mkdir(mode=0o700)
    shutil.copy(public, trusted)
    bundle = Bundle.open(tmp_path / "signed", TrustPolicy(require_signature=True, keys=trusted))
    return lambda: candidate(bundle, tmp_path / "here")


def test_without_cases_to_calibrate_with_there_is_no_int8(bundle_folder: Path, tmp_path: Path) -> None:
    if reason := OpenVino().available():
        pytest.skip(reason)
    workshop = Workshop(BundleSource(Bundle.open(bundle_folder), (64, 64)), EngineCache(tmp_path / "cache"))
    (one,) = workshop.candidates(("openvino",), "int8")
    assert one.entry is None
    assert not one.postponed
    assert "no cases to take ranges from" in one.reason or "pip install" in one.reason


def another_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("scanside.engines.backends.base.cpu_fingerprint", lambda: "cpu another")


def cannot_build(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(OnnxRuntime, "buildable", lambda _: "there is no converter")


def test_taken_where_it_was_built_for_and_judged_there(find: Find, monkeypatch: pytest.MonkeyPatch) -> None:
    cannot_build(monkeypatch)
    found, said = find()
    assert found.accepted
    assert said == ["checking onnxruntime fp32 at 64×64"]


def test_built_again_on_another_machine(find: Find, monkeypatch: pytest.MonkeyPatch) -> None:
    another_machine(monkeypatch)
    found, said = find()
    assert found.accepted
    assert said == [
        "building onnxruntime fp32 at 64×64; those that came with the bundle are for other machines, versions or "
        "sizes",
        "checking onnxruntime fp32 at 64×64",
    ]


def test_absent_on_another_machine_that_cannot_build(find: Find, monkeypatch: pytest.MonkeyPatch) -> None:
    another_machine(monkeypatch)
    cannot_build(monkeypatch)
    found, said = find()
    assert found.entry is None
    assert said == []
    assert found.reason == (
        "there is no converter; those that came with the bundle are for other machines, versions or sizes"
    )
