"""M4Raw, brains at 0.3 T in several repetitions (Lyu et al., Sci Data 2023;10:264).

``kspace`` is ``(slice, coil, row, column)``, rows along the readout, and columns along the phase encoding. Columns at
both ends were not acquired and are 0; 30 to 224 of 256 were. A file is one repetition of one contrast, and its name
alone says which: ``STUDY_CONTRASTnn.h5``. The header has ISMRMRD's namespace, but elements of its own and words where
numbers belong: it tells where a file is from, and nothing else is taken from it.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt

from scanside.datasets.fourier import centred_fft, centred_ifft
from scanside.datasets.scan_file import Hdf5ScanFile, MeasuredSlice, Place, dataset, naming, text
from scanside.errors import FileFormatError, ScansideError
from scanside.mrd.header_elements import all_of, name_of, read_document

__all__ = ["M4RawFile", "has_signs_of_m4raw", "siblings", "write_m4raw"]

_NAME = re.compile(r"(?P<study>\d+)_(?P<contrast>T1|T2|FLAIR|GRE)(?P<repetition>0[1-9]|[1-9]\d)\.h5")
_VENDOR = "xingaoyi"
_REFERENCE = "reconstruction_rss"


class M4RawFile(Hdf5ScanFile):
    """A file of M4Raw: one repetition of one contrast."""

    FORMAT = "m4raw"

    @classmethod
    def _has_its_signs(cls, file: h5py.File) -> bool:
        return {"kspace", "ismrmrd_header"} <= set(file) and has_signs_of_m4raw(file)

    def _look_into(self, file: h5py.File) -> None:
        self.facts = _parts_of(self.path)
        kspace = dataset(file, "kspace", (4,), "(slice, coil, row, column)")
        if not np.issubdtype(kspace.dtype, np.complexfloating):
            raise FileFormatError(f"'kspace' holds {kspace.dtype}, expected complex numbers")
        if "patient_id" not in file.attrs:
            raise FileFormatError(
                "it has no attribute 'patient_id', and files of one person must stay together"
            )
        self.subject = str(file.attrs["patient_id"])
        n, _, rows, columns = kspace.shape
        if _REFERENCE in file:
            shape = dataset(file, _REFERENCE, (3,), "(slice, row, column)").shape
            if shape != (n, rows, columns):
                raise FileFormatError(
                    f"'{_REFERENCE}' has the shape {shape}, expected that of 'kspace' without coils, "
                    f"{(n, rows, columns)}"
                )
        repetition = int(self.facts["repetition"]) - 1
        self.places = [Place(number, repetition=repetition) for number in range(n)]
        self.image_size = columns, rows
        self._acquired = _columns(kspace[n // 2])

    @property
    def shape(self) -> tuple[int, int, int]:
        """See `ScanFile.shape`."""
        _, n_coils, rows, columns = self._file["kspace"].shape
        return n_coils, columns, rows

    def acquired(self, place: Place) -> npt.NDArray[np.bool_]:
        """See `ScanFile.acquired`: all slices are acquired alike."""
        return self._acquired[:, None]

    def measured(self, place: Place) -> MeasuredSlice:
        """See `ScanFile.measured`."""
        with naming(self.path):
            found = self._file["kspace"][place.slice]
            if not np.array_equal(found.any((0, 1)), self._acquired):
                raise FileFormatError(
                    f"slice {place.slice} of 'kspace' has data in other columns than the middle slice: the file is "
                    "damaged"
                )
        return MeasuredSlice(
            np.ascontiguousarray(found.swapaxes(-1, -2), np.complex64), self._acquired[:, None]
        )

    def reference(self, place: Place) -> npt.NDArray[np.float32] | None:
        """See `ScanFile.reference`. It is of this repetition alone; see `siblings`."""
        with naming(self.path):
            if _REFERENCE not in self._file:
                return None
            return np.ascontiguousarray(self._file[_REFERENCE][place.slice].T, np.float32)


def has_signs_of_m4raw(file: h5py.File) -> bool:
    """Whether a file that is laid out as those of fastMRI and M4Raw are is one of M4Raw.

    The header tells: by its list of repetitions, which ISMRMRD does not have, or by who built the scanner. Only where
    it says neither does the file's name decide.
    """
    try:
        header, _ = read_document(text(file, "ismrmrd_header"))
    except ScansideError:
        header = None
    if header is not None:
        if any(name_of(one) == "repetitionInformation" for one in header.iter()):
            return True
        vendors = [one.text or "" for one in all_of(header, "acquisitionSystemInformation", "systemVendor")]
        if any(vendor.strip() for vendor in vendors):
            return any(_VENDOR in vendor.lower() for vendor in vendors)
    return _NAME.fullmatch(Path(file.filename).name) is not None


def siblings(path: Path) -> list[Path]:
    """The repetitions of a file's study and contrast that lie in its folder, in their order, itself among them.

    The usual reference is the average of their root-sum-of-squares images, since the phase differs from repetition to
    repetition. It hides motion between them: what moved is blurred in it, and a reconstruction of one repetition that
    shows it sharp counts as wrong.

    Raises:
        FileFormatError: the name is none of M4Raw's.
        FileNotFoundError: there is no such folder.
    """
    with naming(path):
        own = _parts_of(path)
    found = [one for one in path.parent.iterdir() if _NAME.fullmatch(one.name)]
    shared = ("study", "contrast")
    # Two digits are in the order of their numbers.
    return sorted(one for one in found if all(_parts_of(one)[name] == own[name] for name in shared))


def _parts_of(path: Path) -> dict[str, str]:
    """Study, contrast and repetition, as a file's name has them."""
    found = _NAME.fullmatch(path.name)
    if found is None:
        raise FileFormatError(
            "the name does not say study, contrast and repetition, as 2022061003_T201.h5 does (contrasts T1, T2, "
            "FLAIR and GRE, two digits from 01 on), and nothing else in the file does: give it its name back"
        )
    return found.groupdict()


