"""SKM-TEA, double-echo knees in 3-D: the raw-data track (Desai et al., NeurIPS Datasets and Benchmarks 2021).

``kspace`` is ``(x, ky, kz, echo, coil)``, transformed along the readout already. Each x is a slice here, ky is k1 and
kz is k0. What was acquired, an ellipse in (ky, kz) whose every second line the vendor's ARC filled in, lies in the
middle of a larger matrix of zeros (ZIP2). ``maps`` is ``(x, ky, kz, coil, 1)`` and ``target``, the SENSE images,
``(x, ky, kz, echo, 1)``. ``masks/poisson_4.0x``, … have the size that was acquired, without those zeros.

A file does not say whose knee it is: the subject is the scan, as the file is named. The tables of
`scanside.datasets.skm_tea_annotations` say whose each scan is.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt

from scanside.datasets.fourier import centred_fft, centred_ifft
from scanside.datasets.scan_file import Hdf5ScanFile, MeasuredSlice, Place, dataset, naming
from scanside.errors import FileFormatError

__all__ = ["SkmTeaFile", "write_skm_tea"]

_MASK = "poisson_"

Mask = npt.NDArray[np.bool_]


class SkmTeaFile(Hdf5ScanFile):
    """A file of SKM-TEA's ``files_recon_calib-24``. `Place.slice` is x, and `Place.contrast` the echo.

    Attributes:
        acquired_size: (k1, k0) of k-space without its padding. Masks of one's own are made in this size and `padded`:
            those of the padded size would spend samples on zeros.
    """

    FORMAT = "skm-tea"

    acquired_size: tuple[int, int]

    @classmethod
    def _has_its_signs(cls, file: h5py.File) -> bool:
        return {"kspace", "maps", "target"} <= set(file) and getattr(file["kspace"], "ndim", 0) == 5

    def _look_into(self, file: h5py.File) -> None:
        kspace = dataset(file, "kspace", (5,), "(x, ky, kz, echo, coil)")
        if not np.issubdtype(kspace.dtype, np.complexfloating):
            raise FileFormatError(f"'kspace' holds {kspace.dtype}, expected complex numbers")
        n_x, n1, n0, n_echoes, n_coils = kspace.shape
        for name, axes, last in (("maps", "coil", n_coils), ("target", "echo", n_echoes)):
            found = dataset(file, name, (5,), f"(x, ky, kz, {axes}, 1)").shape
            if found != (n_x, n1, n0, last, 1):
                raise FileFormatError(
                    f"'{name}' has the shape {found}, expected {(n_x, n1, n0, last, 1)}, as 'kspace' has "
                    f"{kspace.shape}"
                )
        self.subject = self.path.stem
        self.facts = {"acquisition": "qDESS", "track": "raw-data", "n_coils": str(n_coils)}
        self.places = [Place(x, contrast=echo) for x in range(n_x) for echo in range(n_echoes)]
        self.image_size = n1, n0
        # All x were acquired alike, and in the middle there is something to see.
        acquired = _acquired(kspace[n_x // 2, :, :, 0, :])
        if not acquired.any():
            raise FileFormatError(
                f"'kspace' is zero at x = {n_x // 2}, its middle: the download is not whole"
            )
        self._sizes = _mask_sizes(file)
        self.acquired_size = self._size_acquired(_middle_with(acquired))

    def _size_acquired(self, needed: tuple[int, int]) -> tuple[int, int]:
        """That of the file's masks, or without masks that of the smallest middle with all that is not zero."""
        if not self._sizes:
            return needed
        sizes = set(self._sizes.values())
        if len(sizes) > 1:
            told = ", ".join(f"{name} {size}" for name, size in self._sizes.items())
            raise FileFormatError(f"its masks differ in size, and one size was acquired: {told}")
        (size,) = sizes
        if any(m > n for m, n in zip(size, self.image_size, strict=True)):
            raise FileFormatError(f"its masks have the size {size}, and 'kspace' is only {self.image_size}")
        if any(m > n for m, n in zip(needed, size, strict=True)):
            raise FileFormatError(
                f"its masks have the size {size}, and 'kspace' is not zero in its middle {needed}: masks are "
                "those of another scan, or of the padded size"
            )
        return size

    @property
    def shape(self) -> tuple[int, int, int]:
        """See `ScanFile.shape`."""
        _, n1, n0, _, n_coils = self._file["kspace"].shape
        return n_coils, n1, n0

    def measured(self, place: Place) -> MeasuredSlice:
        """See `ScanFile.measured`. What ARC filled in counts as acquired; corners outside the ellipse do not."""
        with naming(self.path):
            found = self._file["kspace"][place.slice, :, :, place.contrast, :]
            acquired = _acquired(found)
            if (acquired & ~self.padded(np.ones(self.acquired_size, np.bool_))).any():
                raise FileFormatError(
                    f"'kspace' at x = {place.slice}, echo {place.contrast} is not zero outside its middle "
                    f"{self.acquired_size}, where padding should be"
                )
        return MeasuredSlice(np.ascontiguousarray(np.moveaxis(found, -1, 0), np.complex64), acquired)

    def reference(self, place: Place) -> npt.NDArray[np.float32]:
        """See `ScanFile.reference`: the magnitude of the SENSE image."""
        with naming(self.path):
            found = self._file["target"][place.slice, :, :, place.contrast, 0]
        return np.ascontiguousarray(np.abs(found), np.float32)

    def maps(self, place: Place) -> npt.NDArray[np.complex64]:
        """See `ScanFile.maps`: by JSENSE, from 24 × 24 lines."""
        with naming(self.path):
            found = self._file["maps"][place.slice, :, :, :, 0]
        return np.ascontiguousarray(np.moveaxis(found, -1, 0), np.complex64)

    def masks(self) -> dict[float, Mask]:
        """The masks that results are compared with, ``(k1, k0)`` in the padded size, by acceleration.

        Raises:
            FileFormatError: the file is damaged.
        """
        with naming(self.path):
            return {
                float(name[len(_MASK) : -1]): self.padded(self._file["masks"][name][()].astype(np.bool_))
                for name in self._sizes
            }

    def padded(self, mask: Mask) -> Mask:
        """A mask of the `acquired_size`, with the zeros of k-space around it.

        Raises:
            ValueError: it has another size.
        """
        if mask.shape != self.acquired_size:
            raise ValueError(
                f"a mask of the size {mask.shape}; {self.path.name} acquired {self.acquired_size}"
            )
        whole = np.zeros(self.image_size, np.bool_)
        whole[_middle_of(self.image_size, self.acquired_size)] = mask
        return whole


