"""Names leave a header, and nothing else changes."""

from __future__ import annotations

import re
from contextlib import suppress
from dataclasses import fields, is_dataclass
from xml.etree import ElementTree

import ismrmrd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scanside.errors import HeaderError
from scanside.mrd.header import MrdHeader
from scanside.privacy import IDENTIFYING, KEPT, identifying_elements, without_identity
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
    <patientPosition>HFS</patientPosition><protocolName>t2_tse Jane</protocolName>
    <seriesDescription>Jane again</seriesDescription>
    <measurementDependency>
      <dependencyType>Noise</dependencyType><measurementID>66097_24340925_24340930_1390</measurementID>
    </measurementDependency>
    <seriesInstanceUIDRoot>1.2.3.4</seriesInstanceUIDRoot><frameOfReferenceUID>1.2.5</frameOfReferenceUID>
    <referencedImageSequence><referencedSOPInstanceUID>1.2.6</referencedSOPInstanceUID></referencedImageSequence>
  </measurementInformation>
  <acquisitionSystemInformation>
    <systemVendor>SIEMENS</systemVendor><systemModel>Doe's</systemModel><receiverChannels>4</receiverChannels>
    <institutionName>St Elsewhere</institutionName><stationName>MR1</stationName>
    <deviceID>9</deviceID><deviceSerialNumber>66097</deviceSerialNumber>
  </acquisitionSystemInformation>
  <experimentalConditions><H1resonanceFrequency_Hz>63500000</H1resonanceFrequency_Hz></experimentalConditions>
  ENCODING
  <userParameters>
    <userParameterLong><name>EmbeddedRefLinesE1</name><value>24</value></userParameterLong>
    <userParameterString><name>PatientComment</name><value>Jane is tall</value></userParameterString>
    <userParameterDouble><name>flip > 90</name><value>1</value></userParameterDouble>
    <userParameterString><name>kernel</name><value>wide > narrow</value></userParameterString>
    <userParameterString><name>dwell</name><value>2.5</value></userParameterString>
    <userParameterBase64><name>all</name><value>SmFuZQ==</value></userParameterBase64>
    <userParameterLong><name>id</name><value>4711</value></userParameterLong>
  </userParameters>