def _columns(kspace: npt.NDArray[np.complexfloating[Any, Any]]) -> npt.NDArray[np.bool_]:
    """Which columns were acquired, ``(column,)``, of ``(coil, row, column)``.

    The data tell, since noise is never 0. What else is filled in would be taken for measured, so all but one block
    with zeros on both sides is refused.
    """
    acquired = np.asarray(kspace.any((0, 1)))
    n = acquired.size
    found = np.flatnonzero(acquired)
    if not found.size:
        raise FileFormatError("the middle slice of 'kspace' is all zero")
    first, last = int(found[0]), int(found[-1])
    if found.size != last - first + 1 or not 0 < first <= n // 2 <= last < n - 1:
        raise FileFormatError(
            f"'kspace' has data in {found.size} columns from {first} to {last}, expected one block around the "
            f"centre, column {n // 2}, with zeros on both sides"
        )
    return acquired


def write_m4raw(
    path: Path,
    coil_images: npt.NDArray[np.complexfloating[Any, Any]],
    *,
    patient: str,
    columns: tuple[int, int],
) -> None:
    """Write a file as M4Raw has them, from images whose truth is known.

    Args:
        path: the file; its name says study, contrast and repetition.
        coil_images: ``(slice, coil, k1, k0)``.
        patient: ``patient_id``.
        columns: the first and the last one that is acquired: (30, 224) of M4Raw's 256.

    Raises:
        FileFormatError: the name is none of M4Raw's.
    """
    with naming(path):
        parts = _parts_of(path)
    acquired = np.zeros(coil_images.shape[-2], np.bool_)
    acquired[columns[0] : columns[1] + 1] = True
    kspace = centred_fft(coil_images) * acquired[:, None]
    rss = np.sqrt((np.abs(centred_ifft(kspace)) ** 2).sum(1)).swapaxes(-1, -2)
    with h5py.File(path, "w") as file:
        file["kspace"] = kspace.swapaxes(-1, -2).astype(np.complex64)
        file[_REFERENCE] = rss.astype(np.float32)
        file["ismrmrd_header"] = _HEADER.format(**parts).encode()
        file.attrs.update(acquisition=f"AX{parts['contrast']}", patient_id=patient, max=float(rss.max()))


_HEADER = """<?xml version="1.0" encoding="utf-8"?>
<ns0:ismrmrdHeader xmlns:ns0="http://www.ismrm.org/ISMRMRD">
  <ns0:measurementInformation>
    <ns0:measurementID>{study}_{contrast}{repetition}</ns0:measurementID>
    <ns0:protocolName>{contrast}_5mm_TRA</ns0:protocolName>
    <ns0:repetitionInformation><ns0:repetitionID>{study}_{contrast}01</ns0:repetitionID></ns0:repetitionInformation>
  </ns0:measurementInformation>
  <ns0:acquisitionSystemInformation>
    <ns0:systemVendor>XinGaoYi Medical Equipment Co.,Ltd.</ns0:systemVendor>
    <ns0:systemModel>XGY OPER-0.3</ns0:systemModel>
    <ns0:institutionName>a hospital</ns0:institutionName>
  </ns0:acquisitionSystemInformation>
  <ns0:sequenceParameters>
    <ns0:TR>500.0</ns0:TR>
    <ns0:TE>18.4</ns0:TE>
    <ns0:flipAngle_deg>90</ns0:flipAngle_deg>
    <ns0:sequence_type>SE</ns0:sequence_type>
    <ns0:echo_train_length>1</ns0:echo_train_length>
    <ns0:echo_spacing>N/A</ns0:echo_spacing>
  </ns0:sequenceParameters>
</ns0:ismrmrdHeader>
"""
