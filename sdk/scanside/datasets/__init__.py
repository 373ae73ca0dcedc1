"""Public data sets of measured k-space, read where they lie, one image at a time.

::

    with open_scan_file(Path("file1000001.h5")) as file:        # fastMRI
        slice_ = file.measured(file.places[0])                  # (coil, k1, k0), and what was acquired
        truth = file.reference(file.places[0])

A data set of one's own is a subclass of `ScanFile` in the entry points ``scanside.datasets``.
"""

from __future__ import annotations

from scanside.datasets.opening import DATASETS, open_scan_file
from scanside.datasets.scan_file import MeasuredSlice, Place, ScanFile

__all__ = ["DATASETS", "MeasuredSlice", "Place", "ScanFile", "open_scan_file"]
