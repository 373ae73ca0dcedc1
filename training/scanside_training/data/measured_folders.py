"""Folders of public data sets: their images, or their measured k-space, read where they lie, one slice at a time."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt

from scanside.datasets import DATASETS, Place, ScanFile
from scanside.datasets.fourier import centred_ifft, middle
from scanside.errors import ConfigError, FileFormatError
from scanside_training.data.settings import Content
from scanside_training.data.sources import Licence, SliceSource, SourceConfig
from scanside_training.data.splits import SubjectFractions, SubjectSplit
from scanside_training.data.strata import Facts

__all__ = ["M4Raw", "MeasuredFolder", "MeasuredSlices"]

What = Literal["images", "kspace"]


class MeasuredFolder(SourceConfig):
    """A folder of files of one data set, sub-folders included. Files of one subject or examination stay together.

    Images are the magnitudes that come with the files. K-space is measured, fully sampled k-space: of the simulation
    only sampling, ESPIRiT and ``readout_crop`` count then, and batches hold one sample.
    """

    dataset: ClassVar[str]
    """Name of the data set's reader."""
    pattern: ClassVar[str] = "*.h5"
    """Names of its files."""

    folder: Path
    """The folder."""
    what: What = "images"
    """``images`` or ``kspace``."""
    where: dict[str, tuple[str, ...]] = {}  # noqa: RUF012 — never changed
    """What files must say of themselves, such as ``{acquisition: [AXT2, AXFLAIR]}``; all files by default."""
    licence: Licence = "research"
    """Whether weights trained on the files may be given away."""
    split: SubjectSplit = SubjectFractions()
    """Who is in training, validation and test."""

    @property
    def gives(self) -> Content:  # type: ignore[override]
        """See `SourceConfig.gives`."""
        return "slices" if self.what == "images" else "kspace"

    def origin(self, seed: int = 0) -> str:
        """The data set: its subjects have names of their own in all of its folders."""
        return self.dataset

    def facts(self, slices: SliceSource, columns: Sequence[str]) -> Facts:
        """What the subjects' files say of themselves, values of several files together: ``AXT1 + AXT2``."""
        assert isinstance(slices, MeasuredSlices)
        return slices.facts

    def files(self) -> list[Path]:
        """See `SourceConfig.files`.

        Raises:
            ConfigError: there are none.
        """
        found = sorted(self.folder.rglob(self.pattern))
        if not found:
            raise ConfigError(
                f"source {self.kind}: {self.folder} holds no file {self.pattern}; set sources.folder to one of the "
                "data set's"
            )
        return found

    def open(self, seed: int = 0) -> MeasuredSlices:
        """Look into all files; slices are read when they are asked for.

        Raises:
            ConfigError: there are none, or none of those that are wanted.
            FileFormatError: a file breaks a rule of the data set, is undersampled where k-space is asked for, or has
                no image where images are; the text names it.
        """
        return MeasuredSlices(self.files(), self.dataset, self.what, self.where)


class M4Raw(MeasuredFolder):
    """A folder of M4Raw, brains at 0.3 T: every repetition of a slice is a slice of its own."""

    dataset: ClassVar = "m4raw"

    kind: Literal["m4raw"] = "m4raw"


class MeasuredSlices:
    """Slices of the files of a data set.

    Args:
        files: all of them.
        dataset: name of the reader.
        what: what is read.
        where: what files must say of themselves.

    Raises:
        ConfigError: no file is as wanted.
        FileFormatError: a file cannot be trained on.
    """

    def __init__(
        self, files: Sequence[Path], dataset: str, what: What, where: dict[str, tuple[str, ...]]
    ) -> None:
        self._reader = DATASETS.load(dataset)
        self._what = what
        self.places: list[tuple[Path, Place]] = []
        """Of every slice, its file and its place in it."""
        self.sizes: list[tuple[int, int]] = []
        """Of every slice, (k1, k0) of its images."""
        self.offsets: list[int] = []
        """Of every slice, the line of its field of view on which the first line of its image lies."""
        subjects: list[str] = []
        told: dict[str, dict[str, set[str]]] = {}
        met: set[str] = set()
        for path in files:
            with self._reader(path) as file:
                met |= {f"{name} {file.facts.get(name, 'untold')}" for name in where}
                if any(file.facts.get(name) not in wanted for name, wanted in where.items()):
                    continue
                offset = 0
                if what == "images":
                    _check_image(file)
                else:
                    offset = _n_lines(file) // 2 - file.image_size[0] // 2
                self.places += [(path, place) for place in file.places]
                self.sizes += [file.image_size] * len(file.places)
                self.offsets += [offset] * len(file.places)
                subjects += [file.subject] * len(file.places)
                of_subject = told.setdefault(file.subject, {})
                for name, value in file.facts.items():
                    of_subject.setdefault(name.lower(), set()).add(value)
        self.subjects = tuple(subjects)
        self.recordings = ("",) * len(subjects)
        self.facts = {
            subject: {name: " + ".join(sorted(values)) for name, values in facts.items()}
            for subject, facts in told.items()
        }
        """Of every subject, what its files say of themselves."""
        if not subjects:
            wanted = ", ".join(f"{name} {' or '.join(values)}" for name, values in where.items())
            raise ConfigError(
                f"no file of {dataset} in {files[0].parent} is of {wanted}; there are {', '.join(sorted(met))}"
            )

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, index: int) -> npt.NDArray[Any]:
        """Magnitude image ``(k1, k0)``; or k-space ``(coil, k1, x)``, image along the readout.

        Raises:
            FileFormatError: the file was changed or damaged after it had been looked into.
        """
        path, place = self.places[index]
        with self._reader(path) as file:
            if self._what == "kspace":
                return _hybrid(file, place)
            image = file.reference(place)
            if image is None:
                raise FileFormatError(f"{path} has no image any more: begin again")
            return image


def _check_image(file: ScanFile) -> None:
    if file.reference(file.places[0]) is None:
        raise FileFormatError(
            f"{file.path} holds no image, as files of a test do: leave it out, or train on k-space (what: kspace)"
        )


def _n_lines(file: ScanFile) -> int:
    """Lines of a file's k-space, which is refused where it cannot be truth."""
    acquired = file.acquired(file.places[0])
    if acquired.shape[1] != 1:
        raise FileFormatError(
            f"{file.path} has two phase encodings along its slices, and lines are left out along one: train on its "
            "images (what: images)"
        )
    lines = np.flatnonzero(acquired)
    if not len(lines) or len(lines) != np.ptp(lines) + 1:
        raise FileFormatError(
            f"{file.path} is undersampled ({len(lines)} of {acquired.size} lines, with gaps): truth can only be had "
            "from complete scans; leave it out"
        )
    return acquired.size


def _hybrid(file: ScanFile, place: Place) -> npt.NDArray[np.complex64]:
    """K-space along k1 and image along the readout, without its oversampling."""
    kspace = file.measured(place).kspace
    image = centred_ifft(kspace, axes=(-1,))
    return np.ascontiguousarray(middle(image, (kspace.shape[-2], file.image_size[1])), np.complex64)
