"""The scan's header in both versions, judged by the classes that the ISMRMRD package makes of its schema."""

from __future__ import annotations

from typing import Any

import ismrmrd.xsd
import pytest

from scanside.errors import HeaderError
from scanside.mrd.header import MrdHeader
from scanside.mrd.v2.header import header_value, header_xml
from scanside.mrd.v2.schemas import VERSIONS, known_schema
from scanside.mrd.v2.told import Told

pytestmark = pytest.mark.torch_free

SPACE = """<matrixSize><x>{n}</x><y>224</y><z>1</z></matrixSize>
    <fieldOfView_mm><x>480.5</x><y>210</y><z>3.25</z></fieldOfView_mm>"""
LIMIT = "<minimum>0</minimum><maximum>223</maximum><center>112</center>"
FULL = f"""<?xml version="1.0" encoding="UTF-8"?>
<ismrmrdHeader xmlns="http://www.ismrm.org/ISMRMRD">
  <version>1</version>
  <subjectInformation>
    <patientName>A &amp; B</patientName><patientWeight_kg>70.1</patientWeight_kg>
    <patientHeight_m>1.8</patientHeight_m><patientID>7</patientID>
    <patientBirthdate>1970-02-01</patientBirthdate><patientGender>F</patientGender>
  </subjectInformation>
  <studyInformation>
    <studyDate>2024-12-31</studyDate><studyTime>23:59:58.125</studyTime><studyID>s</studyID>
    <accessionNumber>-12</accessionNumber><studyInstanceUID>1.2.3</studyInstanceUID>
    <bodyPartExamined>BRAIN</bodyPartExamined>
  </studyInformation>
  <measurementInformation>
    <measurementID>m</measurementID><patientPosition>FFDR</patientPosition>
    <relativeTablePosition><x>1</x><y>2</y><z>-3.5</z></relativeTablePosition>
    <initialSeriesNumber>4</initialSeriesNumber><protocolName>p</protocolName>
    <measurementDependency>
      <dependencyType>Noise</dependencyType><measurementID>n</measurementID>
    </measurementDependency>
    <measurementDependency>
      <dependencyType>SenMap</dependencyType><measurementID>o</measurementID>
    </measurementDependency>
    <seriesInstanceUIDRoot>1.2</seriesInstanceUIDRoot>
    <referencedImageSequence><referencedSOPInstanceUID>1.3</referencedSOPInstanceUID></referencedImageSequence>
  </measurementInformation>
  <acquisitionSystemInformation>
    <systemVendor>V</systemVendor><systemFieldStrength_T>2.89</systemFieldStrength_T>
    <relativeReceiverNoiseBandwidth>0.793</relativeReceiverNoiseBandwidth><receiverChannels>2</receiverChannels>
    <coilLabel><coilNumber>1</coilNumber><coilName>a</coilName></coilLabel>
    <coilLabel><coilNumber>0</coilNumber><coilName>b</coilName></coilLabel>
    <deviceID>d</deviceID>
  </acquisitionSystemInformation>
  <experimentalConditions><H1resonanceFrequency_Hz>123200000</H1resonanceFrequency_Hz></experimentalConditions>
  <encoding>
    <encodedSpace>{SPACE.format(n=512)}</encodedSpace>
    <reconSpace>{SPACE.format(n=256)}</reconSpace>
    <encodingLimits>
      <kspace_encoding_step_0>{LIMIT}</kspace_encoding_step_0>
      <kspace_encoding_step_1>{LIMIT}</kspace_encoding_step_1>
      <slice>{LIMIT}</slice><user_3>{LIMIT}</user_3>
    </encodingLimits>
    <trajectory>goldenangle</trajectory>
    <trajectoryDescription>
      <identifier>i</identifier>
      <userParameterLong><name>l</name><value>3</value></userParameterLong>
      <userParameterDouble><name>d</name><value>0.1</value></userParameterDouble>
      <comment>c</comment>
    </trajectoryDescription>
    <parallelImaging>
      <accelerationFactor>
        <kspace_encoding_step_1>3</kspace_encoding_step_1><kspace_encoding_step_2>1</kspace_encoding_step_2>
      </accelerationFactor>
      <calibrationMode>interleaved</calibrationMode>
      <interleavingDimension>phase</interleavingDimension>
      <multiband>
        <spacing><dZ>1.5</dZ><dZ>2.5</dZ></spacing><deltaKz>0.5</deltaKz><multiband_factor>2</multiband_factor>
        <calibration>full3D</calibration><calibration_encoding>1</calibration_encoding>
      </multiband>
    </parallelImaging>
    <echoTrainLength>5</echoTrainLength>
  </encoding>
  <encoding>
    <encodedSpace>{SPACE.format(n=64)}</encodedSpace>
    <reconSpace>{SPACE.format(n=32)}</reconSpace>
    <encodingLimits/>
    <trajectory>epi</trajectory>
  </encoding>
  <sequenceParameters>
    <TR>5.1</TR><TR>7</TR><TE>2.5</TE><TI>800</TI><flipAngle_deg>15.5</flipAngle_deg>
    <sequence_type>Flash</sequence_type><echo_spacing>0.5</echo_spacing>
    <diffusionDimension>user_2</diffusionDimension>
    <diffusion>
      <gradientDirection><rl>1</rl><ap>0</ap><fh>-1</fh></gradientDirection><bvalue>1000</bvalue>
    </diffusion>
    <diffusionScheme>s</diffusionScheme>
  </sequenceParameters>
  <userParameters>
    <userParameterLong><name>l</name><value>-9007199254740993</value></userParameterLong>
    <userParameterDouble><name>d</name><value>0.1234567890123456</value></userParameterDouble>
    <userParameterString><name>s</name><value> x&lt;y </value></userParameterString>
    <userParameterBase64><name>b</name><value>QUJD</value></userParameterBase64>
  </userParameters>
  <waveformInformation>
    <waveformName>ECG</waveformName><waveformType>ecg</waveformType>
    <userParameters>
      <userParameterString><name>u</name><value>mV</value></userParameterString>
    </userParameters>
  </waveformInformation>
</ismrmrdHeader>
""".encode()


