"""Images of fastMRI (Zbontar et al., arXiv 1811.08839), with the boxes of fastMRI+, read where they lie."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import h5py
import numpy as np
import numpy.typing as npt
from pydantic import model_validator

from scanside.errors import ConfigError, FileFormatError
from scanside_training.data.annotations import Place, boxes_of
from scanside_training.data.boxes import Boxes
from scanside_training.data.sources import Licence, SliceSource, SourceConfig
from scanside_training.data.splits import SubjectFractions, SubjectSplit

__all__ = ["FastMri", "FastMriSlices"]

Image = Literal["reconstruction_rss", "reconstruction_esc"]


class FastMri(SourceConfig):
    """A folder of fastMRI files, knees or brains: the magnitude images in them.

    Rows of these images run along the readout; scans that are simulated of them have their phase encoding along
    either axis (``placement.transpose``). Files of one examination say so by their ``patient_id``, and stay together.
    """

    kind: Literal["fastmri"] = "fastmri"
    folder: Path
    """The folder, such as ``multicoil_train``."""
    image: Image = "reconstruction_rss"
    """``reconstruction_rss``, or, of single-coil files, ``reconstruction_esc``."""
    acquisitions: tuple[str, ...] = ()
    """Those that are taken, such as ``CORPD_FBK`` or ``AXT2``; all by default."""
    annotations: Path | None = None
    """Table of fastMRI+ (``knee.csv`` or ``brain.csv``), whose boxes samples then bring as ``marked``."""
    labels: tuple[str, ...] = ()
    """Those of the table that count, such as ``Meniscus Tear``; all by default."""
    licence: Licence = "research"
    """Whether weights trained on the files may be given away."""
    split: SubjectSplit = SubjectFractions()
    """Who is in training, validation and test."""

    @model_validator(mode="after")
    def _labels_of_a_table(self) -> FastMri:
        if self.labels and self.annotations is None:
            raise ValueError("labels are those of a table of boxes: name it (annotations), or leave them out")
        return self

    def origin(self, seed: int = 0) -> str:
        """The data set: its patients have names of their own in all of its folders."""
        return "fastmri"

    def files(self) -> list[Path]:
        """See `SourceConfig.files`.

        Raises:
            ConfigError: there are none.
        """
        found = sorted(self.folder.glob("*.h5"))
        if not found:
            raise ConfigError(
                f"source fastmri: {self.folder} holds no file *.h5; set sources.folder to one of fastMRI's, such as "
                "multicoil_train"
            )
        return found

    def open(self, seed: int = 0) -> FastMriSlices:
        """Look into all files; slices are read when they are asked for.

        Raises:
            ConfigError: there are none, or none of the acquisitions.
            FileFormatError: a file is no fastMRI file with images; the text names it.
        """
        return FastMriSlices(self.files(), self.image, self.acquisitions)

    def boxes(self, slices: SliceSource) -> Sequence[Boxes] | None:
        """See `SourceConfig.boxes`.

        Raises:
            ConfigError: the table cannot be read, or does not belong to the files.
        """
        if self.annotations is None:
            return None
        assert isinstance(slices, FastMriSlices)
        return boxes_of(self.annotations, slices.places, self.labels)


class FastMriSlices:
    """Slices of fastMRI files.

    Args:
        files: all of them.
        image: which image is read.
        acquisitions: those that are taken; all where none is named.

    Raises:
        ConfigError: there is no file of these acquisitions.
        FileFormatError: a file is no fastMRI file with images.
    """

    def __init__(self, files: Sequence[Path], image: Image, acquisitions: Sequence[str]) -> None:
        self._image = image
        self._paths: list[Path] = []
        subjects: list[str] = []
        self.places: list[Place] = []
        """Of every slice, where it stands in its file."""
        met = set()
        for path in files:
            with _opened(path) as file:
                acquisition = str(file.attrs.get("acquisition", ""))
                met.add(acquisition)
                if acquisitions and acquisition not in acquisitions:
                    continue
                n, rows, columns = _shape(file, image)
                subject = file.attrs.get("patient_id")
                if subject is None:
                    raise FileFormatError(
                        "it has no attribute 'patient_id', and files of one examination must stay together"
                    )
            self._paths += [path] * n
            subjects += [str(subject)] * n
            self.places += [Place(path.stem, number, rows, columns) for number in range(n)]
        self.subjects = tuple(subjects)
        self.recordings = ("",) * len(subjects)
        if not subjects:
            raise ConfigError(
                f"source fastmri: no file in {files[0].parent} is of the acquisitions {', '.join(acquisitions)}; "
                f"there are {', '.join(sorted(met))}"
            )

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, index: int) -> npt.NDArray[np.float32]:
        """Slice ``(y, x)``, magnitude.

        Raises:
            FileFormatError: the file was changed or damaged after it had been looked into.
        """
        place = self.places[index]
        with _opened(self._paths[index]) as file:
            pixels: npt.NDArray[np.float32] = np.asarray(file[self._image][place.number], np.float32)
        return pixels


@contextmanager
def _opened(path: Path) -> Iterator[h5py.File]:
    """A file; whatever is wrong with it, its name is in the error."""
    try:
        with h5py.File(path, "r") as file:
            yield file
    except (FileFormatError, OSError, RuntimeError, KeyError, ValueError) as error:
        raise FileFormatError(f"{path} cannot be trained on, leave it out or mend it: {error}") from error


def _shape(file: h5py.File, image: Image) -> tuple[int, int, int]:
    """(slices, rows, columns)."""
    found: Any = file.get(image)
    if isinstance(found, h5py.Dataset) and found.ndim == 3 and found.dtype.kind == "f":
        n, rows, columns = found.shape
        return n, rows, columns
    what = "nothing" if found is None else f"{type(found).__name__} {getattr(found, 'shape', '')}".strip()
    of_test = "; it has a mask instead, as files of the test have" if "mask" in file else ""
    raise FileFormatError(
        f"'{image}' is {what}, where real images (slice, row, column) are expected{of_test}; it holds "
        f"{', '.join(file) or 'nothing'}"
    )
