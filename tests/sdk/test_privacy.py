"""Names leave a header, and nothing else changes."""

from __future__ import annotations

import re
from xml.etree import ElementTree

import ismrmrd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scanside.errors import HeaderError
from scanside.mrd.header import MrdHeader
from scanside.privacy import IDENTIFYING, identifying_elements, without_identity
from scanside.testing.small import small_scan

pytestmark = pytest.mark.torch_free

HEADER = """<?xml version="1.0" encoding="UTF-8"?>
<!-- exported for Jane Doe -->
<ismrmrdHeader xmlns="http://www.ismrm.org/ISMRMRD">
  <subjectInformation>
    <patientName>Doe^Jane</patientName><patientWeight_kg>61.5</patientWeight_kg>
    <patientID>4711</patientID><patientBirthdate>1990-02-03</patientBirthdate><patientGender>F</patientGender>
  </subjectInformation>
  <studyInformation>
    <studyDate>2026-03-04</studyDate><studyTime>10:11:12</studyTime><studyID>12</studyID>
    <accessionNumber>123456</accessionNumber><referringPhysicianName>Dr Who</referringPhysicianName>
    <studyDescription>Knee of Jane</studyDescription><studyInstanceUID>1.2.3</studyInstanceUID>
    <bodyPartExamined>KNEE</bodyPartExamined>
  </studyInformation>
  <measurementInformation>
    <measurementID>66097_24340925_24340930_1391</measurementID>
    <seriesDate>2026-03-04</seriesDate><seriesTime>10:11:12</seriesTime>
    <patientPosition>HFS</patientPosition><protocolName>t2_tse</protocolName>
    <seriesDescription>Jane again</seriesDescription>
    <measurementDependency>
      <dependencyType>Noise</dependencyType><measurementID>66097_24340925_24340930_1390</measurementID>
    </measurementDependency>
    <seriesInstanceUIDRoot>1.2.3.4</seriesInstanceUIDRoot><frameOfReferenceUID>1.2.5</frameOfReferenceUID>
    <referencedImageSequence><referencedSOPInstanceUID>1.2.6</referencedSOPInstanceUID></referencedImageSequence>
  </measurementInformation>
  <acquisitionSystemInformation>
    <systemVendor>SIEMENS</systemVendor><receiverChannels>4</receiverChannels>
    <institutionName>St Elsewhere</institutionName><stationName>MR1</stationName>
    <deviceID>9</deviceID><deviceSerialNumber>66097</deviceSerialNumber>
  </acquisitionSystemInformation>
  <experimentalConditions><H1resonanceFrequency_Hz>63500000</H1resonanceFrequency_Hz></experimentalConditions>
  ENCODING
  <userParameters>
    <userParameterLong><name>EmbeddedRefLinesE1</name><value>24</value></userParameterLong>
    <userParameterString><name>PatientComment</name><value>Jane is tall</value></userParameterString>
    <userParameterString><name>kernel</name><value>wide > narrow</value></userParameterString>
  </userParameters>
</ismrmrdHeader>
"""
ENCODING = re.search(rb"<encoding>.*</encoding>", small_scan().header.xml, re.DOTALL)
assert ENCODING is not None
XML = HEADER.replace("ENCODING", ENCODING.group().decode()).encode()
PERSONAL = (
    b"Jane", b"Doe", b"4711", b"1990", b"61.5", b"2026-03", b"10:11", b"123456", b"Who", b"1.2.3", b"1.2.5", b"1.2.6",
    b"Elsewhere", b"MR1", b"66097", b"24340925",
)  # fmt: skip


def test_nothing_of_the_person_is_left() -> None:
    cleaned = without_identity(XML)
    assert all(text in XML for text in PERSONAL)
    assert [text for text in PERSONAL if text in cleaned] == []


def test_all_else_is_the_same_byte_for_byte() -> None:
    cleaned = without_identity(XML)
    assert len(cleaned) == len(XML)
    rest = XML
    for element in identifying_elements(XML):
        rest = rest.replace(element, b"?" * len(element), 1)
    for before, after in zip(rest, cleaned, strict=True):
        assert before in (after, ord("?"))
    for kept in (b"KNEE", b"t2_tse", b"HFS", b"SIEMENS", b"EmbeddedRefLinesE1", b"wide > narrow"):
        assert kept in cleaned


