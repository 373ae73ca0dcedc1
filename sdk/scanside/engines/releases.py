"""Releases of a bundle side by side, and which of them is the current one.

::

    ENGINES/brain-student                       link to the current release
    ENGINES/.releases/brain-student/1.2.0-4f2a9c01b7de/
    ENGINES/.releases/brain-student/1.3.0-90aa51c3d2e4/
    ENGINES/.releases/brain-student/history.jsonl

Going back is turning the link, in one step: whoever opens the bundle has the one release or the other, and who has
one open keeps it, as its folder stays what it is.
"""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path

from scanside.append_log import AppendLog
from scanside.engines.bundle import Bundle
from scanside.engines.catalog import RELEASES_FOLDER, bundle_folders, manifest_sha256
from scanside.engines.manifest import MANIFEST_FILE, Manifest
from scanside.engines.trust import TrustPolicy
from scanside.errors import BundleError, BundleNotFound, ConfigError

__all__ = ["Release", "install", "releases", "rollback", "site_folder"]

_SHIPPED = "shipped"
"""In the history: no release of the site, but the one that comes with Scanside or lies in a later folder."""


@dataclass(frozen=True, slots=True)
class Release:
    """One release of a bundle.

    Attributes:
        name: of the bundle.
        version: of the bundle.
        sha256: of its manifest; pipelines are pinned to it.
        weights_sha256: of its weights; images name it.
        folder: where it is.
        current: whether its name finds it now.
    """

    name: str
    version: str
    sha256: str
    weights_sha256: str
    folder: Path
    current: bool

    @property
    def pinned_name(self) -> str:
        """What a pipeline writes to take this release and no other."""
        return f"{self.name}@sha256:{self.sha256[:16]}"


def site_folder() -> Path:
    """The folder of the site's own bundles: the first in ``SCANSIDE_ENGINES``.

    Raises:
        ConfigError: the site has named none.
    """
    first = os.environ.get("SCANSIDE_ENGINES", "").split(os.pathsep)[0]
    if not first:
        raise ConfigError(
            "the site has named no folder for its bundles: set SCANSIDE_ENGINES to one, or give --into"
        )
    return Path(first)


def install(source: Path, site: Path | None = None, policy: TrustPolicy | None = None) -> Release:
    """Copy a bundle beside the other releases of its name and make it the current one.

    Args:
        source: the bundle's folder.
        site: where bundles are; by default `site_folder`.
        policy: what is asked of it.

    Raises:
        BundleError: it is not whole.
        SignatureError: it lacks the signature that the policy asks for.
        ConfigError: the site has named no folder.
    """
    site = site or site_folder()
    bundle = Bundle.open(source, policy)
    kept = site / RELEASES_FOLDER / bundle.name
    kept.mkdir(parents=True, exist_ok=True)
    _adopt(site, bundle.name, kept)
    folder = _release_folder(kept, bundle.manifest, bundle.sha256)
    if manifest_sha256(folder) != bundle.sha256:
        draft = Path(tempfile.mkdtemp(dir=kept, prefix=".draft."))
        try:
            shutil.copytree(source, draft / "bundle", symlinks=True)
            if Bundle.open(draft / "bundle", policy).sha256 != bundle.sha256:
                raise BundleError(f"{source} was changed while it was copied: install it again")
            draft.chmod(0o755)
            (draft / "bundle").replace(folder)
        finally:
            shutil.rmtree(draft)
    _turn(site, bundle.name, folder)
    _history(kept).append(_event("install", bundle.sha256))
    return _release(folder, bundle.sha256)


def releases(name: str, site: Path | None = None) -> list[Release]:
    """All installed releases of a bundle, the one that was installed first before the others.

    Raises:
        BundleNotFound: none of this name was installed there.
        ConfigError: the site has named no folder.
    """
    site = site or site_folder()
    kept = site / RELEASES_FOLDER / name
    folders = [path.parent for path in kept.glob(f"[!.]*/{MANIFEST_FILE}")]
    if not folders:
        raise BundleNotFound(
            f"no release of '{name}' was installed in {site}: 'scanside engines install FOLDER' does that"
        )
    current = manifest_sha256(site / name)
    order = [str(event["sha256"]) for event in _history(kept).records()]
    found = [_release(folder, current) for folder in folders]
    return sorted(
        found, key=lambda one: (order.index(one.sha256) if one.sha256 in order else -1, one.version)
    )


