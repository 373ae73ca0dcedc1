"""What readers of magnitude images have in common: a file of a data set that has no k-space, but labels and boxes.

Images are ``(row, column)``, as they are looked at: the first row is the top.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, NamedTuple

import numpy as np
import numpy.typing as npt

from scanside.datasets.scan_file import Place

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["Box", "ImageFile", "TableProblem"]


class Box(NamedTuple):
    """A part of a volume: its first slice, row and column, and how many there are of each."""

    slice: int
    row: int
    column: int
    n_slices: int
    n_rows: int
    n_columns: int


class TableProblem(NamedTuple):
    """A file that a table of a data set names, and that is not there, or a table that cannot be read.

    Attributes:
        path: of the file, relative to the folder that was searched.
        problem: what is wrong.
    """

    path: Path
    problem: str


class ImageFile(ABC):
    """A file of magnitude images, open until it is closed; a context manager.

    Attributes:
        FORMAT: the data set's name.
        SUFFIXES: what names of its files end in.
        path: the file.
        subject: whose it is, or of which examination: all files of one must stay together.
        facts: what the file says of itself, by name.
        places: all images, in the file's order.
        shape: ``(row, column)`` of every image.
        labels: what the data set's tables say of the file, by name; empty where they say nothing of it.
        boxes: parts that the data set's tables mark.
        voxel_mm: distance of slices, rows and columns; None where the file does not tell.
    """

    FORMAT: ClassVar[str]
    SUFFIXES: ClassVar[tuple[str, ...]]

    path: Path
    subject: str
    facts: dict[str, str]
    places: Sequence[Place]
    shape: tuple[int, int]
    labels: Mapping[str, int]
    boxes: Sequence[Box] = ()
    voxel_mm: tuple[float, float, float] | None = None

    @abstractmethod
    def __init__(self, path: Path) -> None:
        """Open a file.

        Args:
            path: the file.

        Raises:
            FileFormatError: it breaks a rule of the data set, which the text says, with the file's name.
            FileNotFoundError: there is no such file.
        """

    @classmethod
    @abstractmethod
    def recognises(cls, path: Path) -> bool:
        """Whether a file looks like one of the data set. It may be none all the same, which opening it tells."""

    @classmethod
    def table_problems(cls, folder: Path) -> Iterator[TableProblem]:  # noqa: ARG003 — readers look at it
        """Files that the data set's tables in a folder name and that are not there, and what is wrong with tables."""
        return iter(())

    @abstractmethod
    def image(self, place: Place) -> npt.NDArray[np.float32]:
        """One image, ``(row, column)``.

        Raises:
            CounterError: there is no such image.
            FileFormatError: the file is damaged.
        """

    def close(self) -> None:  # noqa: B027 — most hold nothing open
        """Close the file."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
