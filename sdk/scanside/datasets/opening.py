"""Which data set a file is of."""

from __future__ import annotations

from pathlib import Path

from scanside.datasets.scan_file import ScanFile
from scanside.errors import FileFormatError
from scanside.registry import Registry

__all__ = ["DATASETS", "companion_of", "open_scan_file"]

DATASETS: Registry[ScanFile] = Registry(
    "scanside.datasets",
    "data set",
    ScanFile,  # type: ignore[type-abstract]  # its subclasses are looked for
    "scanside.datasets.ScanFile",
)
"""All that are known, by name."""


def open_scan_file(path: Path, name: str | None = None) -> ScanFile:
    """Open a file of a data set.

    Args:
        path: the file.
        name: of the data set; by default the one that the file looks like.

    Raises:
        ConfigError: there is no data set of that name.
        FileFormatError: the file looks like none, or breaks a rule of its data set.
        FileNotFoundError: there is no such file.
    """
    if not path.exists():
        raise FileNotFoundError(f"{path} does not exist")
    if name is not None:
        return DATASETS.load(name)(path)
    for known in DATASETS.names():
        found = DATASETS.load(known)
        if found.recognises(path):
            return found(path)
    raise FileFormatError(
        f"{path} looks like a file of no data set that is known ({', '.join(DATASETS.names())})"
    )


def companion_of(path: Path) -> str | None:
    """The data set that a file without k-space is of by its name; None where it is of none."""
    return next((name for name in DATASETS.names() if DATASETS.load(name).accompanies(path)), None)
