"""Separate calibration lines of a recording, of which each measurement is judged alone."""

from __future__ import annotations

import numpy as np
import pytest

from scanside.losses import recorded_calibration
from scanside.mrd.dtypes import ACQUISITION_HEADER, Headers
from scanside.mrd.flags import AcquisitionFlag
from scanside.mrd.header import MrdHeader

pytestmark = pytest.mark.torch_free

N1 = 32
BLOCK = range(10, 22)


def scan(calibration: str) -> MrdHeader:
    space = (
        f"<matrixSize><x>32</x><y>{N1}</y><z>1</z></matrixSize>"
        "<fieldOfView_mm><x>32</x><y>32</y><z>1</z></fieldOfView_mm>"
    )
    return MrdHeader.parse(
        f"<ismrmrdHeader><encoding><encodedSpace>{space}</encodedSpace><reconSpace>{space}</reconSpace>"
        "<encodingLimits><kspace_encoding_step_1><minimum>0</minimum><maximum>31</maximum><center>16</center>"
        "</kspace_encoding_step_1></encodingLimits><parallelImaging><accelerationFactor><kspace_encoding_step_1>2"
        "</kspace_encoding_step_1><kspace_encoding_step_2>1</kspace_encoding_step_2></accelerationFactor>"
        f"<calibrationMode>{calibration}</calibrationMode></parallelImaging></encoding></ismrmrdHeader>"
    )


def lines(calibration: range, lost: tuple[int, ...], slice_: int) -> Headers:
    """Calibration lines without those that were lost, then every second line of the image."""
    k1 = [*(i for i in calibration if i not in lost), *range(0, N1, 2)]
    headers = np.zeros(len(k1), ACQUISITION_HEADER)
    headers["idx"]["kspace_encode_step_1"] = k1
    headers["idx"]["slice"] = slice_
    headers["flags"][: len(k1) - N1 // 2] = int(AcquisitionFlag.PARALLEL_CALIBRATION)
    return headers


@pytest.mark.parametrize("lost", [(), (14,), (12, 13, 19)])
def test_lost_lines_are_named_with_their_slice(lost: tuple[int, ...]) -> None:
    header = scan("separate")
    headers = np.concatenate([lines(BLOCK, (), 0), lines(BLOCK, lost, 1)])
    found = list(recorded_calibration(headers, header, header.encoding(0)))
    assert len(found) == bool(lost)
    for name, words in found:
        assert name.startswith("slice 1, ")
        assert words == (f"kspace_encode_step_1 {', '.join(map(str, lost))} did not come",)


def test_embedded_lines_are_those_of_the_image() -> None:
    header = scan("embedded")
    headers = lines(BLOCK, (14,), 0)
    assert not list(recorded_calibration(headers, header, header.encoding(0)))


def test_no_calibration_at_all() -> None:
    header = scan("separate")
    headers = lines(range(0), (), 0)
    assert not list(recorded_calibration(headers, header, header.encoding(0)))
