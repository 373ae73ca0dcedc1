"""A learned stage takes the bundle that it is pinned to, and notices when another one lies there."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from scanside import Context
from scanside.engines.bundle import replace_manifest
from scanside.engines.catalog import manifest_sha256
from scanside.errors import BundleNotFound
from scanside.stages.engine import RunEngine
from scanside.testing import small_kspace, small_scan


@pytest.fixture
def folder(learned_bundles: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(learned_bundles / "gradient", tmp_path / "gradient"))


def prepared(bundle: object) -> RunEngine:
    stage = RunEngine(bundle=str(bundle), backend="eager", n_coils=(4,))
    stage.prepare(Context(device="cpu"))
    return stage


def images(stage: RunEngine) -> list[Any]:
    stage.open(small_scan())
    try:
        return list(stage.process(small_kspace(coil_maps=True)))
    finally:
        stage.close()


def test_pinned_bundle_is_taken(folder: Path) -> None:
    (image,) = images(prepared(f"{folder}@sha256:{manifest_sha256(folder)[:16]}"))
    assert image.meta.first("ScansideEngine") == "gradient"


def test_another_bundle_is_refused_before_any_scan(folder: Path) -> None:
    pinned = f"{folder}@sha256:{manifest_sha256(folder)}"
    replace_manifest(folder, version="6.6.6")
    with pytest.raises(BundleNotFound, match=r"pinned to sha256:.*which is not here: .* is sha256:"):
        prepared(pinned)


def test_replaced_bundle_is_noticed_and_the_session_goes_on(folder: Path) -> None:
    stage = prepared(folder)
    assert stage.outdated() == []
    (before,) = images(stage)
    replace_manifest(folder, version="6.6.6")
    (told,) = stage.outdated()
    assert manifest_sha256(folder)[:16] in told
    (after,) = images(stage)
    assert after.meta["ScansideEngine"] == before.meta["ScansideEngine"] == ["gradient", "1.0.0"]
    assert prepared(folder).outdated() == []
    shutil.rmtree(folder)
    assert "no such folder" in stage.outdated()[0]
