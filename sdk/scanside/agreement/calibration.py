"""Calibration lines that are a measurement of their own."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from scanside.mrd.dtypes import Headers
from scanside.mrd.flags import AcquisitionFlag, flagged
from scanside.mrd.header import Encoding

__all__ = ["lines_of_images"]

_CALIBRATION = AcquisitionFlag.PARALLEL_CALIBRATION
_CALIBRATION_TOO = AcquisitionFlag.PARALLEL_CALIBRATION_AND_IMAGING


def lines_of_images(headers: Headers, flags: int, encoding: Encoding) -> npt.NDArray[np.bool_] | None:
    """Which of some lines belong to an image; None where all do.

    Where calibration is not embedded, lines flagged for calibration only may be another, shorter measurement.

    Args:
        headers: ``(n,)`` of imaging and calibration lines.
        flags: all flags that occur among them.
        encoding: their encoding space.
    """
    if encoding.calibration_mode == "embedded" or not flags & int(_CALIBRATION):
        return None
    only: npt.NDArray[np.bool_] = flagged(headers["flags"], _CALIBRATION) & ~flagged(
        headers["flags"], _CALIBRATION_TOO
    )
    return ~only
