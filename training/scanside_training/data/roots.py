"""Where the image data lie."""

from __future__ import annotations

import os
from pathlib import Path

from scanside.errors import ConfigError

__all__ = ["data_file", "data_root"]


def data_root(root: Path | None) -> Path:
    """The folder of all data: the one that is named, else ``$SCANSIDE_DATA``, else ``../shared/data``."""
    return root or Path(os.environ.get("SCANSIDE_DATA", "../shared/data"))


def data_file(root: Path | None, relative: str) -> Path:
    """A file below the root.

    Raises:
        ConfigError: it is not there.
    """
    path = data_root(root) / relative
    if not path.exists():
        raise ConfigError(
            f"{path} does not exist: name the folder that holds {relative.partition('/')[0]} as `root`, "
            "or in the environment variable SCANSIDE_DATA"
        )
    return path
