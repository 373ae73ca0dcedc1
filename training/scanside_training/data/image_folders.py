"""Folders of magnitude images: KneeMRI, MRNet and NIfTI files, read where they lie."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
import numpy.typing as npt

from scanside.datasets import IMAGE_DATASETS, Box, ImageFile, Place
from scanside.errors import ConfigError
from scanside_training.data.boxes import Boxes
from scanside_training.data.settings import Content
from scanside_training.data.sources import Licence, SliceSource, SourceConfig
from scanside_training.data.splits import SubjectFractions, SubjectSplit
from scanside_training.data.strata import Facts, joined_facts

__all__ = ["ImageFolder", "ImageSlices", "KneeMri", "MrNet", "Nifti"]

_OPEN = 4  # files that a process keeps: their formats are read whole


class ImageFolder(SourceConfig):
    """A folder of files of one data set of images, sub-folders included: a scan is simulated of each image.

    What the data set's tables say of a file counts among its facts, by which files are chosen (``where``) and splits
    stratified.
    """

    gives: ClassVar[Content] = "slices"
    dataset: ClassVar[str]
    """Name of the data set's reader."""

    folder: Path
    """The folder."""
    where: dict[str, tuple[str, ...]] = {}  # noqa: RUF012 — never changed
    """What files must say of themselves, such as ``{plane: [sagittal]}``; all files by default."""
    licence: Licence = "research"
    """Whether weights trained on the files may be given away."""
    split: SubjectSplit = SubjectFractions()
    """Who is in training, validation and test."""

    def origin(self, seed: int = 0) -> str:
        """The folder: names of subjects are the folder's own."""
        return f"{self.dataset} {self.folder.resolve()}"

    def files(self) -> list[Path]:
        """See `SourceConfig.files`.

        Raises:
            ConfigError: there are none.
        """
        suffixes = IMAGE_DATASETS.load(self.dataset).SUFFIXES
        found = sorted(path for path in self.folder.rglob("*") if path.name.endswith(suffixes))
        if not found:
            raise ConfigError(
                f"source {self.kind}: {self.folder} holds no file *{' or *'.join(suffixes)}; set sources.folder to "
                "one of the data set's"
            )
        return found

    def open(self, seed: int = 0) -> ImageSlices:
        """Look into all files; images are read when they are asked for.

        Raises:
            ConfigError: there are none, or none of those that are wanted.
            FileFormatError: a file breaks a rule of the data set; the text names it.
        """
        reader, wanted, met = IMAGE_DATASETS.load(self.dataset), [], set()
        for path in self.files():
            with reader(path) as file:
                facts = {**file.facts, **{name: str(value) for name, value in file.labels.items()}}
                met |= {f"{name} {facts.get(name, 'untold')}" for name in self.where}
                if all(facts.get(name) in values for name, values in self.where.items()):
                    wanted.append(
                        _Known(path, file.subject, facts, tuple(file.places), file.shape, tuple(file.boxes))
                    )
        if not wanted:
            asked = ", ".join(f"{name} {' or '.join(values)}" for name, values in self.where.items())
            raise ConfigError(
                f"no file of {self.dataset} in {self.folder} is of {asked}; there are {', '.join(sorted(met))}"
            )
        return ImageSlices(wanted, reader)

    def facts(self, slices: SliceSource, columns: Sequence[str]) -> Facts:
        """What the subjects' files say of themselves."""
        assert isinstance(slices, ImageSlices)
        return joined_facts((file.subject, file.facts) for file, _ in slices.of)


class KneeMri(ImageFolder):
    """A folder of KneeMRI, whose boxes around the ligament samples may bring as ``marked``."""

    dataset: ClassVar = "knee-mri"

    kind: Literal["knee-mri"] = "knee-mri"
    regions: bool = False
    """Whether samples bring ``marked``, the region of interest of the data set's table."""

    def boxes(self, slices: SliceSource) -> Sequence[Boxes] | None:
        """See `SourceConfig.boxes`."""
        assert isinstance(slices, ImageSlices)
        return slices.boxes if self.regions else None


class MrNet(ImageFolder):
    """A folder of MRNet, knees in three planes: ``where: {plane: [sagittal]}`` takes one."""

    dataset: ClassVar = "mrnet"

    kind: Literal["mrnet"] = "mrnet"


class Nifti(ImageFolder):
    """A folder of NIfTI files of magnitude images, such as one of BIDS, turned to how radiologists look at them."""

    dataset: ClassVar = "nifti"

    kind: Literal["nifti"] = "nifti"


@dataclass(frozen=True, eq=False)
class _Known:
    """What is known of a file."""

    path: Path
    subject: str
    facts: Mapping[str, str]
    places: tuple[Place, ...]
    shape: tuple[int, int]
    boxes: tuple[Box, ...]


class ImageSlices:
    """Images of the files of a data set.

    Args:
        files: all of them.
        reader: of the data set.
    """

    def __init__(self, files: Sequence[_Known], reader: type[ImageFile]) -> None:
        self._reader = reader
        self.of = [(file, place) for file in files for place in file.places]
        """Of every image, its file and its place in it."""
        self.subjects = tuple(file.subject for file, _ in self.of)
        self.recordings = ("",) * len(self.of)
        self._open: OrderedDict[Path, ImageFile] = OrderedDict()

    def __len__(self) -> int:
        return len(self.of)

    def __getitem__(self, index: int) -> npt.NDArray[np.float32]:
        """Magnitude image ``(row, column)``.

        Raises:
            FileFormatError: the file was changed or damaged after it had been looked into.
        """
        known, place = self.of[index]
        if known.path not in self._open:
            self._open[known.path] = self._reader(known.path)
            if len(self._open) > _OPEN:
                self._open.popitem(last=False)[1].close()
        return self._open[known.path].image(place)

    def __getstate__(self) -> dict[str, object]:
        """What another process gets: no open file."""
        return {**self.__dict__, "_open": OrderedDict()}

    def shape_of(self, index: int) -> tuple[int, ...]:
        """The shape of an image, which is not read."""
        return self.of[index][0].shape

    @property
    def boxes(self) -> list[Boxes]:
        """Of every image, the boxes that lie in its slice."""
        return [
            np.array(
                [
                    (box.row, box.column, box.n_rows, box.n_columns)
                    for box in file.boxes
                    if box.slice <= place.slice < box.slice + box.n_slices
                ],
                np.int64,
            ).reshape(-1, 4)
            for file, place in self.of
        ]
