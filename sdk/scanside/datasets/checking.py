"""What lies in a folder of a data set: files, subjects, shapes, and what is wrong with any of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from scanside.datasets.bart import is_bart
from scanside.datasets.image_file import ImageFile
from scanside.datasets.opening import (
    DATASETS,
    IMAGE_DATASETS,
    SCAN_FILE_SUFFIXES,
    companion_of,
    open_scan_file,
)
from scanside.errors import ConfigError, FileFormatError, MissingExtra

__all__ = ["CheckedFile", "FolderCheck", "check_folder"]


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
    if name is not None and name not in IMAGE_DATASETS.names():
        DATASETS.load(name)  # refuses what there is not
    # Looked up once: it takes longer than many a file.
    kinds = [IMAGE_DATASETS.load(known) for known in IMAGE_DATASETS.names()]
    wanted = [kind for kind in kinds if name in (None, kind.FORMAT)]
    has_kspace = name not in {kind.FORMAT for kind in kinds}
    paths = sorted(path for path in folder.rglob("*") if _is_looked_into(path, wanted, has_kspace))
    problems = [
        CheckedFile(path, problem=problem) for kind in wanted for path, problem in kind.table_problems(folder)
    ]
    if not paths and not problems:
        suffixes = [*SCAN_FILE_SUFFIXES, *(suffix for kind in kinds for suffix in kind.SUFFIXES)]
        raise ConfigError(
            f"{folder} holds no file of a data set ({', '.join('*' + suffix for suffix in suffixes)})"
        )
    checked = []
    for done, path in enumerate(paths, start=1):
        kind = next((kind for kind in wanted if kind.recognises(path)), None)
        below = path.relative_to(folder)
        checked.append(_kspace(path, below, name) if kind is None else _images(path, below, kind))
        if progress is not None:
            progress(done, len(paths))
    return FolderCheck(folder, (*checked, *problems))


def _is_looked_into(path: Path, kinds: Sequence[type[ImageFile]], has_kspace: bool) -> bool:
    if not path.is_file():
        return False
    if path.suffix == ".hdr":
        # The pair of BART's files counts once; other formats have headers of that name.
        return has_kspace and not path.with_suffix(".cfl").exists() and is_bart(path)
    return (has_kspace and path.suffix in SCAN_FILE_SUFFIXES) or any(kind.recognises(path) for kind in kinds)


def _kspace(path: Path, below: Path, name: str | None) -> CheckedFile:
    try:
        with open_scan_file(path, name) as file:
            shape = file.measured(file.places[0]).kspace.shape
            facts, defect = tuple(file.facts.items()), file.facts.get("defect")
            return CheckedFile(below, file.FORMAT, file.subject, len(file.places), shape, facts, defect)
    except FileFormatError as error:
        if (companion := companion_of(path)) is not None:
            return CheckedFile(below, companion)
        return CheckedFile(below, problem=str(error).removeprefix(f"{path}: "))


def _images(path: Path, below: Path, kind: type[ImageFile]) -> CheckedFile:
    try:
        with kind(path) as file:
            shape = file.image(file.places[0]).shape
            facts = file.facts | {label: str(value) for label, value in file.labels.items()}
            return CheckedFile(
                below, file.FORMAT, file.subject, len(file.places), shape, tuple(facts.items())
            )
    except (FileFormatError, MissingExtra) as error:
        return CheckedFile(below, problem=str(error).removeprefix(f"{path}: "))
