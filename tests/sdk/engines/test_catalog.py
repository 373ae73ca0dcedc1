"""Finding bundles."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from scanside.engines import catalog
from scanside.engines.catalog import available_bundles, find_bundle
from scanside.errors import BundleNotFound


@pytest.fixture
def folders(bundle_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    """A folder of the site with `tiny` and `other`, and a shipped one with `tiny` and `student`."""
    site, shipped = bundle_folder.parent, tmp_path / "shipped"
    shutil.copytree(bundle_folder, site / "other")
    shutil.copytree(bundle_folder, site / ".tiny.half-written")
    shutil.copytree(bundle_folder, shipped / "tiny")
    shutil.copytree(bundle_folder, shipped / "student")
    (site / "no-bundle").mkdir()
    monkeypatch.setenv("SCANSIDE_ENGINES", os.pathsep.join([str(tmp_path / "missing"), str(site)]))
    monkeypatch.setattr(catalog, "_SHIPPED", shipped)
    return site, shipped


def test_site_comes_before_shipped(folders: tuple[Path, Path]) -> None:
    site, shipped = folders
    expected = {"other": site / "other", "student": shipped / "student", "tiny": site / "tiny"}
    assert available_bundles() == expected
    assert find_bundle("tiny") == site / "tiny"


def test_any_bundle_by_its_path(folders: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    _, shipped = folders
    assert find_bundle(str(shipped / "tiny")) == shipped / "tiny"
    assert find_bundle(shipped / "tiny") == shipped / "tiny"
    monkeypatch.chdir(shipped)
    assert find_bundle("./student") == Path("student")


def test_near_misses_are_named(folders: tuple[Path, Path]) -> None:
    with pytest.raises(BundleNotFound, match=r"did you mean 'student'\? known are other, student, tiny"):
        find_bundle("studnet")
    with pytest.raises(BundleNotFound, match="named 'xyzzy': known are"):
        find_bundle("xyzzy")


def test_folder_beside_is_told_from_a_name(
    folders: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    _, shipped = folders
    shutil.copytree(shipped / "tiny", shipped / "mine")
    monkeypatch.setattr(catalog, "_SHIPPED", shipped / "nothing")
    monkeypatch.chdir(shipped)
    with pytest.raises(BundleNotFound, match=r"for the one in this folder, write \./mine"):
        find_bundle("mine")


def test_paths_without_a_bundle_say_why(tmp_path: Path) -> None:
    with pytest.raises(BundleNotFound, match=r"it has no manifest\.json"):
        find_bundle(tmp_path)
    with pytest.raises(BundleNotFound, match="there is no such folder"):
        find_bundle(tmp_path / "nothing")
