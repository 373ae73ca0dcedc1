"""Where bundles are: those that come with Scanside, those in folders of the site, and any by its path.

A name or path may be pinned to one bundle: ``brain-student@sha256:4f2a…``, with at least twelve digits of the hash
of its manifest, which vouches for all other files. A pinned name finds that bundle among all installed releases,
whichever of them is the current one, and no other.
"""

from __future__ import annotations

import hashlib
import os
import re
from difflib import get_close_matches
from pathlib import Path

from scanside.engines.manifest import MANIFEST_FILE
from scanside.errors import BundleNotFound, ConfigError
from scanside.texts import shown

__all__ = ["RELEASES_FOLDER", "available_bundles", "find_bundle", "manifest_sha256", "split_pin"]

RELEASES_FOLDER = ".releases"
"""Where a folder of bundles keeps all installed releases of each, in ``NAME/RELEASE``."""

_PINNED = re.compile(r"(?P<name>.+)@sha256:(?P<digits>[0-9a-f]{12,64})")
_SHIPPED = Path(__file__).parent / "shipped"


def bundle_folders() -> list[Path]:
    """Folders that hold bundles: those in ``SCANSIDE_ENGINES``, in order, then the one that comes with Scanside."""
    named = os.environ.get("SCANSIDE_ENGINES", "").split(os.pathsep)
    return [*(Path(folder) for folder in named if folder), _SHIPPED]


def available_bundles() -> dict[str, Path]:
    """Bundles by the name of their folder; of two with one name, the first by `bundle_folders`. None is opened."""
    found: dict[str, Path] = {}
    for folder in bundle_folders():
        for manifest in sorted(folder.glob(f"[!.]*/{MANIFEST_FILE}")):
            found.setdefault(manifest.parent.name, manifest.parent)
    return dict(sorted(found.items()))


def split_pin(text: str) -> tuple[str, str | None]:
    """A name or path, and the first digits of the hash that it is pinned to, if it is.

    Raises:
        ConfigError: what follows the ``@`` is no such hash.
    """
    if "@sha256:" not in text:
        return text, None
    match = _PINNED.fullmatch(text)
    if match is None:
        raise ConfigError(
            f"{shown(text)} is pinned to no hash: write NAME@sha256:DIGITS with 12 to 64 hexadecimal digits in lower "
            "case, as 'scanside engines pin NAME' prints it"
        )
    return match["name"], match["digits"]


def manifest_sha256(folder: Path) -> str:
    """Hash of a bundle's manifest as it is now; no file is checked. Empty where there is none."""
    try:
        return hashlib.sha256((folder / MANIFEST_FILE).read_bytes()).hexdigest()
    except OSError:
        return ""


def find_bundle(name_or_path: str | Path) -> Path:
    """The folder of a bundle: by its name, or by its path where that holds a separator; either may be pinned.

    Of a release that is the current one by a link, the folder that the link leads to: it stays what it is when
    another becomes the current one.

    Raises:
        BundleNotFound: there is none; says which names there are, and what is near. Or what it is pinned to is not
            there; says what is.
        ConfigError: it is pinned to what is no hash.
    """
    text, pin = split_pin(str(name_or_path))
    is_path = isinstance(name_or_path, Path) or os.sep in text or text in (".", "..")
    found = _by_path(Path(text)) if is_path else _by_name(text)
    if pin is not None:
        found = _pinned(text, pin, found)
    return found.resolve() if found.is_symlink() else found


def _by_path(folder: Path) -> Path:
    if (folder / MANIFEST_FILE).is_file():
        return folder
    why = f"it has no {MANIFEST_FILE}" if folder.is_dir() else "there is no such folder"
    raise BundleNotFound(f"{folder} is no bundle: {why}")


def _by_name(name: str) -> Path:
    bundles = available_bundles()
    if name in bundles:
        return bundles[name]
    if (Path(name) / MANIFEST_FILE).is_file():
        raise BundleNotFound(
            f"there is no bundle named {shown(name)}; for the one in this folder, write ./{name}"
        )
    near = get_close_matches(name, bundles, n=1)
    hint = f"did you mean '{near[0]}'? " if near else ""
    raise BundleNotFound(
        f"there is no bundle named {shown(name)}: {hint}known are {', '.join(bundles) or 'none'}; folders with more "
        "can be named in SCANSIDE_ENGINES, and one bundle by its path"
    )


def _pinned(name: str, pin: str, current: Path) -> Path:
    """The release that a name is pinned to: the current one, or another that is installed."""
    places = [current]
    for folder in (current.parent, *bundle_folders()):
        places += sorted(folder.glob(f"{RELEASES_FOLDER}/{Path(name).name}/[!.]*"))
    hashes = {place: manifest_sha256(place) for place in places}
    for place, sha256 in hashes.items():
        if sha256.startswith(pin):
            return place
    found = "; ".join(f"{place} is sha256:{sha256[:16]}…" for place, sha256 in hashes.items() if sha256)
    raise BundleNotFound(
        f"bundle {shown(name)} is pinned to sha256:{pin[:16]}{'…' * (len(pin) > 16)}, which is not here: {found}. "
        "Install that bundle ('scanside engines install FOLDER'), or change the pin if another one is meant"
    )