def test_reconstruction_sees_the_same_header() -> None:
    before, after = MrdHeader.parse(XML), MrdHeader.parse(without_identity(XML))
    assert after.encodings == before.encodings
    assert after.protocol_name == "t2_tse"
    assert after.patient_position == "HFS"
    assert after.user_parameters == {"EmbeddedRefLinesE1": 24, "kernel": "wide > narrow"}


def test_another_reader_reads_it() -> None:
    header = ismrmrd.xsd.CreateFromDocument(without_identity(XML))
    assert header.subjectInformation is None
    assert header.studyInformation.studyDate is None
    assert header.studyInformation.bodyPartExamined == "KNEE"
    assert header.encoding[0].encodedSpace.matrixSize.x == 48


def test_schema_has_no_other_element_that_names_a_person() -> None:
    """The elements of the schema, as the reference implementation knows them, are all judged."""
    schema = ismrmrd.xsd.ismrmrdschema.ismrmrd
    kinds = (schema.subjectInformationType, schema.studyInformationType)
    kinds += (schema.measurementInformationType, schema.acquisitionSystemInformationType)
    names = {name for kind in kinds for name in kind.__dataclass_fields__}
    kept = {
        name
        for name in names - IDENTIFYING
        if f"<{name}>".encode() in without_identity(f"<a><{name}>some text</{name}></a>".encode())
    }
    assert kept == {
        "bodyPartExamined", "measurementID", "patientPosition", "relativeTablePosition", "initialSeriesNumber",
        "protocolName", "sequenceName", "measurementDependency", "systemVendor", "systemModel",
        "systemFieldStrength_T", "relativeReceiverNoiseBandwidth", "receiverChannels", "coilLabel",
    }  # fmt: skip


def test_scans_still_find_each_other() -> None:
    noise = XML.replace(b"_1391</", b"_1390</")
    scan, other = MrdHeader.parse(without_identity(XML)), MrdHeader.parse(without_identity(noise))
    assert scan.depends_on("noise") == (other.measurement_id,)
    assert scan.measurement_id != other.measurement_id
    short = b"<a><measurementID> 42 </measurementID></a>"
    assert without_identity(short) == short


def test_header_of_nobody_stays_as_it_is() -> None:
    xml = small_scan().header.xml
    assert without_identity(xml) == xml
    assert identifying_elements(xml) == []


@pytest.mark.parametrize(
    "xml",
    [
        b"<a><patientName/><b>1</b></a>",
        b"<a><patientName x='>'>Jane</patientName ><b>1</b></a>",
        b"<p:a xmlns:p='u'><p:patientName>Jane</p:patientName><b>1</b></p:a>",
        b"<a><subjectInformation><!-- Jane --><patientName>Jane</patientName></subjectInformation><b>1</b></a>",
        b"<a><patientName><![CDATA[<Jane>]]></patientName><b>1</b></a>\0",
        "<a><patientName>Jäne Jane</patientName><b>1</b></a>".encode("latin-1").join(
            [b'<?xml version="1.0" encoding="ISO-8859-1"?>', b""]
        ),
        b"<a><?php Jane ?><b>1</b></a>",
    ],
)
def test_spellings(xml: bytes) -> None:
    cleaned = without_identity(xml)
    assert b"Jane" not in cleaned
    assert b"patientName" not in cleaned
    assert len(cleaned) == len(xml)
    root = ElementTree.fromstring(cleaned.rstrip(b"\0"))
    assert [(child.tag, child.text) for child in root] == [("b", "1")]


@pytest.mark.parametrize(
    ("xml", "why"),
    [
        (b"<a><patientName>Jane</a>", "not well-formed"),
        (b"", "not well-formed"),
        ("<a/>".encode("utf-16"), "UTF-16"),
        ("<a/>".encode("utf-16-le"), "UTF-16"),
        (b'<!DOCTYPE a [<!ENTITY who "Jane">]><a>&who;</a>', "document type"),
    ],
)
def test_what_cannot_be_cleaned_is_refused(xml: bytes, why: str) -> None:
    with pytest.raises(HeaderError, match=why):
        without_identity(xml)


@given(st.binary(max_size=40))
def test_never_another_error(junk: bytes) -> None:
    for xml in (junk, b"<a><patientName>" + junk + b"</patientName></a>"):
        try:
            cleaned = without_identity(xml)
        except HeaderError:
            continue
        assert len(cleaned) == len(xml)
