"""Which data set a file is of."""

from __future__ import annotations

from pathlib import Path

from scanside.datasets.image_file import ImageFile
from scanside.datasets.scan_file import ScanFile
from scanside.errors import FileFormatError
from scanside.registry import Registry

__all__ = [
    "DATASETS",
    "IMAGE_DATASETS",
    "SCAN_FILE_SUFFIXES",
    "companion_of",
    "dataset_of",
    "image_dataset_of",
    "open_image_file",
    "open_scan_file",
]

SCAN_FILE_SUFFIXES = (".h5", ".mat", ".cfl")
"""What names of files with k-space end in, of BART's pairs those that hold it. Files of images are recognised by more
than their names."""

DATASETS: Registry[ScanFile] = Registry(
    "scanside.datasets",
    "data set",
    ScanFile,  # type: ignore[type-abstract]  # its subclasses are looked for
    "scanside.datasets.ScanFile",
)
"""All that have k-space, by name."""

IMAGE_DATASETS: Registry[ImageFile] = Registry(
    "scanside.image_datasets",
    "data set of images",
    ImageFile,  # type: ignore[type-abstract]  # its subclasses are looked for
    "scanside.datasets.ImageFile",
)
"""All that have magnitude images only, by name."""


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
    if (known := dataset_of(path)) is not None:
        return DATASETS.load(known)(path)
    raise FileFormatError(
        f"{path} looks like a file of no data set that is known ({', '.join(DATASETS.names())})"
    )


def open_image_file(path: Path, name: str | None = None) -> ImageFile:
    """Open a file of magnitude images.

    Args:
        path: the file.
        name: of the data set; by default the one that the file looks like.

    Raises:
        ConfigError: there is no data set of that name.
        FileFormatError: the file looks like none, or breaks a rule of its data set.
        FileNotFoundError: there is no such file.
        MissingExtra: a package that reads it is not installed.
    """
    if not path.exists():
        raise FileNotFoundError(f"{path} does not exist")
    known = name or image_dataset_of(path)
    if known is None:
        raise FileFormatError(
            f"{path} looks like a file of no data set of images that is known ({', '.join(IMAGE_DATASETS.names())})"
        )
    return IMAGE_DATASETS.load(known)(path)


def dataset_of(path: Path) -> str | None:
    """The data set of k-space that a file looks like; None where it looks like none, or is no file."""
    if not path.is_file():
        return None
    return next((name for name in DATASETS.names() if DATASETS.load(name).recognises(path)), None)


def image_dataset_of(path: Path) -> str | None:
    """The data set of magnitude images that a file looks like; None where it looks like none, or is no file."""
    if not path.is_file():
        return None
    return next((name for name in IMAGE_DATASETS.names() if IMAGE_DATASETS.load(name).recognises(path)), None)


def companion_of(path: Path) -> str | None:
    """The data set that a file without k-space is of by its name; None where it is of none."""
    return next((name for name in DATASETS.names() if DATASETS.load(name).accompanies(path)), None)
