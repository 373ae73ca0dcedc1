"""What lies in a folder of a data set: files, subjects, shapes, and what is wrong with any of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from scanside.datasets.image_file import ImageFile
from scanside.datasets.opening import (
    IMAGE_DATASETS,
    companion_of,
    image_dataset_of,
    open_image_file,
    open_scan_file,
)
from scanside.errors import ConfigError, FileFormatError, MissingExtra

__all__ = ["CheckedFile", "FolderCheck", "check_folder"]

_SUFFIXES = (".h5", ".mat", ".cfl", ".hdr")
"""Of files of k-space; those of images are recognised by more than their suffix."""


@dataclass(frozen=True)
class CheckedFile:
    """One file.

    Attributes:
        path: relative to the folder.
        dataset: that it is of; None where it is of none, or broken.
        subject: whose it is; empty of files without images, such as masks.
        n_images: how many it holds.
        shape: (coil, k1, k0) of its first image, or (row, column) of magnitudes; empty of files without images.
        facts: what it says of itself, and its labels.
        problem: what is wrong with it; None where nothing is.
    """

    path: Path
    dataset: str | None = None
    subject: str = ""
    n_images: int = 0
    shape: tuple[int, ...] = ()
    facts: tuple[tuple[str, str], ...] = ()
    problem: str | None = None


@dataclass(frozen=True)
class FolderCheck:
    """All files of a folder.

    Attributes:
        folder: the folder.
        files: in the order of their names.
    """

    folder: Path
    files: tuple[CheckedFile, ...]

    @property
    def datasets(self) -> Counter[str]:
        """Files by data set."""
        return Counter(one.dataset for one in self.files if one.dataset is not None)

    @property
    def broken(self) -> tuple[CheckedFile, ...]:
        """Files that cannot be used."""
        return tuple(one for one in self.files if one.problem is not None)

    def subjects(self, dataset: str) -> frozenset[str]:
        """Whose files of a data set there are."""
        return frozenset(one.subject for one in self.files if one.dataset == dataset and one.subject)

    def n_images(self, dataset: str) -> int:
        """How many images there are of a data set."""
        return sum(one.n_images for one in self.files if one.dataset == dataset)

    def shapes(self, dataset: str) -> Counter[tuple[int, ...]]:
        """Files of a data set by (coil, k1, k0) or (row, column)."""
        return Counter(one.shape for one in self.files if one.dataset == dataset and one.shape)


def check_folder(
    folder: Path, name: str | None = None, progress: Callable[[int, int | None], None] | None = None
) -> FolderCheck:
    """Open every file below a folder, and read its first image.

    Args:
        folder: the folder.
        name: of the data set; by default each file's own.
        progress: told how many files are done, and how many there are.

    Raises:
        ConfigError: there is no such folder, data set, or no file that could be of one.
    """
    if not folder.is_dir():
        raise ConfigError(f"{folder} is no folder")
    paths = sorted(path for path in folder.rglob("*") if _is_looked_into(path, name))
    problems = list(_table_problems(folder, name))
    if not paths and not problems:
        known = [*_SUFFIXES, *(suffix for kind in _image_kinds(None) for suffix in kind.SUFFIXES)]
        raise ConfigError(
            f"{folder} holds no file of a data set ({', '.join('*' + suffix for suffix in known)})"
        )
    return FolderCheck(folder, (*_checked(paths, folder, name, progress), *problems))


def _image_kinds(name: str | None) -> list[type[ImageFile]]:
    """All that may be meant by a data set's name."""
    return [IMAGE_DATASETS.load(known) for known in IMAGE_DATASETS.names() if name in (None, known)]


def _is_looked_into(path: Path, name: str | None) -> bool:
    if not path.is_file():
        return False
    if path.suffix in _SUFFIXES and name not in IMAGE_DATASETS.names():
        # The pair of BART's files counts once.
        return path.suffix != ".hdr" or not path.with_suffix(".cfl").exists()
    return any(kind.recognises(path) for kind in _image_kinds(name))


def _table_problems(folder: Path, name: str | None) -> Iterator[CheckedFile]:
    for kind in _image_kinds(name):
        for path, problem in kind.table_problems(folder):
            yield CheckedFile(path, problem=problem)


def _checked(
    paths: list[Path], folder: Path, name: str | None, progress: Callable[[int, int | None], None] | None
) -> Iterator[CheckedFile]:
    for done, path in enumerate(paths, start=1):
        yield _looked_into(path, path.relative_to(folder), name)
        if progress is not None:
            progress(done, len(paths))


def _looked_into(path: Path, below: Path, name: str | None) -> CheckedFile:
    if name in IMAGE_DATASETS.names() or (name is None and image_dataset_of(path) is not None):
        return _images_looked_into(path, below, name)
    try:
        with open_scan_file(path, name) as file:
            shape = file.measured(file.places[0]).kspace.shape
            facts, defect = tuple(file.facts.items()), file.facts.get("defect")
            return CheckedFile(below, file.FORMAT, file.subject, len(file.places), shape, facts, defect)
    except FileFormatError as error:
        if (companion := companion_of(path)) is not None:
            return CheckedFile(below, companion)
        return CheckedFile(below, problem=str(error).removeprefix(f"{path}: "))


def _images_looked_into(path: Path, below: Path, name: str | None) -> CheckedFile:
    try:
        with open_image_file(path, name) as file:
            shape = file.image(file.places[0]).shape
            facts = file.facts | {label: str(value) for label, value in file.labels.items()}
            return CheckedFile(
                below, file.FORMAT, file.subject, len(file.places), shape, tuple(facts.items())
            )
    except (FileFormatError, MissingExtra) as error:
        return CheckedFile(below, problem=str(error).removeprefix(f"{path}: "))
