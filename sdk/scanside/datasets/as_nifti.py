"""Images as NIfTI files: those of ISMRMRD files, and the reconstructions that come with files of data sets."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from scanside.datasets.nifti_images import write_nifti
from scanside.datasets.scan_file import Place, ScanFile
from scanside.errors import ConfigError, FileFormatError
from scanside.mrd.geometry import Geometry
from scanside.mrd.hdf5 import Hdf5Reader
from scanside.mrd.header import MrdHeader
from scanside.mrd.messages import ImageMessage

__all__ = ["images_as_nifti", "reference_as_nifti"]

_OTHERS = ("contrast", "phase", "repetition", "set", "average")
_SAME_PLACE_MM = 0.01
"""How far slices may be from an even spacing; headers keep positions as float32."""

Stack = dict[int, tuple[Geometry, npt.NDArray[Any]]]


def images_as_nifti(path: Path, output: Path, group: str | None = None, series: str | None = None) -> int:
    """Write the images of an ISMRMRD file as one volume, or as several along the fourth axis.

    Voxels keep the order of the image: x, y, z, wherever these run, which the affine says. Slices are sorted by where
    they lie. An image whose header does not tell where it lies becomes a file that does not tell either.

    Args:
        path: the file, as ``scanside replay`` writes it.
        output: ``.nii`` or ``.nii.gz``.
        group: of the HDF5 file; by default ``dataset`` or the only one.
        series: of the group; by default the only one.

    Returns:
        How many images were written.

    Raises:
        ConfigError: there are several series, and none was chosen.
        FileFormatError: there are no images, or no volume can be made of them.
        MissingExtra: nibabel is not installed.
    """
    with Hdf5Reader(path, group) as reader:
        known = reader.image_series()
        if not known:
            raise FileFormatError(f"{path} holds no images: reconstruct it first (scanside replay)")
        if series is None and len(known) > 1:
            raise ConfigError(
                f"{path} holds the series {', '.join(known)}, and a NIfTI file one: choose it (--series)"
            )
        images = list(reader.images(series or known[0]))
    volumes = _volumes(path, images)
    affine, voxel_mm = _placed(path, next(iter(volumes.values())))
    arrays = []
    for counters, stack in volumes.items():
        own, _ = _placed(path, stack)
        if (own is None) != (affine is None) or (
            own is not None and affine is not None and not np.allclose(own, affine, atol=_SAME_PLACE_MM)
        ):
            told = ", ".join(f"{name} {n}" for name, n in zip(_OTHERS, counters, strict=True))
            raise FileFormatError(
                f"{path}: the volume of {told} lies elsewhere than the first: write them apart"
            )
        arrays.append(np.concatenate([data for _, data in _sorted(stack)]).T)
    write_nifti(output, _joined(path, arrays), affine, voxel_mm)
    return len(images)


def reference_as_nifti(
    file: ScanFile, output: Path, progress: Callable[[int, int | None], None] | None = None
) -> None:
    """Write the reconstruction that comes with a file: x along k0, y along k1, z along the slices.

    Data sets do not say where their images lie. Pixels have the size that the file's header tells, or else 1 mm.

    Args:
        file: of a data set.
        output: ``.nii`` or ``.nii.gz``.
        progress: told how many images are done, and how many there are.

    Raises:
        FileFormatError: the file has no reconstruction, or is damaged.
        MissingExtra: nibabel is not installed.
    """
    stacks: dict[tuple[int, ...], dict[int, npt.NDArray[np.float32]]] = {}
    for done, place in enumerate(file.places, start=1):
        image = file.reference(place)
        if image is None:
            raise FileFormatError(
                f"{file.path} comes without a reconstruction of {_told(place)}: reconstruct it (scanside replay), "
                "and convert the images"
            )
        stacks.setdefault(place[1:], {})[place.slice] = image
        if progress is not None:
            progress(done, len(file.places))
    arrays = [np.stack([stack[number] for number in sorted(stack)]).T for stack in stacks.values()]
    voxel_mm = (1.0, 1.0, 1.0)
    if file.header is not None:
        voxel_mm = MrdHeader.parse(file.header).encoding(0).recon.voxel_mm
    write_nifti(output, _joined(file.path, arrays), None, voxel_mm)


def _volumes(path: Path, images: Iterable[ImageMessage]) -> dict[tuple[int, ...], Stack]:
    """Images by their slice, of each combination of the other counters."""
    volumes: dict[tuple[int, ...], Stack] = {}
    for image in images:
        n_channels, n_z, _, _ = image.data.shape
        if n_channels != 1:
            raise FileFormatError(
                f"{path} holds images of {n_channels} channels, and NIfTI has no axis for them"
            )
        key = tuple(int(image.header[name]) for name in _OTHERS)
        stack, number = volumes.setdefault(key, {}), int(image.header["slice"])
        if number in stack:
            raise FileFormatError(f"{path} holds two images of slice {number} with the same counters")
        stack[number] = Geometry.from_image_header(image.header), image.data[0]
        if n_z > 1 and len(stack) > 1:
            raise FileFormatError(f"{path} holds several volumes as slices, and a NIfTI file one stack")
    return dict(sorted(volumes.items()))


def _placed(path: Path, stack: Stack) -> tuple[npt.NDArray[np.float64] | None, tuple[float, float, float]]:
    """Affine (RAS) and voxel size of a stack; no affine where headers do not tell where it lies."""
    geometries = [geometry for geometry, _ in _sorted(stack)]
    first, last = geometries[0], geometries[-1]
    x, y, z = (float(size) for size in first.voxel_size_mm)
    if any(geometry.assumed for geometry in geometries):
        return None, (x, y, z)
    n = len(geometries)
    if n == 1:
        return first.affine_ras, (x, y, z)
    step = (last.position - first.position) / (n - 1)
    if not np.linalg.norm(step) > _SAME_PLACE_MM:
        return None, (x, y, z)
    for number, geometry in enumerate(geometries):
        off_mm = float(np.linalg.norm(geometry.position - first.position - number * step))
        turned = np.abs(geometry.directions - first.directions).max() > _SAME_PLACE_MM / max(
            first.field_of_view_mm
        )
        if off_mm > _SAME_PLACE_MM or turned or geometry.matrix != first.matrix:
            raise FileFormatError(
                f"{path}: slices are no even stack ({off_mm:.2f} mm off, or turned, or of another matrix), and a "
                "NIfTI file is one: write them apart"
            )
    affine = first.affine_ras
    affine[:3, 2] = np.diag([-1.0, -1.0, 1.0]) @ step
    return affine, (x, y, float(np.linalg.norm(step)))


def _sorted(stack: Stack) -> list[tuple[Geometry, npt.NDArray[Any]]]:
    """By where they lie along the slice direction, or by their number where that is not told."""
    ordered = [stack[number] for number in sorted(stack)]
    return sorted(ordered, key=lambda one: 0.0 if one[0].assumed else round(one[0].slice_offset_mm, 3))


def _joined(path: Path, arrays: list[npt.NDArray[Any]]) -> npt.NDArray[Any]:
    """One volume, or several along the fourth axis."""
    if len({array.shape for array in arrays}) > 1:
        raise FileFormatError(
            f"{path}: volumes have the shapes {', '.join(str(array.shape) for array in arrays)}, and a NIfTI file one"
        )
    return arrays[0] if len(arrays) == 1 else np.stack(arrays, -1)


def _told(place: Place) -> str:
    return ", ".join(f"{name} {n}" for name, n in place._asdict().items() if n or name == "slice")
