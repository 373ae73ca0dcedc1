"""Slices of measured files, read one by one: nothing stays open, and nothing is kept."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from scanside.datasets import Place, ScanFile
from scanside.datasets.fourier import middle_of_image
from scanside.errors import FileFormatError
from scanside_training.data.known_files import KnownFile, What
from scanside_training.data.strata import Facts, joined_facts

__all__ = ["MeasuredPlanes", "MeasuredSlices"]


class MeasuredSlices:
    """Slices of the files of a data set.

    Args:
        files: all of them.
        reader: of the data set.
        what: what is read.
    """

    def __init__(self, files: Sequence[KnownFile], reader: type[ScanFile], what: What) -> None:
        self._reader = reader
        self._what = what
        self.of: list[tuple[KnownFile, Place]] = [
            (file, place) for file in files for place in self.places_of(file)
        ]
        """Of every slice, its file and its place in it."""
        self.subjects = tuple(file.subject for file, _ in self.of)
        self.recordings = ("",) * len(self.of)

    def places_of(self, file: KnownFile) -> Sequence[Place]:
        """The images of a file that are slices here."""
        return file.places

    def __len__(self) -> int:
        return len(self.of)

    @property
    def places(self) -> list[tuple[Path, Place]]:
        """Of every slice, its file and its place in it."""
        return [(file.path, place) for file, place in self.of]

    @property
    def facts(self) -> Facts:
        """Of every subject, what its files say of themselves, values of several files together: ``AXT1 + AXT2``."""
        return joined_facts((file.subject, file.facts) for file, _ in self.of)

    @property
    def sizes(self) -> list[tuple[int, int]]:
        """Of every slice, (k1, k0) of its images."""
        return [file.image_size for file, _ in self.of]

    @property
    def offsets(self) -> list[int]:
        """Of every slice, the line of its field of view on which the first line of its image lies."""
        if self._what == "images":
            return [0] * len(self.of)
        return [file.shape[1] // 2 - file.image_size[0] // 2 for file, _ in self.of]

    def shape_of(self, index: int) -> tuple[int, ...]:
        """The shape of a slice, which is not read."""
        file, _ = self.of[index]
        return file.image_size if self._what == "images" else (*file.shape[:2], file.image_size[1])

    def identity(self, index: int) -> tuple[object, ...]:
        """Which k-space a slice is of: its file, the file's size and time of change, and its place in it."""
        file, place = self.of[index]
        return str(file.path.resolve()), *file.stamp, *place

    def __getitem__(self, index: int) -> npt.NDArray[Any]:
        """Magnitude image ``(k1, k0)``; or k-space ``(coil, k1, x)``, image along the readout.

        Raises:
            FileFormatError: the file was changed or damaged after it had been looked into.
        """
        known, place = self.of[index]
        known.check_unchanged()
        with self._reader(known.path) as file:
            return self.read(file, place)

    def read(self, file: ScanFile, place: Place) -> npt.NDArray[Any]:
        """One slice of an open file."""
        if self._what == "kspace":
            return middle_of_image(file.measured(place).kspace, file.image_size[1])
        image = file.reference(place)
        if image is None:
            raise FileFormatError(
                f"{file.path} has no image of {place}, and has those of others: it is damaged"
            )
        return image


class MeasuredPlanes(MeasuredSlices):
    """Slices of volumes along their readout, whose k-space has two phase encodings: ``(coil, k1, k0)``, or
    ``(2, coil, k1, k0)`` with coil maps.

    Args:
        files: all of them.
        reader: of the data set.
        ends: slices that are left out at either end.
        with_maps: whether coil maps come with them.
    """

    def __init__(
        self, files: Sequence[KnownFile], reader: type[ScanFile], ends: int, *, with_maps: bool
    ) -> None:
        self._ends = ends
        self._with_maps = with_maps
        super().__init__(files, reader, "kspace")

    def places_of(self, file: KnownFile) -> Sequence[Place]:
        """Those between the ends."""
        last = max(place.slice for place in file.places) - self._ends
        return [place for place in file.places if self._ends <= place.slice <= last]

    def shape_of(self, index: int) -> tuple[int, ...]:
        """The shape of a slice, which is not read."""
        file, _ = self.of[index]
        return (2, *file.shape) if self._with_maps else file.shape

    def read(self, file: ScanFile, place: Place) -> npt.NDArray[np.complex64]:
        """One slice of an open file."""
        kspace = file.measured(place).kspace
        if not self._with_maps:
            return kspace
        maps = file.maps(place)
        if maps is None:
            raise FileFormatError(f"{file.path} has no coil maps of {place}: estimate them (maps: espirit)")
        return np.stack((kspace, maps))