def rollback(name: str, site: Path | None = None, to: str | None = None) -> Release:
    """Make the release current that was so before the present one.

    Args:
        name: of the bundle.
        site: where bundles are; by default `site_folder`.
        to: another release: its version, or the first digits of its hash.

    Returns:
        The release that is current now; the one that comes with Scanside, where the site had none before.

    Raises:
        BundleNotFound: there is no such release.
        BundleError: the release is no longer whole; the present one stays.
        ConfigError: the site has named no folder, or more than one release is meant.
    """
    site = site or site_folder()
    installed = releases(name, site)
    kept = site / RELEASES_FOLDER / name
    sha256 = _meant(installed, to) if to is not None else _before(kept, installed)
    if sha256 == _SHIPPED:
        below = [folder / name for folder in bundle_folders() if folder != site]
        shipped = next((folder for folder in below if (folder / MANIFEST_FILE).is_file()), None)
        if shipped is None:
            raise BundleNotFound(
                f"there was no other release of '{name}' before this one: install one, or name one of "
                f"{', '.join(one.version for one in installed)} with --to"
            )
        (site / name).unlink(missing_ok=True)
        _history(kept).append(_event("rollback", _SHIPPED))
        return _release(shipped, manifest_sha256(shipped))
    (release,) = (one for one in installed if one.sha256 == sha256)
    Bundle.open(release.folder)
    _turn(site, name, release.folder)
    _history(kept).append(_event("rollback", sha256))
    return _release(release.folder, sha256)


def _before(kept: Path, installed: list[Release]) -> str:
    """Hash of the release that was current before the present one."""
    there = {one.sha256 for one in installed}
    stack = [_SHIPPED]
    for event in _history(kept).records():
        sha256 = str(event["sha256"])
        if sha256 in stack and event["action"] == "rollback":
            del stack[stack.index(sha256) + 1 :]
        elif sha256 != stack[-1]:
            stack.append(sha256)
    *earlier, _ = stack
    return next((one for one in reversed(earlier) if one in there or one == _SHIPPED), _SHIPPED)


def _meant(installed: list[Release], to: str) -> str:
    found = [
        one for one in installed if one.version == to or one.sha256.startswith(to.removeprefix("sha256:"))
    ]
    known = ", ".join(f"{one.version} (sha256:{one.sha256[:12]})" for one in installed)
    if not found:
        raise BundleNotFound(f"no release '{to}' is installed; there are {known}")
    if len(found) > 1:
        raise ConfigError(f"'{to}' may be more than one of {known}: name it by its hash")
    return found[0].sha256


def _adopt(site: Path, name: str, kept: Path) -> None:
    """A bundle that was put there by hand becomes a release like the others."""
    place = site / name
    if place.is_symlink() or not (place / MANIFEST_FILE).is_file():
        return
    bundle = Bundle.open(place)
    folder = _release_folder(kept, bundle.manifest, bundle.sha256)
    if folder.exists():
        shutil.rmtree(place)
    else:
        place.replace(folder)
    _turn(site, name, folder)
    _history(kept).append(_event("install", bundle.sha256))


def _release_folder(kept: Path, manifest: Manifest, sha256: str) -> Path:
    version = re.sub(r"[^A-Za-z0-9.]", "_", manifest.version)
    return kept / f"{version}-{sha256[:12]}"


def _release(folder: Path, current: str) -> Release:
    text = (folder / MANIFEST_FILE).read_bytes()
    manifest, sha256 = Manifest.from_bytes(text, str(folder / MANIFEST_FILE)), manifest_sha256(folder)
    return Release(
        manifest.name, manifest.version, sha256, manifest.weights_sha256, folder, current=sha256 == current
    )


def _turn(site: Path, name: str, folder: Path) -> None:
    """Make the link to the current release lead to a folder, in one step."""
    with tempfile.TemporaryDirectory(dir=site, prefix=f".{name}.") as aside:
        link = Path(aside) / name
        link.symlink_to(folder.relative_to(site))
        link.replace(site / name)


def _history(kept: Path) -> AppendLog:
    return AppendLog(kept / "history.jsonl")


def _event(action: str, sha256: str) -> dict[str, str]:
    now = datetime.now(timezone.utc).isoformat(timespec="seconds")
    return {"time": now, "action": action, "sha256": sha256}
