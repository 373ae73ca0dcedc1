"""CMRxRecon 2023 to 2025 and CMRx4DFlow 2026: hearts and vessels, many views, centres and vendors.

Wang et al., *CMRxRecon: a publicly available k-space dataset*, Scientific Data 11, 687 (2024).

Files are MATLAB's, most of version 7.3 (HDF5), some older. Images in two dimensions are, as HDF5 gives their axes,
``(time, slice, coil, ky, kx)``, kx along the readout. MATLAB drops the slowest axes where they have one entry, so
that files without time have four. Flow in four dimensions is ``(velocity encoding, time, coil, kz, ky, kx)``; it is
undersampled along ky and kz alike, and therefore given along its readout: `Place.slice` is the position in x, k1 is
ky and k0 is kz.

The readout's oversampling is not removed, so that images are as long as the matrix. The challenges rank by the middle
of the field of view, a third of x and half of y.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt

from scanside.datasets.cmrxrecon_names import (
    facts_of,
    is_map,
    is_undersampled,
    known_defect,
    mask_files,
    subject_of,
)
from scanside.datasets.fourier import centred_fft, centred_ifft
from scanside.datasets.mat_files import MatFile, open_mat
from scanside.datasets.scan_file import MeasuredSlice, Place, ScanFile, naming, whole_lines
from scanside.errors import CounterError, FileFormatError

__all__ = ["CmrxReconFile", "known_defect", "write_cmrxrecon"]

_KSPACE = re.compile(r"kspace|kspace_full|kspace_sub\d+|kus|kdata_\w+")
_MASK = re.compile(r"(us)?mask\w*")
_BESIDE = re.compile(r"mask|coilmap", re.IGNORECASE)
"""In names of files that lie beside k-space."""
_PATTERN = re.compile(r"_((?:kt)?(?:Uniform|Gaussian|Radial)\d+)$")
_IMAGES = "(time, slice, coil, ky, kx), or fewer of the slowest axes"
_VOLUMES = "(velocity encoding, time, coil, kz, ky, kx), or fewer of the slowest axes"

Samples = npt.NDArray[np.complex64]
Mask = npt.NDArray[np.bool_]


class CmrxReconFile(ScanFile):
    """A file of k-space, fully sampled or not, that lies in the challenge's folders.

    Of a place, `Place.slice` is the slice and `Place.phase` the time; of maps (T1, T2, T1ρ) `Place.contrast` is the
    weighting; of flow in four dimensions `Place.set` is the velocity encoding, and `Place.slice` the position along
    the readout.

    What was acquired is told by the samples that are not zero. Where an undersampled file has its mask beside it, no
    sample may lie outside. `facts` has the name of that ``mask``, the ``sampling`` (accelerations do not count the
    calibration lines), and the ``defect`` of a file that is known to be bad.
    """

    FORMAT = "cmrxrecon"

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = open_mat(path)
        try:
            with naming(path):
                self._look_into()
        except BaseException:
            self._file.close()
            raise

    @classmethod
    def recognises(cls, path: Path) -> bool:
        """See `ScanFile.recognises`."""
        try:
            with open_mat(path) as file:
                return any(
                    _KSPACE.fullmatch(name) and array.is_complex for name, array in file.arrays.items()
                )
        except (FileFormatError, OSError):
            return False

    @classmethod
    def accompanies(cls, path: Path) -> bool:
        """See `ScanFile.accompanies`."""
        return path.suffix == ".mat" and _BESIDE.search(path.stem) is not None

    def _look_into(self) -> None:
        self.subject = subject_of(self.path)
        self._name = _only(
            self._file, _KSPACE, "k-space, such as kspace_full, kspace_sub04, kus, kspace, kdata_full"
        )
        self.facts = facts_of(self.path) | {"sampling": _sampling(self.path, self._name)}
        self._is_volume = self._name.startswith("kdata_")
        shape, is_complex = self._file.arrays[self._name]
        if not is_complex:
            raise FileFormatError(
                f"'{self._name}' holds no complex numbers as MATLAB writes them (real, imag)"
            )
        least, most, axes = (4, 6, _VOLUMES) if self._is_volume else (3, 5, _IMAGES)
        if not least <= len(shape) <= most:
            raise FileFormatError(f"'{self._name}' has the shape {shape}, expected {axes}")
        self._n_dropped = most - len(shape)
        shape = (1,) * self._n_dropped + shape
        if self._is_volume:
            n_sets, n_times, _, *plane, n_x = shape
            self._at = {Place(x, phase=t, set=v): (v, t) for v, t, x in np.ndindex(n_sets, n_times, n_x)}
            self.image_size = plane[1], plane[0]
        else:
            n_times, n_slices, _, *plane = shape
            counter = "contrast" if is_map(self.path) else "phase"
            self._at = {Place(s, **{counter: t}): (t, s) for t, s in np.ndindex(n_times, n_slices)}
            self.image_size = plane[0], plane[1]
        self.places = list(self._at)
        self._mask = (
            None if self.facts["sampling"] == "full" else self._read_mask(n_times, (plane[0], plane[1]))
        )
        self._volume: tuple[tuple[int, int], Samples, Mask] | None = None

    @property
    def shape(self) -> tuple[int, int, int]:
        """See `ScanFile.shape`."""
        n_coils = self._file.arrays[self._name].shape[-4 if self._is_volume else -3]
        return n_coils, *self.image_size

    def measured(self, place: Place) -> MeasuredSlice:
        """See `ScanFile.measured`.

        Of volumes along their readout, the last that was asked for is kept: ask position by position.

        Raises:
            CounterError: there is no such image.
            FileFormatError: the file is damaged, or has samples outside of its mask.
        """
        if place not in self._at:
            raise CounterError(f"{self.path} has no image at {place}; `places` has all there are")
        at = self._at[place]
        if self._is_volume:
            kspace, acquired = self._plane(at, place.slice)
        else:
            kspace = self._file.read(self._name, at[self._n_dropped :])
            acquired = (kspace != 0).any(0)
        if self._mask is not None:
            time = at[1] if self._is_volume else at[0]
            if outside := int((acquired & ~self._mask[time]).sum()):
                raise FileFormatError(
                    f"{self.path}: {outside} samples of {place} lie outside of the mask in {self.facts['mask']}, "
                    "so that they are not of one scan; fetch both again"
                )
        return MeasuredSlice(kspace, whole_lines(acquired))

    def close(self) -> None:
        """See `ScanFile.close`."""
        self._volume = None
        self._file.close()

    def _plane(self, at: tuple[int, int], x: int) -> tuple[Samples, Mask]:
        """K-space ``(coil, ky, kz)`` of a position along the readout, and what was acquired, ``(ky, kz)``."""
        if self._volume is None or self._volume[0] != at:
            kspace = self._file.read(self._name, at[self._n_dropped :])
            acquired = (kspace != 0).any((0, 3))
            self._volume = at, centred_ifft(kspace, axes=(-1,)).astype(np.complex64, copy=False), acquired
        _, volume, acquired = self._volume
        return np.ascontiguousarray(volume[..., x].swapaxes(-1, -2)), np.ascontiguousarray(acquired.T)

    def _read_mask(self, n_times: int, plane: tuple[int, int]) -> Mask | None:
        """The mask beside the file, ``(time, k1, k0)``; None without one.

        Args:
            n_times: times of k-space.
            plane: axes of the mask as the file has them: (ky, kx), or (kz, ky) of volumes.
        """
        beside = next((file for file in mask_files(self.path) if file.exists()), None)
        if beside is None:
            return None
        self.facts["mask"] = beside.name
        # A file may hold the masks of several accelerations.
        several = self._name.startswith("kspace_sub")
        names = re.compile(_mask_name(self._name)) if several else _MASK
        with open_mat(beside) as file, naming(beside):
            name = _only(file, names, f"masks, such as {_mask_name(self._name)}")
            mask = np.squeeze(file.read(name)) != 0
            if mask.shape not in (plane, (n_times, *plane)):
                raise FileFormatError(
                    f"'{name}' has the shape {mask.shape} without axes of one entry, expected {plane} or "
                    f"{(n_times, *plane)}, as k-space has"
                )
        mask = np.broadcast_to(mask, (n_times, *plane))
        return mask.swapaxes(-1, -2) if self._is_volume else mask


def _only(file: MatFile, names: re.Pattern[str], what: str) -> str:
    found = [name for name in file.arrays if names.fullmatch(name)]
    if len(found) != 1:
        raise FileFormatError(
            f"it has {len(found)} arrays of {what}, expected one; it holds {', '.join(file.arrays) or 'nothing'}"
        )
    return found[0]


def _sampling(path: Path, name: str) -> str:
    if name.endswith("_full") or (name == "kspace" and not is_undersampled(path)):
        return "full"
    pattern = _PATTERN.search(path.stem)
    return pattern[1] if pattern else name.removeprefix("kspace_")


def write_cmrxrecon(
    path: Path,
    coil_images: npt.NDArray[np.complexfloating[Any, Any]],
    *,
    name: str = "kspace_full",
    mask: Mask | None = None,
    single: bool = False,
) -> None:
    """Write a file of MATLAB's version 7.3 as the challenges have them, from images whose truth is known.

    Args:
        path: the file, in the challenge's folders; they are made.
        coil_images: ``([time, slice,] coil, k1, k0)``, or for names in ``kdata_`` volumes ``([velocity encoding,
            time,] coil, kz, ky, kx)``; axes in brackets may be left out, the slowest first.
        name: of the array.
        mask: ``([time,] ky, kx)``, or ``([time,] kz, ky)`` of volumes: which samples are kept. It is written to the
            file in which the challenge has it.
        single: single precision instead of double.
    """
    is_volume = name.startswith("kdata_")
    kspace = centred_fft(coil_images, axes=(-3, -2, -1) if is_volume else (-2, -1))
    if mask is not None:
        over = np.expand_dims(mask, 1 if is_volume else (1, 2)) if mask.ndim == 3 else mask
        kspace = kspace * (over[..., None] if is_volume else over)
    path.parent.mkdir(parents=True, exist_ok=True)
    real = "<f4" if single else "<f8"
    stored = np.empty(kspace.shape, [("real", real), ("imag", real)])
    stored["real"], stored["imag"] = kspace.real, kspace.imag
    _save(path, name, stored, "single" if single else "double")
    if mask is not None:
        beside = mask_files(path)[0]
        beside.parent.mkdir(parents=True, exist_ok=True)
        whole = mask.reshape(1, -1, 1, *mask.shape[-2:], 1) if is_volume else mask
        _save(beside, _mask_name(name), whole.astype(np.float64), "double")


def _mask_name(name: str) -> str:
    """What the mask of an array is called."""
    if name.startswith("kdata_"):
        return name.replace("kdata_", "usmask_")
    return name.replace("kspace_sub", "mask") if name.startswith("kspace_sub") else "mask"


def _save(path: Path, name: str, array: npt.NDArray[Any], kind: str) -> None:
    """One array, each of its images apart and compressed, behind the 512 bytes that make the file MATLAB's."""
    with h5py.File(path, "w", userblock_size=512) as file:
        chunks = (1,) * (array.ndim - 3) + array.shape[-3:]
        made = file.create_dataset(name, data=array, chunks=chunks, compression="gzip")
        made.attrs["MATLAB_class"] = np.bytes_(kind)
    with path.open("r+b") as raw:
        raw.write(b"MATLAB 7.3 MAT-file, Platform: GLNXA64".ljust(124) + b"\x00\x02IM")
