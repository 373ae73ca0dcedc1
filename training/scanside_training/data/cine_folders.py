"""CMRxRecon's hearts and vessels: films of each slice, or the measured k-space of every frame."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field

from scanside.datasets import DATASETS, Place, ScanFile
from scanside.datasets.fourier import centred_ifft
from scanside.errors import FileFormatError
from scanside_training.data.known_files import KnownFile, What
from scanside_training.data.measured_folders import MeasuredFolder
from scanside_training.data.measured_slices import MeasuredSlices

__all__ = ["CmrxRecon", "MeasuredFilms", "frames_of"]

logger = logging.getLogger(__name__)


class CmrxRecon(MeasuredFolder):
    """A folder of CMRxRecon, such as ``MultiCoil/Cine/TrainingSet``. Masks and coil maps that lie beside k-space, and
    files that are undersampled or known to be bad, are left out.

    Films are magnitudes, root sums of squares of the coils, of all frames of a slice. K-space is that of single
    frames.
    """

    dataset: ClassVar = "cmrxrecon"
    pattern: ClassVar = "*.mat"
    offers: ClassVar = ("films", "kspace")

    kind: Literal["cmrxrecon"] = "cmrxrecon"
    what: What = "films"
    """``films`` or ``kspace``."""
    where: dict[str, tuple[str, ...]] = {"sampling": ("full",)}  # noqa: RUF012 — never changed
    """What files must say of themselves, such as ``{sampling: [full], kind: [cine_sax]}``; by default those that are
    fully sampled."""
    frames: int = Field(default=2, ge=2)
    """Frames that a film has at least."""

    def files(self) -> list[Path]:
        """See `SourceConfig.files`."""
        reader = DATASETS.load(self.dataset)
        return [path for path in super().files() if not reader.accompanies(path)]

    def wanted_files(self) -> list[KnownFile]:
        """See `MeasuredFolder.wanted_files`; without those that are known to be bad."""
        found = super().wanted_files()
        bad = [one for one in found if "defect" in one.facts]
        if bad:
            first = bad[0]
            logger.warning(
                "%d files are left out, such as %s: %s", len(bad), first.path, first.facts["defect"]
            )
        return [one for one in found if "defect" not in one.facts]

    def open(self, seed: int = 0) -> MeasuredSlices:
        """See `MeasuredFolder.open`.

        Raises:
            ConfigError: as there.
            FileFormatError: as there, or a film has fewer frames than it should have.
        """
        if self.what == "kspace":
            return super().open(seed)
        found = MeasuredFilms(self.wanted_files(), DATASETS.load(self.dataset), self.what)
        for file, film in found.of:
            if (n := len(frames_of(file.places, film))) < self.frames:
                raise FileFormatError(
                    f"{file.path} has {n} frame{'s' if n > 1 else ''}, and films have at least {self.frames} "
                    "(sources.frames): leave it out, by where: {kind: [cine_sax]} for instance, or take single "
                    "frames (what: kspace)"
                )
        return found


class MeasuredFilms(MeasuredSlices):
    """Films of files whose images are told apart by `Place.phase`: ``(t, k1, x)`` float32."""

    def places_of(self, file: KnownFile) -> Sequence[Place]:
        """One of every film."""
        return list(dict.fromkeys(place._replace(phase=0) for place in file.places))

    def read(self, file: ScanFile, place: Place) -> npt.NDArray[np.float32]:
        """The film of an open file that a place is of."""
        frames = frames_of(file.places, place)
        return np.stack([_root_sum_of_squares(file.measured(frame).kspace) for frame in frames])


def frames_of(places: Sequence[Place], film: Place) -> list[Place]:
    """The images of a film, in the order of their phases."""
    return sorted(place for place in places if place._replace(phase=0) == film)


def _root_sum_of_squares(kspace: npt.NDArray[np.complex64]) -> npt.NDArray[np.float32]:
    """The magnitude image ``(k1, k0)`` of k-space ``(coil, k1, k0)``."""
    images = centred_ifft(kspace)
    return np.asarray(np.sqrt((images.real**2 + images.imag**2).sum(0)), np.float32)