def _acquired(slice_: npt.NDArray[Any]) -> Mask:
    """Where one of ``(ky, kz, coil)`` is not zero."""
    return np.asarray(np.any(slice_ != 0, axis=-1), np.bool_)


def _mask_sizes(file: h5py.File) -> dict[str, tuple[int, int]]:
    """Sizes of the masks that a file has, by name."""
    group = file.get("masks", {})
    sizes: dict[str, tuple[int, int]] = {}
    for name in group:
        number = name[len(_MASK) : -1]
        if not (name.startswith(_MASK) and name.endswith("x") and number.replace(".", "", 1).isdigit()):
            raise FileFormatError(f"'masks' has '{name}', expected names as poisson_4.0x: acceleration 4")
        shape = dataset(file, f"masks/{name}", (2,), "(ky, kz)").shape
        sizes[name] = shape[0], shape[1]
    return dict(sorted(sizes.items(), key=lambda one: float(one[0][len(_MASK) : -1])))


def _middle_of(size: tuple[int, int], inner: tuple[int, int]) -> tuple[slice, slice]:
    k1, k0 = (slice(n // 2 - m // 2, n // 2 - m // 2 + m) for n, m in zip(size, inner, strict=True))
    return k1, k0


def _middle_with(acquired: Mask) -> tuple[int, int]:
    """(k1, k0) of the smallest middle that holds all that was acquired."""

    def size(along: npt.NDArray[np.bool_]) -> int:
        n = along.size
        low, high = np.flatnonzero(along)[[0, -1]]
        # m samples begin at n // 2 - m // 2 and end before n // 2 + (m + 1) // 2.
        return int(max(2 * (n // 2 - low), 2 * (high - n // 2) + 1))

    return size(np.any(acquired, axis=1)), size(np.any(acquired, axis=0))


def write_skm_tea(
    path: Path,
    images: npt.NDArray[np.complexfloating[Any, Any]],
    maps: npt.NDArray[np.complexfloating[Any, Any]],
    *,
    acquired_size: tuple[int, int],
    elliptical: bool = True,
    masks: Mapping[float, Mask] | None = None,
) -> None:
    """Write a file as SKM-TEA has them, from images whose truth is known.

    Args:
        path: the file; its name is that of the scan.
        images: ``(x, echo, k1, k0)``.
        maps: ``(x, coil, k1, k0)``, their sum of squares 1 where there is an object.
        acquired_size: (k1, k0); k-space is zero around this middle.
        elliptical: it is zero outside the ellipse in that middle, too.
        masks: by acceleration, in the size acquired.
    """
    size = images.shape[-2], images.shape[-1]
    y, z = (np.abs(np.arange(m) - m // 2) / (m / 2) for m in acquired_size)
    acquired = np.zeros(size, np.bool_)
    acquired[_middle_of(size, acquired_size)] = (y[:, None] ** 2 + z**2 <= 1) | (not elliptical)
    kspace = centred_fft(images[:, :, None] * maps[:, None]) * acquired
    target = (centred_ifft(kspace) * maps[:, None].conj()).sum(2)
    with h5py.File(path, "w") as file:
        file["kspace"] = kspace.transpose(0, 3, 4, 1, 2).astype(np.complex64)
        file["maps"] = maps.transpose(0, 2, 3, 1)[..., None].astype(np.complex64)
        file["target"] = target.transpose(0, 2, 3, 1)[..., None].astype(np.complex64)
        for acceleration, mask in (masks or {}).items():
            file[f"masks/{_MASK}{float(acceleration)}x"] = mask
