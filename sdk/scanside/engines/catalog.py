"""Where bundles are: those that come with Scanside, those in folders of the site, and any by its path."""

from __future__ import annotations

import os
from difflib import get_close_matches
from pathlib import Path

from scanside.engines.manifest import MANIFEST_FILE
from scanside.errors import BundleNotFound

__all__ = ["available_bundles", "find_bundle"]

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


def find_bundle(name_or_path: str | Path) -> Path:
    """The folder of a bundle: by its name, or by its path where that holds a separator.

    Raises:
        BundleNotFound: there is none; says which names there are, and what is near.
    """
    text = str(name_or_path)
    if isinstance(name_or_path, Path) or os.sep in text or text in (".", ".."):
        folder = Path(name_or_path)
        if (folder / MANIFEST_FILE).is_file():
            return folder
        why = f"it has no {MANIFEST_FILE}" if folder.is_dir() else "there is no such folder"
        raise BundleNotFound(f"{folder} is no bundle: {why}")
    bundles = available_bundles()
    if text in bundles:
        return bundles[text]
    if (Path(text) / MANIFEST_FILE).is_file():
        raise BundleNotFound(f"there is no bundle named '{text}'; for the one in this folder, write ./{text}")
    near = get_close_matches(text, bundles, n=1)
    hint = f"did you mean '{near[0]}'? " if near else ""
    raise BundleNotFound(
        f"there is no bundle named '{text}': {hint}known are {', '.join(bundles) or 'none'}; folders with more can "
        "be named in SCANSIDE_ENGINES, and one bundle by its path"
    )
