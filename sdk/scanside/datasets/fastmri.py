"""fastMRI, knees and brains (Zbontar et al., arXiv 1811.08839), and single-coil knees.

``kspace`` is ``(slice, coil, row, column)``, rows along the readout, which is oversampled, and columns along the
phase encoding; of single-coil files ``(slice, row, column)``. Columns beyond those that the header counts are
padding. Files of the test have a ``mask`` of columns, and no reconstruction.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt

from scanside.datasets.fourier import centred_fft, centred_ifft, middle
from scanside.datasets.m4raw import has_signs_of_m4raw
from scanside.datasets.scan_file import Hdf5ScanFile, MeasuredSlice, Place, dataset, naming, text
from scanside.errors import FileFormatError
from scanside.mrd.header import MrdHeader

__all__ = ["FastMriFile", "header_xml", "write_fastmri"]

_REFERENCES = ("reconstruction_rss", "reconstruction_esc")


class FastMriFile(Hdf5ScanFile):
    """A file of fastMRI's knees or brains."""

    FORMAT = "fastmri"

    @classmethod
    def _has_its_signs(cls, file: h5py.File) -> bool:
        return (
            {"kspace", "ismrmrd_header"} <= set(file)
            and "acquisition" in file.attrs
            and getattr(file["kspace"], "ndim", 0) < 5  # five axes are fastMRI's prostates
            and not has_signs_of_m4raw(file)  # which is laid out in the same way
        )

    def _look_into(self, file: h5py.File) -> None:
        kspace = dataset(file, "kspace", (3, 4), "(slice, coil, row, column), or without coils")
        if not np.issubdtype(kspace.dtype, np.complexfloating):
            raise FileFormatError(f"'kspace' holds {kspace.dtype}, expected complex numbers")
        if "patient_id" not in file.attrs:
            raise FileFormatError(
                "it has no attribute 'patient_id', and files of one examination must stay together"
            )
        self.header = text(file, "ismrmrd_header")
        header = MrdHeader.parse(self.header)
        encoding = header.encoding(0)
        self.subject = str(file.attrs["patient_id"])
        self.facts = {"acquisition": str(file.attrs.get("acquisition", "")), "part": self._part(file)}
        self.places = [Place(number) for number in range(kspace.shape[0])]
        self._acquired, self.first_line = _columns(file, kspace.shape[-1], header)
        rows, columns = kspace.shape[-2:]
        # The header's matrix is (x, y, z), and rows are x; some files are narrower than their images.
        self.image_size = min(encoding.recon.matrix[1], columns), min(encoding.recon.matrix[0], rows)

    @property
    def shape(self) -> tuple[int, int, int]:
        """See `ScanFile.shape`."""
        kspace = self._file["kspace"]
        return (kspace.shape[1] if kspace.ndim == 4 else 1), kspace.shape[-1], kspace.shape[-2]

    def measured(self, place: Place) -> MeasuredSlice:
        """See `ScanFile.measured`."""
        with naming(self.path):
            found = self._file["kspace"][place.slice]
        coils = found if found.ndim == 3 else found[None]
        # In memory as in the file, along columns: to put 15 coils into another order takes as long as to read them.
        kspace = coils.astype(np.complex64, copy=False).swapaxes(-1, -2)
        kspace[:, ~self._acquired] = 0
        return MeasuredSlice(kspace, self.acquired(place))

    def acquired(self, place: Place) -> npt.NDArray[np.bool_]:
        """See `ScanFile.acquired`."""
        return self._acquired[:, None]

    def reference(self, place: Place) -> npt.NDArray[np.float32] | None:
        """See `ScanFile.reference`."""
        with naming(self.path):
            for name in _REFERENCES:
                if name in self._file:
                    return np.ascontiguousarray(self._file[name][place.slice].T, np.float32)
        return None

    @staticmethod
    def _part(file: h5py.File) -> str:
        return "test" if "mask" in file else "training or validation"


