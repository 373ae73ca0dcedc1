"""Public data sets of measured k-space, and of magnitude images, read where they lie, one image at a time.

::

    with open_scan_file(Path("file1000001.h5")) as file:        # fastMRI
        slice_ = file.measured(file.places[0])                  # (coil, k1, k0), and what was acquired
        truth = file.reference(file.places[0])

A data set of one's own is a subclass of `ScanFile` in the entry points ``scanside.datasets``, or of `ImageFile` in
``scanside.image_datasets``.
"""

from __future__ import annotations

from scanside.datasets.image_file import Box, ImageFile
from scanside.datasets.opening import DATASETS, IMAGE_DATASETS, open_image_file, open_scan_file
from scanside.datasets.scan_file import MeasuredSlice, Place, ScanFile

__all__ = [
    "DATASETS",
    "IMAGE_DATASETS",
    "Box",
    "ImageFile",
    "MeasuredSlice",
    "Place",
    "ScanFile",
    "open_image_file",
    "open_scan_file",
]