def there(xml: bytes, version: str = "2.2") -> tuple[dict[str, Any], list[str]]:
    told = Told()
    return header_value(xml, known_schema(version).header, told), told.texts


def back(value: dict[str, Any], version: str = "2.2") -> tuple[bytes, list[str]]:
    told = Told()
    return header_xml(value, known_schema(version).header, told), told.texts


@pytest.mark.parametrize("version", VERSIONS)
def test_a_header_with_everything_comes_back(version: str) -> None:
    value, lost = there(FULL, version)
    xml, lost_back = back(value, version)
    assert lost == lost_back == []
    assert ismrmrd.xsd.CreateFromDocument(xml) == ismrmrd.xsd.CreateFromDocument(FULL)
    ours, theirs = MrdHeader.parse(xml), MrdHeader.parse(FULL)
    for name in MrdHeader.__slots__:
        if name != "xml":
            assert getattr(ours, name) == getattr(theirs, name), name


def test_single_values() -> None:
    value, _ = there(FULL)
    assert value["subjectInformation"]["patientBirthdate"] == 31
    assert value["studyInformation"]["studyTime"] == (24 * 3600 - 2) * 10**9 + 125_000_000
    assert value["measurementInformation"]["patientPosition"] == 6
    assert value["encoding"][0]["trajectory"] == 3
    assert value["encoding"][0]["encodingLimits"]["average"] is None


MINIMAL = f"""<ismrmrdHeader><encoding>
  <encodedSpace>{SPACE.format(n=64)}</encodedSpace>{{}}</encoding>{{}}</ismrmrdHeader>"""


def test_what_mrd_2_demands_and_the_header_lacks_is_told() -> None:
    value, told = there(MINIMAL.format("", "").encode())
    (text,) = told
    assert text.startswith(
        "<experimentalConditions>, <encoding/reconSpace>, <encoding/trajectory>: MRD 2 demands"
    )
    assert value["encoding"][0]["reconSpace"] == value["encoding"][0]["encodedSpace"]
    assert MrdHeader.parse(back(value)[0]).encodings[0].recon.matrix == (64, 224, 1)


@pytest.mark.parametrize(
    ("more", "lost"),
    [
        ("<novelty/>", "<novelty>"),
        ("<studyInformation><studyDate>yesterday</studyDate></studyInformation>", "studyDate> that is not"),
        ("<studyInformation><studyTime>noon</studyTime></studyInformation>", "studyTime> that is not"),
        (
            "<studyInformation><accessionNumber>1e30</accessionNumber></studyInformation>",
            "accessionNumber> that",
        ),
        (
            "<subjectInformation><patientGender>X</patientGender></subjectInformation>",
            "patientGender> that is",
        ),
        (
            "<studyInformation><studyID>a</studyID><studyID>b</studyID></studyInformation>",
            "studyID> but for the first",
        ),
        (
            "<waveformInformation><waveformName/><waveformType>EEG</waveformType></waveformInformation>",
            "waveformType>",
        ),
    ],
)
def test_what_mrd_2_has_no_place_for_is_told(more: str, lost: str) -> None:
    _, told = there(MINIMAL.format("", more).encode())
    assert any(lost in text and "is lost" in text for text in told), told


def test_many_losses_are_told_in_few_words() -> None:
    _, told = there(MINIMAL.format("", "".join(f"<new{i}/>" for i in range(30))).encode())
    assert any("and 22 more: of the scan's header has no place" in text for text in told)


def test_what_mrd_1_has_no_word_for() -> None:
    value, _ = there(FULL)
    value["encoding"][0]["parallelImaging"]["calibrationMode"] = 0
    value["encoding"][0]["trajectory"] = 77
    value["studyInformation"]["studyDate"] = 10**9
    xml, told = back(value)
    assert b"calibrationMode" not in xml, "no acceleration is no element"
    assert told == [
        "studyInformation.studyDate, encoding.trajectory: of the scan's header has no place in MRD 1 and is lost"
    ]


def test_no_xml_is_an_error() -> None:
    with pytest.raises(HeaderError, match="not well-formed"):
        there(b"<ismrmrdHeader>")