def _columns(file: h5py.File, n: int, header: MrdHeader) -> tuple[npt.NDArray[np.bool_], int]:
    """Which columns were acquired, ``(n,)``, and which of them the header counts as 0."""
    encoding = header.encoding(0)
    limit = encoding.limit("kspace_encode_step_1")
    first = encoding.encoded.matrix[1] // 2 - limit.center
    last = first + limit.maximum + 1
    if not 0 <= first < last <= n:
        raise FileFormatError(
            f"its header puts lines 0 to {limit.maximum} with the centre {limit.center} on columns {first} to "
            f"{last - 1}, and 'kspace' has {n}: header and data are not of one scan"
        )
    acquired = np.zeros(n, np.bool_)
    acquired[first:last] = True
    if "mask" in file:
        mask = np.asarray(file["mask"])
        if mask.shape != (n,):
            raise FileFormatError(f"'mask' has the shape {mask.shape}, and 'kspace' has {n} columns")
        acquired &= mask.astype(np.bool_)
    return acquired, first


def write_fastmri(
    path: Path,
    coil_images: npt.NDArray[np.complexfloating[Any, Any]],
    *,
    patient: str,
    acquisition: str = "CORPD_FBK",
    image_size: tuple[int, int],
    padding: tuple[int, int] = (0, 0),
    mask: npt.NDArray[np.bool_] | None = None,
) -> None:
    """Write a file as fastMRI has them, from images whose truth is known.

    Args:
        path: the file.
        coil_images: ``(slice, coil, k1, k0)``, the whole encoded field of view: the readout's is oversampled.
        patient: ``patient_id``.
        acquisition: what is said of the contrast.
        image_size: (k1, k0) of the reconstruction.
        padding: columns without data at the low and the high end.
        mask: ``(k1,)``, columns that a file of the test has; it then has no reconstruction.
    """
    n1, n0 = coil_images.shape[-2:]
    acquired = np.zeros(n1, np.bool_)
    acquired[padding[0] : n1 - padding[1]] = True
    kspace = centred_fft(coil_images) * acquired[:, None]
    images = centred_ifft(kspace)
    rss = middle(np.sqrt((np.abs(images) ** 2).sum(1)), image_size).swapaxes(-1, -2)
    n_lines = int(acquired.sum())
    header = header_xml((n1, n0), image_size, n_lines, n1 // 2 - padding[0])
    with h5py.File(path, "w") as file:
        kept = kspace if mask is None else kspace * mask[:, None]
        file["kspace"] = kept.swapaxes(-1, -2).astype(np.complex64)
        file["ismrmrd_header"] = header.encode()
        if mask is None:
            file["reconstruction_rss"] = rss.astype(np.float32)
        else:
            file["mask"] = mask
        file.attrs.update(
            acquisition=acquisition, patient_id=patient, max=float(rss.max()), norm=float(np.linalg.norm(rss))
        )


_PIXEL_MM = 0.4375
"""Of knees."""


def header_xml(matrix: tuple[int, int], image_size: tuple[int, int], n_lines: int, center: int) -> str:
    """A header as scans of fastMRI have them, for writers of such files.

    Args:
        matrix: (k1, k0) that is encoded.
        image_size: (k1, k0) of the reconstruction.
        n_lines: that are acquired.
        center: which of them goes through the middle of k-space.
    """
    lengths = {"k0": matrix[1], "k1": matrix[0], "rows": image_size[1], "columns": image_size[0]}
    fields = {f"mm_{name}": _PIXEL_MM * n for name, n in lengths.items()}
    return _HEADER.format(**lengths, **fields, last=n_lines - 1, center=center)


_HEADER = """<?xml version="1.0" encoding="utf-8"?>
<ismrmrdHeader xmlns="http://www.ismrm.org/ISMRMRD">
  <experimentalConditions><H1resonanceFrequency_Hz>123194105</H1resonanceFrequency_Hz></experimentalConditions>
  <encoding>
    <encodedSpace>
      <matrixSize><x>{k0}</x><y>{k1}</y><z>1</z></matrixSize>
      <fieldOfView_mm><x>{mm_k0}</x><y>{mm_k1}</y><z>4.5</z></fieldOfView_mm>
    </encodedSpace>
    <reconSpace>
      <matrixSize><x>{rows}</x><y>{columns}</y><z>1</z></matrixSize>
      <fieldOfView_mm><x>{mm_rows}</x><y>{mm_columns}</y><z>4.5</z></fieldOfView_mm>
    </reconSpace>
    <encodingLimits>
      <kspace_encoding_step_1><minimum>0</minimum><maximum>{last}</maximum><center>{center}</center></kspace_encoding_step_1>
    </encodingLimits>
    <trajectory>cartesian</trajectory>
  </encoding>
</ismrmrdHeader>
"""
"""A header as fastMRI's, with the sizes that the images of a file need."""
