"""Folders of public data sets: their images, or their measured k-space, read where they lie, one slice at a time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import ClassVar, Literal

from pydantic import model_validator

from scanside.datasets import DATASETS
from scanside.errors import ConfigError, FileFormatError
from scanside_training.data.folders import recordings_of_table
from scanside_training.data.known_files import KnownFile, What, known_file
from scanside_training.data.measured_slices import MeasuredSlices
from scanside_training.data.settings import Content
from scanside_training.data.sources import Licence, SliceSource, SourceConfig
from scanside_training.data.splits import SubjectFractions, SubjectSplit
from scanside_training.data.strata import Facts

__all__ = ["Bart", "FastMriProstate", "M4Raw", "MeasuredFolder"]


class MeasuredFolder(SourceConfig):
    """A folder of files of one data set, sub-folders included. Files of one subject or examination stay together.

    Images are the magnitudes that come with the files. K-space is measured, fully sampled k-space: of the simulation
    only sampling, ESPIRiT and ``readout_crop`` count then.
    """

    dataset: ClassVar[str]
    """Name of the data set's reader."""
    pattern: ClassVar[str] = "*.h5"
    """Names of its files."""
    offers: ClassVar[tuple[What, ...]] = ("images", "kspace")
    """What can be had of it."""
    planes: ClassVar[bool] = False
    """Whether its slices have two phase encodings, k1 and k0, rather than one and a readout."""

    folder: Path
    """The folder."""
    what: What = "images"
    """``images``, ``kspace`` or ``films``."""
    where: dict[str, tuple[str, ...]] = {}  # noqa: RUF012 — never changed
    """What files must say of themselves, such as ``{acquisition: [AXT2, AXFLAIR]}``; all files by default."""
    subjects: Path | None = None
    """Table with the columns ``file`` (relative to the table) and ``subject``, where files do not tell whose they
    are."""
    licence: Licence = "research"
    """Whether weights trained on the files may be given away."""
    split: SubjectSplit = SubjectFractions()
    """Who is in training, validation and test."""

    @model_validator(mode="after")
    def _offered(self) -> MeasuredFolder:
        if self.what not in self.offers:
            raise ValueError(f"what is '{self.what}', and {self.kind} has {' or '.join(self.offers)}")
        return self

    @property
    def gives(self) -> Content:  # type: ignore[override]
        """See `SourceConfig.gives`."""
        if self.what == "kspace":
            return "planes" if self.planes else "kspace"
        return "slices" if self.what == "images" else "films"

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
        """Look into all files, once in a process; slices are read when they are asked for.

        Raises:
            ConfigError: there are none, or none of those that are wanted; or the table of subjects does not fit them.
            FileFormatError: a file breaks a rule of the data set, is undersampled where k-space is asked for, or has
                no image where images are; the text names it.
        """
        return MeasuredSlices(self.wanted_files(), DATASETS.load(self.dataset), self.what)

    def wanted_files(self) -> list[KnownFile]:
        """The files that samples are made from, each with its subject; raises as `open`."""
        reader = DATASETS.load(self.dataset)
        files = [known_file(path, reader, self.what) for path in self.files()]
        wanted = [
            one for one in files if all(one.facts.get(name) in values for name, values in self.where.items())
        ]
        if not wanted:
            asked = ", ".join(f"{name} {' or '.join(values)}" for name, values in self.where.items())
            met = sorted({f"{name} {one.facts.get(name, 'untold')}" for one in files for name in self.where})
            raise ConfigError(
                f"no file of {self.dataset} in {self.folder} is of {asked}; there are {', '.join(met)}"
            )
        for one in wanted:
            if one.problem is not None:
                raise FileFormatError(f"{one.path} {one.problem}")
            if self.what != "images" and one.planes != self.planes:
                raise FileFormatError(
                    f"{one.path} has {'two phase encodings' if one.planes else 'one phase encoding'} along its "
                    f"slices, which {self.kind} does not take: leave it out"
                )
        whose = self.whose(wanted)
        return [replace(one, subject=whose[one.path]) for one in wanted]

    def whose(self, files: Sequence[KnownFile]) -> Mapping[Path, str]:
        """The subject of each file.

        Raises:
            ConfigError: the table cannot be read, gives a file to two subjects, or leaves one out.
        """
        if self.subjects is None:
            return {one.path: one.subject for one in files}
        listed = {path.resolve(): subject for subject, path in recordings_of_table(self.subjects)}
        unlisted = [str(one.path) for one in files if one.path.resolve() not in listed]
        if unlisted:
            raise ConfigError(
                f"{self.subjects} does not say whose {unlisted[0]} is ({len(unlisted)} files of {len(files)} are not "
                "in it), and splits go by subject: add them"
            )
        return {one.path: listed[one.path.resolve()] for one in files}


class M4Raw(MeasuredFolder):
    """A folder of M4Raw, brains at 0.3 T: every repetition of a slice is a slice of its own."""

    dataset: ClassVar = "m4raw"

    kind: Literal["m4raw"] = "m4raw"


class FastMriProstate(MeasuredFolder):
    """A folder of fastMRI's prostates, the images of T2: their k-space is undersampled, and no truth."""

    dataset: ClassVar = "fastmri-prostate-t2"
    pattern: ClassVar = "file_prostate_AXT2_*.h5"
    offers: ClassVar = ("images",)

    kind: Literal["fastmri-prostate-t2"] = "fastmri-prostate-t2"


class Bart(MeasuredFolder):
    """A folder of k-space in BART's pairs of ``.hdr`` and ``.cfl``; files of maps are left out."""

    dataset: ClassVar = "bart"
    pattern: ClassVar = "*.cfl"
    offers: ClassVar = ("kspace",)

    kind: Literal["bart"] = "bart"
    what: What = "kspace"
    """``kspace``."""

    def files(self) -> list[Path]:
        """See `MeasuredFolder.files`."""
        reader = DATASETS.load(self.dataset)
        return [path for path in super().files() if not reader.accompanies(path)]
