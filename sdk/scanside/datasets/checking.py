"""What lies in a folder of a data set: files, subjects, shapes, and what is wrong with any of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from scanside.datasets.opening import companion_of, open_scan_file
from scanside.errors import ConfigError, FileFormatError

__all__ = ["CheckedFile", "FolderCheck", "check_folder"]

_SUFFIXES = (".h5", ".mat")


@dataclass(frozen=True)
class CheckedFile:
    """One file.

    Attributes:
        path: relative to the folder.
        dataset: that it is of; None where it is of none, or broken.
        subject: whose it is; empty of files without k-space, such as masks.
        n_images: how many it holds.
        shape: (coil, k1, k0) of its first image; empty of files without k-space.
        facts: what it says of itself.
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
        """Files of a data set by (coil, k1, k0)."""
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
    paths = sorted(path for path in folder.rglob("*") if path.suffix in _SUFFIXES)
    if not paths:
        raise ConfigError(f"{folder} holds no file {' or '.join('*' + suffix for suffix in _SUFFIXES)}")
    return FolderCheck(folder, tuple(_checked(paths, folder, name, progress)))


def _checked(
    paths: list[Path], folder: Path, name: str | None, progress: Callable[[int, int | None], None] | None
) -> Iterator[CheckedFile]:
    for done, path in enumerate(paths, start=1):
        yield _looked_into(path, path.relative_to(folder), name)
        if progress is not None:
            progress(done, len(paths))


def _looked_into(path: Path, below: Path, name: str | None) -> CheckedFile:
    try:
        with open_scan_file(path, name) as file:
            shape = file.measured(file.places[0]).kspace.shape
            facts, defect = tuple(file.facts.items()), file.facts.get("defect")
            return CheckedFile(below, file.FORMAT, file.subject, len(file.places), shape, facts, defect)
    except FileFormatError as error:
        if (companion := companion_of(path)) is not None:
            return CheckedFile(below, companion)
        return CheckedFile(below, problem=str(error).removeprefix(f"{path}: "))
