"""Where slices and films come from: one kind of source per data set, and generated ones.

A source gives slices ``(y, x)``, complex64 or float32, or films ``(t, y, x)`` of one beat, in the orientation in
which they are stored, and says whose they are. Files are read where they lie; decoded slices are kept in a cache.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal, Protocol

import h5py
import numpy as np
import numpy.typing as npt
import torch
from pydantic import ConfigDict, Field

from scanside.datasets.matlab import read_matlab
from scanside_training.data import generated, generated_films, knees
from scanside_training.data.boxes import Boxes
from scanside_training.data.cache import Decoded, cached_slices
from scanside_training.data.coils import MEASURED
from scanside_training.data.folders import (
    SUBJECTS_TABLE,
    decode_folder,
    decode_recording,
    decode_scan,
    folder_files,
    recording_digest,
)
from scanside_training.data.parallel import each
from scanside_training.data.resample import cubic
from scanside_training.data.roots import data_file
from scanside_training.data.settings import Content
from scanside_training.data.splits import (
    Part,
    SubjectFolds,
    SubjectFractions,
    SubjectLists,
    SubjectSplit,
    subjects_of,
)
from scanside_training.data.strata import Facts, facts_of_table
from scanside_training.plugins import PluginSettings

__all__ = [
    "BeatingHearts",
    "BrainT1w",
    "BrainT2Complex",
    "CardiacMagnitude",
    "CineSax",
    "CineSaxFilms",
    "CoilMapsBrain",
    "ContrastHeads",
    "FileSource",
    "GeneratedSource",
    "Knees",
    "Licence",
    "MrdFolder",
    "MrdScans",
    "PhantomArray16",
    "SliceSource",
    "SourceConfig",
    "Synthetic",
    "SyntheticTissues",
]

Licence = Literal["clean", "research"]
"""Whether weights trained on the data may be given away."""

Slices = npt.NDArray[Any]


class SliceSource(Protocol):
    """What a source gives."""

    @property
    def subjects(self) -> tuple[str, ...]:
        """The subject of every slice."""

    @property
    def recordings(self) -> tuple[str, ...]:
        """Of every slice, a hash of the content of its recording; empty where it comes from none."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Slices:
        """Slice ``(y, x)``, complex64 or float32; with several contrasts ``(contrast, y, x)``; film ``(t, y, x)``,
        also in smaller real types; scan ``(2, coil, k1, k0)``, k-space and coil maps; or tissues ``(3, y, x)``,
        proton density, T1 and T2 in ms.
        """


class SourceConfig(PluginSettings):
    """What all kinds share. A source of one's own is registered in the entry points ``scanside.sources``.

    It decodes its files once (`decode`), and finds the slices in the cache from then on, or overrides `open` to read
    them where they lie.
    """

    model_config = ConfigDict(use_attribute_docstrings=True)

    GROUP: ClassVar = "scanside.sources"
    NOUN: ClassVar = "source"

    gives: ClassVar[Content] = "slices"
    """What it gives."""

    licence: Licence
    """Whether weights trained on the data may be given away."""
    weight: float = Field(default=1.0, ge=0)
    """How often slices of this source are drawn for training, relative to the other sources."""
    split: SubjectSplit
    """Who is in training, validation and test."""

    def open(self, seed: int = 0) -> SliceSource:
        """Decode the slices, or find them in the cache.

        Args:
            seed: of the data, on which only what is drawn hangs.

        Raises:
            ConfigError: a file is not there.
            FormatError: a file is not what it should be.
        """
        settings = self.model_dump(mode="json", exclude={"weight", "split", "root", "licence"})
        return cached_slices(self.kind, settings, self.files(), self.decode)

    def origin(self, seed: int = 0) -> str:
        """Tells subjects of one name apart: those of another folder, or drawn from another seed.

        Args:
            seed: as in `open`.
        """
        return ""

    def members(self, part: Part, slices: SliceSource) -> frozenset[str]:
        """Names of the subjects in one part.

        Args:
            part: ``train``, ``validation`` or ``test``.
            slices: what `open` gave.

        Raises:
            ConfigError: see `scanside_training.data.splits.subjects_of`.
        """
        split, facts = self.split, None
        if isinstance(split, SubjectFractions | SubjectFolds) and split.stratify and split.table is None:
            facts = self.facts(slices, split.stratify)
        return subjects_of(part, split, slices.subjects, self.kind, facts)

    def facts(self, slices: SliceSource, columns: Sequence[str]) -> Facts:
        """What the source's files say of its subjects, for splits by strata; nothing by default.

        Args:
            slices: what `open` gave.
            columns: what is asked for.
        """
        return {}

    def boxes(self, slices: SliceSource) -> Sequence[Boxes] | None:
        """What somebody marked in every slice; None where the source has no marks.

        Args:
            slices: what `open` gave.
        """
        return None

    @abstractmethod
    def files(self) -> list[Path]:
        """Files that the slices are read from."""

    def decode(self) -> Decoded:
        """Subject and pixels of every slice."""
        raise NotImplementedError(
            f"the source '{self.kind}' neither decodes slices nor opens files by itself"
        )


