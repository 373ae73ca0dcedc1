"""Calgary-Campinas, brains in 3-D with 12 or 32 coils.

``kspace`` is ``(x, k1, k0, channel)`` in real numbers: an image along x, the readout, and k-space along both phase
encodings; channels are real and imaginary part of the first coil, of the second, and so on. k0 is partial Fourier:
from 85 % on nothing was acquired, though what is there is not exactly 0. Files of the test are 0 where they were
undersampled, and nothing else says where.

The centre of k-space lies in the middle, and ``ifft2(ifftshift(kspace))`` is the image, in place without a last
``fftshift``. With one, as everywhere else, the halves of the image would be swapped, so k-space is multiplied by the
phase that swaps them back: a checkerboard of signs where both sizes are even. A root sum of squares looks right
without any shift, too, but coil images then have the checkerboard, which coil maps and networks see.

Papers: Souza et al., NeuroImage 2018;170:482 (the data set); Beauferris et al., Front Neurosci 2022;16:919186 (its
measured part).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt

from scanside.datasets.scan_file import Hdf5ScanFile, MeasuredSlice, Place, dataset, naming
from scanside.errors import FileFormatError

__all__ = ["CalgaryCampinasFile", "write_calgary_campinas"]

_UNSCORED = 50


class CalgaryCampinasFile(Hdf5ScanFile):
    """A file of Calgary-Campinas' raw data.

    Attributes:
        scored: places that the data set's challenge compares: without 50 at either end.
    """

    FORMAT = "calgary-campinas"

    scored: Sequence[Place]

    @classmethod
    def _has_its_signs(cls, file: h5py.File) -> bool:
        kspace: Any = file.get("kspace")
        return (
            isinstance(kspace, h5py.Dataset)
            and kspace.ndim == 4
            and np.issubdtype(kspace.dtype, np.floating)
            and "ismrmrd_header" not in file
        )

    def _look_into(self, file: h5py.File) -> None:
        kspace = dataset(file, "kspace", (4,), "(x, k1, k0, channel)")
        if not np.issubdtype(kspace.dtype, np.floating):
            raise FileFormatError(
                f"'kspace' holds {kspace.dtype}, expected real numbers: real and imaginary parts in turn"
            )
        n_x, n1, n0, channels = kspace.shape
        if channels % 2:
            raise FileFormatError(
                f"'kspace' has {channels} channels, expected an even number: real and imaginary parts in turn"
            )
        # Nothing in a file names a person. A volume of the test has one name at all its accelerations.
        self.subject = self.path.stem
        self.places = [Place(number) for number in range(n_x)]
        self.scored = self.places[_UNSCORED:-_UNSCORED]
        self.image_size = n1, n0
        self._acquired = _acquired(kspace[n_x // 2])
        if not self._acquired[n1 // 2, n0 // 2]:
            raise FileFormatError(
                f"'kspace' is 0 at its centre, ({n1 // 2}, {n0 // 2}), in the middle of x, which all files acquire"
            )
        whole = self._acquired[:, : _n_acquired(n0)].all()
        self.facts = {"part": "training or validation" if whole else "test"}

    @property
    def shape(self) -> tuple[int, int, int]:
        """See `ScanFile.shape`."""
        _, n1, n0, channels = self._file["kspace"].shape
        return channels // 2, n1, n0

    def acquired(self, place: Place) -> npt.NDArray[np.bool_]:
        """See `ScanFile.acquired`: all x are acquired alike."""
        return self._acquired

    def measured(self, place: Place) -> MeasuredSlice:
        """See `ScanFile.measured`."""
        with naming(self.path):
            found = self._file["kspace"][place.slice]
            if not np.array_equal(_acquired(found), self._acquired):
                raise FileFormatError(
                    f"'kspace' at x = {place.slice} is 0 elsewhere than in the middle of x: the file is damaged"
                )
        coils = np.moveaxis(np.ascontiguousarray(found, np.float32).view(np.complex64), -1, 0)
        kspace = np.where(self._acquired, coils * _swapping_halves(self.image_size), 0)
        return MeasuredSlice(np.ascontiguousarray(kspace, np.complex64), self._acquired)


def _n_acquired(n0: int) -> int:
    """How many samples along k0 the scan acquired: 85 %, rounded up."""
    return -(-17 * n0 // 20)


def _acquired(kspace: npt.NDArray[np.floating[Any]]) -> npt.NDArray[np.bool_]:
    """Which samples were acquired, ``(k1, k0)``, of ``(k1, k0, channel)``."""
    acquired = np.asarray(kspace.any(-1))
    acquired[:, _n_acquired(acquired.shape[1]) :] = False
    return acquired


def _swapping_halves(size: tuple[int, int]) -> npt.NDArray[np.complex64]:
    """The phase of k-space, 1 at its centre, that moves an image by ``n // 2`` pixels along both axes."""
    k1, k0 = (np.exp(2j * np.pi * (np.arange(n) - n // 2) * (n // 2) / n) for n in size)
    return np.outer(k1, k0).astype(np.complex64)


def write_calgary_campinas(
    path: Path,
    coil_images: npt.NDArray[np.complexfloating[Any, Any]],
    *,
    mask: npt.NDArray[np.bool_] | None = None,
) -> None:
    """Write a file as Calgary-Campinas has them, from images whose truth is known.

    Args:
        path: the file.
        coil_images: ``(x, coil, k1, k0)``.
        mask: ``(k1, k0)``, what is kept in a file of the test.
    """
    n0 = coil_images.shape[-1]
    kspace = np.fft.fftshift(np.fft.fft2(coil_images, norm="ortho"), (-2, -1))
    # What the scanner's software leaves where nothing was acquired.
    kspace[..., _n_acquired(n0) :] *= 1e-3
    if mask is not None:
        kspace = kspace * mask
    channels = np.ascontiguousarray(np.moveaxis(kspace, 1, -1), np.complex64).view(np.float32)
    with h5py.File(path, "w") as file:
        file["kspace"] = channels