</ismrmrdHeader>
"""
ENCODING = re.search(rb"<encoding>.*</encoding>", small_scan().header.xml, re.DOTALL)
assert ENCODING is not None
XML = HEADER.replace("ENCODING", ENCODING.group().decode()).encode()
PERSONAL = (
    b"Jane", b"Doe", b"4711", b"1990", b"61.5", b"2026-03", b"10:11", b"123456", b"Who", b"1.2.3", b"1.2.5", b"1.2.6",
    b"Elsewhere", b"MR1", b"66097", b"24340925", b"t2_tse", b"narrow", b"SmFuZQ",
)  # fmt: skip

USER_PARAMETERS = {"userParameterLong", "userParameterDouble", "userParameterString", "userParameterBase64"}


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
    for kept in (b"KNEE", b"HFS", b"SIEMENS", b"EmbeddedRefLinesE1", b"dwell"):
        assert kept in cleaned


def test_reconstruction_sees_the_same_header() -> None:
    before, after = MrdHeader.parse(XML), MrdHeader.parse(without_identity(XML))
    assert after.encodings == before.encodings
    assert after.patient_position == "HFS"
    assert after.user_parameters == {"EmbeddedRefLinesE1": 24, "dwell": "2.5"}


def test_another_reader_reads_it() -> None:
    header = ismrmrd.xsd.CreateFromDocument(without_identity(XML))
    assert header.subjectInformation is None
    assert header.studyInformation.studyDate is None
    assert header.studyInformation.bodyPartExamined == "KNEE"
    assert header.encoding[0].encodedSpace.matrixSize.x == 48


def test_schema_has_no_other_element_that_names_a_person() -> None:
    """Of all elements of the schema, as the reference implementation knows it, free text stays in few."""
    schema = ismrmrd.xsd.ismrmrdschema.ismrmrd
    kinds = [kind for kind in vars(schema).values() if is_dataclass(kind) and isinstance(kind, type)]
    names = {field.name for kind in kinds for field in fields(kind)}
    assert {"comment", "waveformName", "H1resonanceFrequency_Hz"} <= names
    kept = {
        name
        for name in names
        if b"some text" in without_identity(f"<a><{name}>some text</{name}></a>".encode())
    }
    assert kept == KEPT
    # Numbers stay wherever the schema has an element for one.
    gone = {name for name in names if b"7" not in without_identity(f"<a><{name}>7</{name}></a>".encode())}
    subject = {
        "patientName",
        "patientWeight_kg",
        "patientHeight_m",
        "patientID",
        "patientBirthdate",
        "patientGender",
    }
    assert gone == IDENTIFYING | subject | {"referencedSOPInstanceUID", *USER_PARAMETERS}


@pytest.mark.parametrize(
    "xml",
    [
        b"<a><site>Jane</site><TR>1</TR></a>",
        b"<a note='Jane'><TR>1</TR></a>",
        b"<a>Jane<TR>1</TR></a>",
        b"<a><TR>1</TR>Jane</a>",
        b"<a><TR>1<x>2</x>Jane</TR></a>",
        b"<a><TR>Jane</TR></a>",
        b"<a><TR><![CDATA[Jane]]></TR></a>",
        b"<a><TR>&#74;ane 74 Jane</TR></a>",
        b"<a xmlns:b='http://Jane/'><TR>1</TR></a>",
        b"<a><measurementID>Jane</measurementID></a>",
        b"<a><trajectoryDescription><comment>Jane</comment></trajectoryDescription></a>",
        b"<a><trajectoryDescription><userParameterString><name>a</name><value>Jane</value></userParameterString>"
        b"</trajectoryDescription></a>",
        b"<a><userParameterLong><name>Jane!</name><value>1</value></userParameterLong></a>",
        b"<a><userParameterLong><name>a</name><value>Jane</value></userParameterLong></a>",
        b"<a><coilName>^Jane</coilName></a>",
        b"<a><coilName>Jane's</coilName><subjectInformation><patientName>Doe^Jane</patientName></subjectInformation></a>",
        b"<a><waveformInformation><userParameters><userParameterString><name>b</name><value>Jane</value>"
        b"</userParameterString></userParameters></waveformInformation></a>",
    ],
)
def test_no_place_is_left_out(xml: bytes) -> None:
    cleaned = without_identity(xml)
    assert b"Jane" not in cleaned
    assert b"&#74;" not in cleaned
    assert len(cleaned) == len(xml)
    ElementTree.fromstring(cleaned)


def test_what_the_site_wants_stays() -> None:
    cleaned = without_identity(XML, ("protocolName", "kernel"))
    assert b"<protocolName>t2_tse Jane</protocolName>" in cleaned
    assert b"<value>wide > narrow</value>" in cleaned
    assert b"SmFuZQ" not in cleaned
    assert b"Doe" not in cleaned


def test_values_that_are_wrong_stay_wrong() -> None:
    """A header that could not be read tells so in its recording too."""
    xml = re.sub(rb"<x>\d+</x>", b"<x>many</x>", XML)
    for header in (xml, without_identity(xml)):
        with pytest.raises(HeaderError, match="matrixSize/x"):
            MrdHeader.parse(header)


@pytest.mark.parametrize(
    "piece", [b"<patientName>a</patientName>", b"<!--a-->", b"<a>", b"<TR x='1'/>", b"a&amp;\n", b"<a b='1' "]
)
def test_takes_time_in_proportion(piece: bytes) -> None:
    """A megabyte is through in a moment; in quadratic time it would take longer than a test may."""
    with suppress(HeaderError):
        without_identity(b"<a>" + piece * (1_000_000 // len(piece)) + b"</a>")


@pytest.mark.parametrize(
    ("xml", "why"),
    [(b"<a>" * 600 + b"</a>" * 600, "deep"), (b"<a>" + b"<b/>" * 200_001 + b"</a>", "more than")],
)
def test_what_no_scanner_makes_is_refused(xml: bytes, why: str) -> None:
    with pytest.raises(HeaderError, match=why):
        without_identity(xml)


def test_scans_still_find_each_other() -> None:
    noise = XML.replace(b"_1391</", b"_1390</")
    scan, other = MrdHeader.parse(without_identity(XML)), MrdHeader.parse(without_identity(noise))
    assert scan.depends_on("noise") == (other.measurement_id,)
    assert scan.measurement_id != other.measurement_id
    short = b"<a><measurementID> 42_1 </measurementID></a>"
    assert without_identity(short) == short


def test_header_of_nobody_stays_as_it_is() -> None:
    xml = re.sub(rb"<(measurementID|protocolName)>.*</\1>", b"", small_scan().header.xml)
    assert without_identity(xml) == xml
    assert identifying_elements(xml) == []


@pytest.mark.parametrize(
    "xml",
    [
        b"<a><patientName/><TR>1</TR></a>",
        b"<a><patientName x='>'>Jane</patientName ><TR>1</TR></a>",
        b"<p:a xmlns:p='u'><p:patientName>Jane</p:patientName><TR>1</TR></p:a>",
        b"<a><subjectInformation><!-- Jane --><patientName>Jane</patientName></subjectInformation><TR>1</TR></a>",
        b"<a><patientName><![CDATA[<Jane>]]></patientName><TR>1</TR></a>\0",
        "<a><patientName>Jäne Jane</patientName><TR>1</TR></a>".encode("latin-1").join(
            [b'<?xml version="1.0" encoding="ISO-8859-1"?>', b""]
        ),
        b"<a><?php Jane ?><TR>1</TR></a>",
    ],
)
def test_spellings(xml: bytes) -> None:
    cleaned = without_identity(xml)
    assert b"Jane" not in cleaned
    assert b"patientName" not in cleaned
    assert len(cleaned) == len(xml)
    root = ElementTree.fromstring(cleaned.rstrip(b"\0"))
    assert [(child.tag, child.text) for child in root] == [("TR", "1")]


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
