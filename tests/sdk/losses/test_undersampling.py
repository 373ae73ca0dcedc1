"""A header tells of a mask, whatever header it is."""

from __future__ import annotations

import numpy as np
import pytest

from scanside.losses.undersampling import left_out_of, with_left_out
from scanside.mrd.header import MrdHeader

pytestmark = pytest.mark.torch_free

SPACE = (
    "<matrixSize><x>8</x><y>4</y><z>1</z></matrixSize>"
    "<fieldOfView_mm><x>8</x><y>4</y><z>1</z></fieldOfView_mm>"
)
ENCODING = f"<encoding><encodedSpace>{SPACE}</encodedSpace><reconSpace>{SPACE}</reconSpace></encoding>"
PARAMETERS = (
    "<userParameters><userParameterLong><name>a</name><value>7</value></userParameterLong></userParameters>"
)


@pytest.mark.parametrize("namespace", ["", ' xmlns="http://www.ismrm.org/ISMRMRD"'])
@pytest.mark.parametrize(
    "rest", ["", PARAMETERS, "<waveformInformation />", PARAMETERS + "<waveformInformation/>"]
)
def test_told_and_read(namespace: str, rest: str) -> None:
    xml = f"<ismrmrdHeader{namespace}>{ENCODING}{rest}</ismrmrdHeader>\n".encode()
    header = MrdHeader.parse(with_left_out(xml, np.array([True, False, True, False])))
    assert left_out_of(header) == (1, 3)
    assert header.user_parameters.get("a") == (7 if "userParameters" in rest else None)
    assert left_out_of(MrdHeader.parse(xml)) == ()


def test_with_a_prefix() -> None:
    plain = f"<ismrmrdHeader>{ENCODING}{PARAMETERS}</ismrmrdHeader>"
    xml = plain.replace("</", "</m:").replace("<", "<m:").replace("<m:/m:", "</m:")
    xml = xml.replace("<m:ismrmrdHeader>", '<m:ismrmrdHeader xmlns:m="http://www.ismrm.org/ISMRMRD">')
    header = MrdHeader.parse(with_left_out(xml.encode(), np.array([False, True])))
    assert left_out_of(header) == (0,)
    assert header.user_parameters["a"] == 7
