"""XML from peers: no document types, no depth, no end of parts; and nobody reads it in another way."""

from __future__ import annotations

import re
from pathlib import Path
from time import perf_counter
from xml.etree import ElementTree

import pytest

from scanside.errors import HeaderError
from scanside.mrd.header import MrdHeader
from scanside.mrd.xml import XmlError, parse_xml, without_declaration
from scanside.privacy import without_identity
from scanside.testing.small import small_scan

pytestmark = pytest.mark.torch_free

REPO = Path(__file__).resolve().parents[3]

CHAIN = (
    "<!DOCTYPE a [<!ENTITY e0 'x'>"
    + "".join(f"<!ENTITY e{i} '&e{i - 1};'>" for i in range(1, 100_000))
    + "]><a>&e99999;</a>"
).encode()


@pytest.mark.parametrize("xml", [small_scan().header.xml, b'<a:b xmlns:a="urn:x" a:c="1">t<d/>u</a:b>'])
def test_reads_what_elementtree_reads(xml: bytes) -> None:
    assert ElementTree.tostring(parse_xml(xml)) == ElementTree.tostring(ElementTree.fromstring(xml))


@pytest.mark.parametrize(
    ("xml", "why"),
    [
        (CHAIN, "document type"),
        (b"<!DOCTYPE a><a/>", "document type"),
        ("<!DOCTYPE a><a/>".encode("utf-16"), "document type"),
        (b'<!DOCTYPE a SYSTEM "file:///etc/passwd"><a/>', "document type"),
        (b"<a>" * 100_000, "nested"),
        (b"<a>" + b"<b/>" * 300_000 + b"</a>", "more than 200000"),
        (b"<a>" + b"<!---->" * 300_000 + b"</a>", "more than 200000"),
        (b"<a>&e;</a>", "undefined entity"),
        (b'<?xml version="1.0" encoding="no-such"?><a/>', "encoding"),
        (b"", "no element"),
        (b"<a", "unclosed token"),
    ],
)
def test_refuses(xml: bytes, why: str) -> None:
    with pytest.raises(XmlError, match=why):
        parse_xml(xml)
    for read in (MrdHeader.parse, without_identity):
        with pytest.raises(HeaderError):
            read(xml)


def test_where_it_was_found() -> None:
    with pytest.raises(XmlError) as caught:
        parse_xml(b"<a>\n  <b></a>")
    assert caught.value.position[0] == 2


@pytest.mark.parametrize(
    "body",
    [
        b"<studyID/>" * 150_000,
        b"<studyID>4711</studyID>" * 80_000,
        b"<!-- Jane -->" * 100_000,
        b"<measurementID>" + b"7" * 4_000_000 + b"</measurementID>",
        b"<measurementID>" + b"7 " * 2_000_000 + b"</measurementID>",
        b"<studyDate " + b"".join(b"a%d='x' " % i for i in range(50_000)) + b"/>",
        b"<userParameterString>" + b"<name>a</name>" * 100_000 + b"</userParameterString>",
    ],
)
def test_cleaning_takes_time_that_grows_with_the_size(body: bytes) -> None:
    begun = perf_counter()
    xml = b"<h>" + body + b"</h>"
    assert len(without_identity(xml)) == len(xml)
    assert perf_counter() - begun < 30  # with work for each pair of elements, it took minutes to hours


def test_one_place_parses() -> None:
    """Whoever makes a parser of his own forgets what this one refuses."""
    parses = re.compile(
        r"ElementTree\.(fromstring|parse|iterparse|XML|XMLParser)\b|ParserCreate|minidom|xml\.sax\.(?!saxutils)"
    )
    makers = {
        path.relative_to(REPO).as_posix()
        for folder in ("sdk", "plugin", "training", "deploy")
        for path in (REPO / folder).rglob("*.py")
        if parses.search(path.read_text(encoding="utf-8"))
    }
    # Cleaning needs the places of the elements, and takes the limits from there.
    others = {
        path
        for path in makers - {"sdk/scanside/mrd/xml.py"}
        if "run_parser(" not in (REPO / path).read_text()
    }
    assert not others
    assert all("/privacy" in path for path in makers - {"sdk/scanside/mrd/xml.py"})


def test_declarations() -> None:
    assert without_declaration(b'<?xml version="1.0"?>\n<a/>') == b"<a/>"
    assert without_declaration(b"<a/>") == b"<a/>"
    many = b"<?xml " * 1_000_000
    begun = perf_counter()
    assert without_declaration(many) == many
    assert perf_counter() - begun < 30  # each of them looking for its end took days
