"""Releases lie side by side; pins hold, and going back is one step."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from scanside.engines import catalog
from scanside.engines.bundle import Bundle, replace_manifest
from scanside.engines.catalog import find_bundle, manifest_sha256, split_pin
from scanside.engines.releases import install, releases, rollback, site_folder
from scanside.engines.trust import TrustPolicy
from scanside.errors import BundleError, BundleNotFound, ConfigError, SignatureError


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "site"
    folder.mkdir()
    monkeypatch.setenv("SCANSIDE_ENGINES", str(folder))
    monkeypatch.setattr(catalog, "_SHIPPED", tmp_path / "shipped")
    return folder


@pytest.fixture
def made(bundle_folder: Path, tmp_path: Path) -> dict[str, Path]:
    """The same bundle in three versions."""
    made = {}
    for version in ("1.0.0", "1.1.0", "2.0.0"):
        made[version] = Path(shutil.copytree(bundle_folder, tmp_path / "made" / version / "tiny"))
        replace_manifest(made[version], version=version)
    return made


def current(site: Path) -> str:
    return Bundle.open(find_bundle("tiny")).manifest.version


def test_install_and_go_back(site: Path, made: dict[str, Path]) -> None:
    for version, folder in made.items():
        release = install(folder)
        assert (release.version, release.current) == (version, True)
        assert current(site) == version
    found = releases("tiny")
    assert [(one.version, one.current) for one in found] == [
        ("1.0.0", False),
        ("1.1.0", False),
        ("2.0.0", True),
    ]
    assert len({one.sha256 for one in found}) == 3
    assert rollback("tiny").version == current(site) == "1.1.0"
    assert rollback("tiny").version == current(site) == "1.0.0"
    with pytest.raises(BundleNotFound, match="no other release"):
        rollback("tiny")
    assert current(site) == "1.0.0"
    assert rollback("tiny", to="2.0.0").version == current(site) == "2.0.0"
    assert rollback("tiny").version == "1.0.0"
    install(made["1.1.0"])
    install(made["1.1.0"])
    assert rollback("tiny").version == "1.0.0"


def test_below_the_site_lies_what_is_shipped(site: Path, made: dict[str, Path], tmp_path: Path) -> None:
    shutil.copytree(made["1.0.0"], tmp_path / "shipped" / "tiny")
    install(made["2.0.0"])
    assert rollback("tiny").folder == tmp_path / "shipped" / "tiny"
    assert current(site) == "1.0.0"
    assert rollback("tiny", to="2.0.0").current
    assert current(site) == "2.0.0"


def test_bundle_that_was_put_there_by_hand_is_a_release(site: Path, made: dict[str, Path]) -> None:
    shutil.copytree(made["1.0.0"], site / "tiny")
    install(made["2.0.0"])
    assert [one.version for one in releases("tiny")] == ["1.0.0", "2.0.0"]
    assert rollback("tiny").version == "1.0.0"


def test_who_has_one_open_keeps_it(site: Path, made: dict[str, Path]) -> None:
    install(made["1.0.0"])
    bundle = Bundle.open(find_bundle("tiny"))
    install(made["2.0.0"])
    assert bundle.read("weights.safetensors")
    assert Bundle.open(bundle.folder).manifest.version == "1.0.0"


def test_damaged_release_does_not_become_current(site: Path, made: dict[str, Path]) -> None:
    old, _ = install(made["1.0.0"]), install(made["2.0.0"])
    (old.folder / "weights.safetensors").write_bytes(b"")
    with pytest.raises(BundleError, match=r"weights\.safetensors has 0 bytes"):
        rollback("tiny")
    assert current(site) == "2.0.0"


def test_only_whole_and_signed_bundles_are_installed(site: Path, made: dict[str, Path]) -> None:
    with pytest.raises(SignatureError, match="not signed"):
        install(made["1.0.0"], policy=TrustPolicy(require_signature=True))
    (made["1.0.0"] / "graph.pt2").unlink()
    with pytest.raises(BundleError, match="is missing"):
        install(made["1.0.0"])
    assert list(site.iterdir()) == []


def test_what_is_not_there_is_said(
    site: Path, made: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(BundleNotFound, match="no release of 'tiny' was installed"):
        releases("tiny")
    install(made["1.0.0"])
    with pytest.raises(BundleNotFound, match=r"no release '3' is installed; there are 1\.0\.0"):
        rollback("tiny", to="3")
    monkeypatch.delenv("SCANSIDE_ENGINES")
    with pytest.raises(ConfigError, match="SCANSIDE_ENGINES"):
        site_folder()


# Pins


def test_pin_takes_its_release_whichever_is_current(site: Path, made: dict[str, Path]) -> None:
    old, new = install(made["1.0.0"]), install(made["2.0.0"])
    assert Bundle.open(find_bundle(old.pinned_name)).manifest.version == "1.0.0"
    assert Bundle.open(find_bundle(new.pinned_name)).manifest.version == "2.0.0"
    by_path = f"{site}/tiny@sha256:{old.sha256}"
    assert Bundle.open(find_bundle(by_path)).sha256 == old.sha256


def test_pin_refuses_another_bundle_and_says_what_is_there(site: Path, made: dict[str, Path]) -> None:
    there = install(made["1.0.0"])
    wanted = manifest_sha256(made["2.0.0"])
    with pytest.raises(BundleNotFound) as caught:
        find_bundle(f"tiny@sha256:{wanted}")
    for part in (wanted[:16], there.sha256[:16], str(there.folder), "scanside engines install"):
        assert part in str(caught.value)


def test_changed_weights_change_the_pin(site: Path, made: dict[str, Path]) -> None:
    """The pin is of the manifest, and the manifest vouches for every file."""
    folder = made["1.0.0"]
    name = f"{folder}@sha256:{manifest_sha256(folder)}"
    data = bytearray((folder / "weights.safetensors").read_bytes())
    data[-1] ^= 1
    (folder / "weights.safetensors").write_bytes(data)
    with pytest.raises(BundleError, match="was changed"):
        Bundle.open(find_bundle(name))


@pytest.mark.parametrize(
    "text", ["tiny@sha256:", "tiny@sha256:12345", "tiny@sha256:" + "A" * 12, "@sha256:" + "a" * 12]
)
def test_pin_that_is_none(text: str) -> None:
    with pytest.raises(ConfigError, match="12 to 64 hexadecimal digits"):
        split_pin(text)
