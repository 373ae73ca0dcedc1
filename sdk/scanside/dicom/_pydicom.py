"""What is used of pydicom, or an error that says what to install."""

from __future__ import annotations

from scanside.errors import MissingExtra

try:
    from pydicom import dcmread
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.sequence import Sequence
    from pydicom.uid import UID, ExplicitVRLittleEndian, MRImageStorage
    from pydicom.valuerep import format_number_as_ds
except ImportError as error:
    raise MissingExtra("pydicom", "dicom", "writing DICOM") from error

__all__ = [
    "UID",
    "Dataset",
    "ExplicitVRLittleEndian",
    "FileMetaDataset",
    "MRImageStorage",
    "Sequence",
    "dcmread",
    "format_number_as_ds",
]