class FileSource(SourceConfig):
    """A data set in one file."""

    file: ClassVar[str]

    root: Path | None = None
    """Folder of all data; default is ``$SCANSIDE_DATA``, else ``../shared/data``."""

    @property
    def path(self) -> Path:
        """The file.

        Raises:
            ConfigError: it is not there.
        """
        return data_file(self.root, self.file)

    def origin(self, seed: int = 0) -> str:
        """The file: slices and films of the same people may come from it."""
        return self.file

    def files(self) -> list[Path]:
        """See `SourceConfig.files`."""
        return [self.path]


class BrainT2Complex(FileSource):
    """T2-weighted head slices with their phase: six subjects of 30 slices."""

    file: ClassVar[str] = "brain-t2-complex/slices_001-180.npz"

    kind: Literal["brain-t2-complex"] = "brain-t2-complex"
    licence: Literal["research"] = "research"
    split: SubjectSplit = SubjectLists(train=("0", "1", "2", "3"), validation=("4",), test=("5",))

    def decode(self) -> Decoded:
        """See `SourceConfig.decode`."""
        with np.load(self.path) as archive:
            iq, scale = archive["iq"], archive["scale"]
        slices = [((i + 1j * q) * s).astype(np.complex64) for (i, q), s in zip(iq, scale, strict=True)]
        return Decoded([str(index // 30) for index in range(len(slices))], list(slices))


class BrainT1w(FileSource):
    """T1-weighted head slices of one subject, magnitude; acquired as a volume, of which any plane may be taken."""

    file: ClassVar[str] = "brain-t1w/t1w_axial_every2.npz"
    every: ClassVar[int] = 2
    """Axial slices stand so many of their pixels apart."""

    kind: Literal["brain-t1w"] = "brain-t1w"
    licence: Literal["clean"] = "clean"
    split: SubjectSplit = SubjectLists(train=("0",))
    planes: tuple[Literal["axial", "coronal", "sagittal"], ...] = Field(default=("axial",), min_length=1)
    """Coronal and sagittal slices are interpolated from head to foot; every other one is taken."""

    def decode(self) -> Decoded:
        """See `SourceConfig.decode`."""
        with np.load(self.path) as archive:
            volume = archive["vol"].astype(np.float32)
        slices = [one for plane in self.planes for one in self._of_plane(volume, plane)]
        return Decoded(["0"] * len(slices), slices)

    def _of_plane(self, volume: npt.NDArray[np.float32], plane: str) -> list[Slices]:
        if plane == "axial":
            return list(volume)
        across = np.moveaxis(volume, 1 if plane == "coronal" else 2, 0)[:: self.every]
        return [_stretched(one, self.every) for one in across if np.any(one)]


def _stretched(pixels: npt.NDArray[np.float32], factor: int) -> Slices:
    """A slice ``(y, x)`` with so many times as many rows, interpolated."""
    rows = torch.arange(factor * (len(pixels) - 1) + 1) / factor
    columns = torch.arange(pixels.shape[1]).float()
    return cubic(torch.from_numpy(pixels)[None], rows, columns)[0].numpy()


class CoilMapsBrain(FileSource):
    """The one complex brain slice that comes with the measured coil maps."""

    file: ClassVar[str] = MEASURED

    kind: Literal["coil-maps-32ch"] = "coil-maps-32ch"
    licence: Literal["clean"] = "clean"
    split: SubjectSplit = SubjectLists(train=("0",))

    def decode(self) -> Decoded:
        """See `SourceConfig.decode`."""
        return Decoded(["0"], [read_matlab(self.path)["xGT"].astype(np.complex64)])


class PhantomArray16(FileSource):
    """A fully sampled scan of a phantom with 16 coils."""

    file: ClassVar[str] = "scanner-ismrmrd/phantom_array16.h5"

    kind: Literal["phantom-array16"] = "phantom-array16"
    licence: Literal["clean"] = "clean"
    split: SubjectSplit = SubjectLists(train=("0",))

    def decode(self) -> Decoded:
        """See `SourceConfig.decode`."""
        slices = decode_recording(self.path)
        return Decoded(["0"] * len(slices), list(slices), [recording_digest(self.path)] * len(slices))


class CineSax(FileSource):
    """Short-axis cardiac cine of 25 subjects, magnitude: every `frame_step`-th frame."""

    file: ClassVar[str] = "cine-sax/cine_sax.h5"

    kind: Literal["cine-sax"] = "cine-sax"
    licence: Literal["research"] = "research"
    frame_step: int = Field(default=4, ge=1)
    split: SubjectSplit = SubjectLists(
        train=tuple(str(n) for n in range(18)), validation=("18", "19", "20"), test=("21", "22", "23", "24")
    )

    def decode(self) -> Decoded:
        """See `SourceConfig.decode`."""
        subjects, slices = [], []
        with h5py.File(self.path, "r") as file:
            # Chunks span many slices: reading one slice after the other would decompress them many times.
            for subject, frames in zip(file["subject"][:], file["frames"][:], strict=True):
                for frame in frames[:: self.frame_step]:
                    subjects.append(str(subject))
                    slices.append(frame.astype(np.float32))
        return Decoded(subjects, slices)


class CineSaxFilms(FileSource):
    """Short-axis cardiac cine of 25 subjects, magnitude of 8 bit: a beat of 20 frames each."""

    file: ClassVar[str] = "cine-sax/cine_sax.h5"
    gives: ClassVar = "films"

    kind: Literal["cine-sax-films"] = "cine-sax-films"
    licence: Literal["research"] = "research"
    split: SubjectSplit = SubjectLists(
        train=tuple(str(n) for n in range(18)), validation=("18", "19", "20"), test=("21", "22", "23", "24")
    )

    def decode(self) -> Decoded:
        """See `SourceConfig.decode`."""
        with h5py.File(self.path, "r") as file:
            return Decoded([str(subject) for subject in file["subject"][:]], list(file["frames"][:]))


class CardiacMagnitude(FileSource):
    """Cardiac short-axis slices, magnitude. Whose they are is not known: they count as one subject."""

    file: ClassVar[str] = "cardiac-magnitude/chest100_u16.npz"

    kind: Literal["cardiac-magnitude"] = "cardiac-magnitude"
    licence: Literal["research"] = "research"
    split: SubjectSplit = SubjectLists(train=("unknown",))

    def decode(self) -> Decoded:
        """See `SourceConfig.decode`."""
        with np.load(self.path) as archive:
            slices = [pixels.astype(np.float32) for pixels in archive["img"]]
        return Decoded(["unknown"] * len(slices), slices)


class GeneratedSource(SourceConfig):
    """Individuals that are drawn, each from a stream of its own, so that they are the same whoever draws them."""

    licence: Literal["clean"] = "clean"
    n_subjects: int = Field(default=60, ge=1)
    """Number of different individuals."""
    seed: int | None = Field(default=None, ge=0)
    """Of the individuals; by default that of the data."""
    split: SubjectSplit = SubjectFractions()

    def files(self) -> list[Path]:
        """See `SourceConfig.files`."""
        return []

    def open(self, seed: int = 0) -> SliceSource:
        """The individuals, drawn from this seed where the source has none of its own."""
        return super().open() if self.seed is not None else self.model_copy(update={"seed": seed}).open()

    def origin(self, seed: int = 0) -> str:
        """The seed, and what else decides about an individual."""
        told = self.model_dump(mode="json", exclude={"weight", "split", "licence", "n_subjects"})
        return ", ".join(f"{name} {value}" for name, value in (told | {"seed": self.seed or seed}).items())

    def decode(self) -> Decoded:
        """See `SourceConfig.decode`."""
        of_all = each(self._subject, range(self.n_subjects))
        subjects = [str(subject) for subject, made in enumerate(of_all) for _ in made]
        return Decoded(subjects, [one for made in of_all for one in made])

    def _subject(self, subject: int) -> list[Slices]:
        return self.draw(np.random.default_rng([self.seed or 0, subject]))

    @abstractmethod
    def draw(self, rng: np.random.Generator) -> list[Slices]:
        """Everything of one individual."""


class Synthetic(GeneratedSource):
    """Generated objects: heads whose folds, contrast, shape and plane vary, hearts, and heaps of textured shapes."""

    kind: Literal["synthetic"] = "synthetic"
    slices_per_subject: int = Field(default=6, ge=1)
    shapes: float = Field(default=0.4, ge=0, le=1)
    """Share of the objects that are heaps of shapes."""
    hearts: float = Field(default=0.1, ge=0, le=1)
    """Share of the objects that are hearts; the rest are heads."""
    size: int = Field(default=288, ge=32)
    """Edge of the slices in pixels."""

    def draw(self, rng: np.random.Generator) -> list[Slices]:
        """See `GeneratedSource.draw`."""
        kind = generated.draw_kind(rng, shapes=self.shapes, hearts=self.hearts)
        return list(generated.slices_of(kind, self.slices_per_subject, self.size, rng))


class ContrastHeads(GeneratedSource):
    """Generated heads, every slice of which was imaged with several contrasts."""

    gives: ClassVar = "contrasts"

    kind: Literal["contrast-heads"] = "contrast-heads"
    slices_per_subject: int = Field(default=6, ge=1)
    weightings: tuple[generated.Weighting, ...] = Field(default=("t2", "t1"), min_length=2)
    """The contrasts; the first one is that of the scan."""
    size: int = Field(default=288, ge=32)
    """Edge of the slices in pixels."""

    def draw(self, rng: np.random.Generator) -> list[Slices]:
        """See `GeneratedSource.draw`."""
        return list(generated.contrasts_of("brain", self.slices_per_subject, self.size, rng, self.weightings))


class Knees(GeneratedSource):
    """Generated knees, some with a finding: a small bright blob in the marrow."""

    kind: Literal["knees"] = "knees"
    slices_per_subject: int = Field(default=6, ge=1)
    findings: float = Field(default=0.5, ge=0, le=1)
    """Share of the knees that have one, in one of their slices."""
    size: int = Field(default=256, ge=32)
    """Edge of the slices in pixels."""

    def draw(self, rng: np.random.Generator) -> list[Slices]:
        """See `GeneratedSource.draw`."""
        finding = bool(rng.random() < self.findings)
        return [one.pixels for one in knees.knee(self.size, self.slices_per_subject, rng, finding=finding)]


class SyntheticTissues(GeneratedSource):
    """Generated heads as maps of proton density, T1 and T2 ``(3, y, x)``, for simulations of sequences."""

    gives: ClassVar = "tissues"

    kind: Literal["synthetic-tissues"] = "synthetic-tissues"
    slices_per_subject: int = Field(default=6, ge=1)
    size: int = Field(default=288, ge=32)
    """Edge of the slices in pixels."""

    def draw(self, rng: np.random.Generator) -> list[Slices]:
        """See `GeneratedSource.draw`."""
        return list(generated.tissues_of(self.slices_per_subject, self.size, rng))


class BeatingHearts(GeneratedSource):
    """Generated films of one beat: chests with a heart along planes of all kinds, and heaps of shapes that move."""

    gives: ClassVar = "films"

    kind: Literal["beating-hearts"] = "beating-hearts"
    films_per_subject: int = Field(default=3, ge=1)
    """Planes of each."""
    frames: int = Field(default=24, ge=2)
    """Frames of a beat."""
    shapes: float = Field(default=0.3, ge=0, le=1)
    """Share of the individuals that are heaps of shapes."""
    size: int = Field(default=208, ge=32)
    """Edge of the frames in pixels."""

    def draw(self, rng: np.random.Generator) -> list[Slices]:
        """See `GeneratedSource.draw`."""
        kind: Literal["shapes", "cardiac"] = "shapes" if rng.random() < self.shapes else "cardiac"
        made = generated_films.films_of(kind, self.films_per_subject, self.frames, self.size, rng)
        # Half precision is finer than any noise that is added, and half as much to read.
        return [film.astype(np.float16) for film in made]


class _Recordings(SourceConfig):
    """A folder of 2-D Cartesian ISMRMRD files: one sub-folder per subject, or a ``subjects.csv``."""

    folder: Path
    """The folder. ``subjects.csv`` in it has the columns ``file`` (relative to the folder) and ``subject``."""
    licence: Licence = "research"
    """Whether weights trained on the files may be given away."""
    split: SubjectSplit = SubjectFractions()
    """Who is in training, validation and test."""

    def origin(self, seed: int = 0) -> str:
        """The folder."""
        return str(self.folder.resolve())

    def facts(self, slices: SliceSource, columns: Sequence[str]) -> Facts:
        """Other columns of the folder's ``subjects.csv``, see `SourceConfig.facts`.

        Raises:
            ConfigError: see `scanside_training.data.strata.facts_of_table`.
        """
        table = self.folder / SUBJECTS_TABLE
        return facts_of_table(table, columns) if table.exists() else {}

    def files(self) -> list[Path]:
        """See `SourceConfig.files`."""
        return folder_files(self.folder)


class MrdFolder(_Recordings):
    """A folder of fully sampled 2-D Cartesian ISMRMRD files: one sub-folder per subject, or a ``subjects.csv``."""

    kind: Literal["mrd-folder"] = "mrd-folder"

    def decode(self) -> Decoded:
        """See `SourceConfig.decode`."""
        return decode_folder(self.folder)


class MrdScans(_Recordings):
    """A folder of undersampled 2-D Cartesian ISMRMRD files, such as ``scanside record`` keeps, for trainings without
    truth: k-space and coil maps as an engine stage gets them. One sub-folder per subject, or a ``subjects.csv``.
    """

    gives: ClassVar = "scans"

    kind: Literal["mrd-scans"] = "mrd-scans"

    def decode(self) -> Decoded:
        """See `SourceConfig.decode`."""
        return decode_folder(self.folder, decode_scan)
