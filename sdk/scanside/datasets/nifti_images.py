"""Magnitude images in NIfTI files, read and written by nibabel.

NIfTI's coordinates grow to the patient's right, front and head (RAS), those of ISMRMRD, DICOM and Scanside to the
left, back and head (LPS). A file's affine says where its axes run, in whatever order and direction; here they are
turned to how radiologists look at them, without interpolation: axial rows run to the back and columns to the left,
coronal rows to the feet and columns to the left, sagittal rows to the feet and columns to the back.
"""

from __future__ import annotations

import re
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from scanside.datasets.image_file import ImageFile
from scanside.datasets.scan_file import Place, naming
from scanside.errors import CounterError, FileFormatError, MissingExtra

if TYPE_CHECKING:
    from types import ModuleType

__all__ = ["NIFTI_SUFFIXES", "NiftiFile", "is_nifti", "write_nifti"]

NIFTI_SUFFIXES = (".nii", ".nii.gz")

_BIDS_SUBJECT = re.compile(r"(sub-[0-9A-Za-z]+)_")
_VIEWS = {"axial": "SPL", "coronal": "AIL", "sagittal": "LIP"}
"""Where slices, rows and columns run to."""
_ACROSS = {"S": "axial", "I": "axial", "A": "coronal", "P": "coronal", "L": "sagittal", "R": "sagittal"}


class NiftiFile(ImageFile):
    """A NIfTI file of images, scaled as it says; a fourth axis is `Place.phase`.

    The subject is that of BIDS, ``sub-…`` in the file's name, or else the name. Slices lie along the axis with the
    largest voxels, the last one of equal ones.
    """

    FORMAT = "nifti"
    SUFFIXES = NIFTI_SUFFIXES

    def __init__(self, path: Path) -> None:
        self.path = path
        if not path.exists():
            raise FileNotFoundError(f"{path} does not exist")
        nibabel = _nibabel()
        try:
            file = nibabel.load(path)
            with naming(path):
                self._look_into(nibabel, file)
        except (nibabel.filebasedimages.ImageFileError, EOFError, zlib.error) as error:
            raise FileFormatError(f"{path}: is no NIfTI file, or is cut short: {error}") from error

    def _look_into(self, nibabel: ModuleType, file: Any) -> None:
        shape, kind = file.shape, file.get_data_dtype()
        if not 2 <= len(shape) <= 4 or min(shape) < 1 or kind.kind not in "iuf":
            raise FileFormatError(
                f"holds {kind} of the shape {shape}, expected real numbers (x, y, z), or with time"
            )
        bids = _BIDS_SUBJECT.match(self.path.name)
        self.subject = bids[1] if bids else self.path.name.removesuffix(".gz").removesuffix(".nii")
        values = file.get_fdata(dtype=np.float32)
        while values.ndim < 4:
            values = values[..., None]
        io = nibabel.orientations
        sizes = nibabel.affines.voxel_sizes(file.affine)
        across = max(range(3), key=lambda axis: (round(float(sizes[axis]), 3), axis))
        view = _ACROSS[nibabel.aff2axcodes(file.affine)[across]]
        # Slices, rows and columns, along the patient's axes that are closest.
        turn = io.ornt_transform(io.io_orientation(file.affine), _ornt(io, _VIEWS[view]))
        self._volume = np.ascontiguousarray(np.moveaxis(io.apply_orientation(values, turn), -1, 0))
        order = np.argsort(turn[:, 0])
        slices, rows, columns = (float(sizes[axis]) for axis in order)
        self.voxel_mm = slices, rows, columns
        known = file.header["sform_code"] > 0 or file.header["qform_code"] > 0
        self.facts = {"plane": view if known else f"not told, taken as {view} by NIfTI's default"}
        n_times, n_slices, *_ = self._volume.shape
        self.places = [Place(number, phase=time) for time in range(n_times) for number in range(n_slices)]
        self.shape = self._volume.shape[2], self._volume.shape[3]
        self.labels = {}

    @classmethod
    def recognises(cls, path: Path) -> bool:
        """See `ImageFile.recognises`."""
        return is_nifti(path)

    def image(self, place: Place) -> npt.NDArray[np.float32]:
        """See `ImageFile.image`."""
        if place not in self.places:
            raise CounterError(f"{self.path} has no image at {place}; `places` has all there are")
        return np.ascontiguousarray(self._volume[place.phase, place.slice], np.float32)


def is_nifti(path: Path) -> bool:
    """Whether a file's name says that it is of NIfTI."""
    return path.name.lower().endswith(NIFTI_SUFFIXES)


def write_nifti(
    path: Path,
    values: npt.NDArray[Any],
    affine_ras: npt.NDArray[np.float64] | None,
    voxel_mm: tuple[float, float, float],
) -> None:
    """Write a volume.

    Args:
        path: the file, ``.nii`` or ``.nii.gz``.
        values: ``(x, y, z)``, or with time as the fourth axis, of a type that NIfTI has.
        affine_ras: ``(4, 4)``, takes indices (x, y, z, 1) to RAS mm; None where nothing tells. The file then says
            so, by codes of 0, and has only the voxels' size.
        voxel_mm: size of voxels along x, y, z.

    Raises:
        FileFormatError: NIfTI has no such numbers.
        MissingExtra: nibabel is not installed.
    """
    nibabel = _nibabel()
    try:
        image = nibabel.Nifti1Image(values, affine_ras)
    except nibabel.spatialimages.HeaderDataError as error:
        raise FileFormatError(f"{path}: NIfTI has no numbers of type {values.dtype}: {error}") from error
    image.header.set_xyzt_units("mm")
    if affine_ras is None:
        image.header.set_zooms((*voxel_mm, 1.0)[: values.ndim])
    else:
        # Both, as some programs look at one only; 1: the scanner's coordinates.
        image.set_sform(affine_ras, 1)
        image.set_qform(affine_ras, 1)
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(image, path)


def _ornt(orientations: Any, codes: str) -> Any:
    return orientations.axcodes2ornt(tuple(codes))


def _nibabel() -> Any:
    try:
        import nibabel
    except ImportError:
        raise MissingExtra("nibabel", "nifti", "NIfTI") from None
    return nibabel
