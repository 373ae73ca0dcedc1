"""Acquisition flags by name.

The standard numbers its flags from 1; flag ``n`` is bit ``n − 1`` of the header's ``flags`` field.
"""

from __future__ import annotations

from enum import IntFlag
from functools import cache, reduce
from operator import or_
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["CALIBRATING", "NOT_IMAGING", "AcquisitionFlag", "flagged", "names"]


class AcquisitionFlag(IntFlag):
    """Flags of a readout, as bits of the header's ``flags``."""

    FIRST_IN_ENCODE_STEP1 = 1 << 0
    LAST_IN_ENCODE_STEP1 = 1 << 1
    FIRST_IN_ENCODE_STEP2 = 1 << 2
    LAST_IN_ENCODE_STEP2 = 1 << 3
    FIRST_IN_AVERAGE = 1 << 4
    LAST_IN_AVERAGE = 1 << 5
    FIRST_IN_SLICE = 1 << 6
    LAST_IN_SLICE = 1 << 7
    FIRST_IN_CONTRAST = 1 << 8
    LAST_IN_CONTRAST = 1 << 9
    FIRST_IN_PHASE = 1 << 10
    LAST_IN_PHASE = 1 << 11
    FIRST_IN_REPETITION = 1 << 12
    LAST_IN_REPETITION = 1 << 13
    FIRST_IN_SET = 1 << 14
    LAST_IN_SET = 1 << 15
    FIRST_IN_SEGMENT = 1 << 16
    LAST_IN_SEGMENT = 1 << 17
    NOISE_MEASUREMENT = 1 << 18
    PARALLEL_CALIBRATION = 1 << 19
    PARALLEL_CALIBRATION_AND_IMAGING = 1 << 20
    REVERSE = 1 << 21
    NAVIGATION_DATA = 1 << 22
    PHASECORR_DATA = 1 << 23
    LAST_IN_MEASUREMENT = 1 << 24
    HPFEEDBACK_DATA = 1 << 25
    DUMMYSCAN_DATA = 1 << 26
    RTFEEDBACK_DATA = 1 << 27
    SURFACECOILCORRECTIONSCAN_DATA = 1 << 28
    PHASE_STABILIZATION_REFERENCE = 1 << 29
    PHASE_STABILIZATION = 1 << 30
    COMPRESSION1 = 1 << 52
    COMPRESSION2 = 1 << 53
    COMPRESSION3 = 1 << 54
    COMPRESSION4 = 1 << 55
    USER1 = 1 << 56
    USER2 = 1 << 57
    USER3 = 1 << 58
    USER4 = 1 << 59
    USER5 = 1 << 60
    USER6 = 1 << 61
    USER7 = 1 << 62
    USER8 = 1 << 63


CALIBRATING = (AcquisitionFlag.PARALLEL_CALIBRATION, AcquisitionFlag.PARALLEL_CALIBRATION_AND_IMAGING)
"""Readouts with any of these are calibration lines; with the second one, lines of the image too."""

NOT_IMAGING = (
    AcquisitionFlag.NOISE_MEASUREMENT
    | AcquisitionFlag.NAVIGATION_DATA
    | AcquisitionFlag.PHASECORR_DATA
    | AcquisitionFlag.HPFEEDBACK_DATA
    | AcquisitionFlag.DUMMYSCAN_DATA
    | AcquisitionFlag.RTFEEDBACK_DATA
    | AcquisitionFlag.SURFACECOILCORRECTIONSCAN_DATA
    | AcquisitionFlag.PHASE_STABILIZATION_REFERENCE
    | AcquisitionFlag.PHASE_STABILIZATION
)
"""Readouts with any of these are no lines of the image's k-space."""


def flagged(flags: npt.NDArray[Any], *wanted: AcquisitionFlag) -> npt.NDArray[np.bool_]:
    """Which entries of a ``flags`` array hold any of the wanted flags; same shape as ``flags``."""
    return np.asarray((flags & _mask(wanted)) != 0)


@cache
def _mask(wanted: tuple[AcquisitionFlag, ...]) -> np.uint64:
    return np.uint64(int(reduce(or_, wanted)))


def names(flags: int) -> list[str]:
    """Names of the flags that are set, lowest bit first; unknown bits as ``BIT_n`` numbered from 1."""
    known = {int(flag).bit_length() - 1: flag.name or "" for flag in AcquisitionFlag}
    return [known.get(bit, f"BIT_{bit + 1}") for bit in range(64) if flags >> bit & 1]
