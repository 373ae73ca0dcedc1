"""What of a scan's XML header identifies a person, and how to take it out while all else stays byte for byte.

What goes follows the Basic Application Level Confidentiality Profile of DICOM PS3.15, Annex E, for the elements
that the ISMRMRD schema has: everything about the subject, names of physicians and of the institution, numbers and
descriptions of the study, dates and times, and unique identifiers. The protocol's name stays, as nobody could tell
recordings apart without it: it must not hold names of people.

Samples stay as well: a head may be recognised from its reconstructed surface. A recording without names is still the
data of a person.
"""

from __future__ import annotations

import base64
import hashlib
import re
from dataclasses import dataclass, field
from xml.parsers import expat

from scanside.errors import HeaderError
from scanside.mrd.xml import XmlError, run_parser

__all__ = ["IDENTIFYING", "identifying_elements", "without_identity"]

IDENTIFYING = frozenset(
    {
        "subjectInformation",
        "studyDate",
        "studyTime",
        "studyID",
        "accessionNumber",
        "referringPhysicianName",
        "studyDescription",
        "studyInstanceUID",
        "seriesDate",
        "seriesTime",
        "seriesDescription",
        "seriesInstanceUIDRoot",
        "frameOfReferenceUID",
        "referencedImageSequence",
        "institutionName",
        "stationName",
        "deviceID",
        "deviceSerialNumber",
    }
)
"""Elements of the ISMRMRD schema that are taken out whole."""

_PSEUDONYMS = frozenset({"measurementID"})
"""Elements that scans refer to each other by: scanners put numbers of patient and study into them, so they become
other ones, equal in all headers that had the same."""

_SHORTEST_PSEUDONYM = 8
"""Letters below which an identifier says nothing of a person, and a pseudonym of its length would not be unique."""

_SUSPICIOUS = re.compile(
    r"patient|subject|person|birth|gender|physician|operator|technologist|accession|institution|hospital|address",
    re.IGNORECASE,
)
_HARMLESS = frozenset({"patientPosition", "patientTablePosition"})

_USER_PARAMETERS = frozenset(
    {"userParameterLong", "userParameterDouble", "userParameterString", "userParameterBase64"}
)

_TAG = re.compile(rb"<(?:[^\"'<>]|\"[^\"]*\"|'[^']*')*>")


@dataclass(slots=True)
class _Element:
    """An element that is open, and where it began."""

    name: str
    start: int
    text_start: int
    user_name: str = ""
    text: list[str] = field(default_factory=list)


def without_identity(xml: bytes) -> bytes:
    """A header that names nobody, of the same length.

    Identifying elements and all comments become blanks; measurement IDs of eight letters and more become pseudonyms
    of the same length. Every other byte is as it was, so positions in a stream stay what they are.

    Args:
        xml: the header as it was sent, in an encoding that holds ASCII; a trailing NUL is allowed.

    Raises:
        HeaderError: it cannot be told what is in it: malformed, with a document type of its own, or in UTF-16.
    """
    cleaned = bytearray(xml)
    for start, end, pseudonym in _marked(xml):
        cleaned[start:end] = _pseudonym(xml[start:end]) if pseudonym else b" " * (end - start)
    return bytes(cleaned)


def identifying_elements(xml: bytes) -> list[bytes]:
    """What `without_identity` would change, in order, as it stands in the header.

    Raises:
        HeaderError: as there.
    """
    return [xml[start:end] for start, end, _ in _marked(xml)]


def _marked(xml: bytes) -> list[tuple[int, int, bool]]:
    """Places (start, end) that identify somebody, and whether a pseudonym takes their place."""
    body = xml.rstrip(b"\0")
    if body[:2] in (b"\xff\xfe", b"\xfe\xff") or b"\0" in body[:4]:
        raise HeaderError(
            "the scan's header is in UTF-16, of which names cannot be taken out in place: have the converter write "
            "UTF-8, or keep the patient's fields"
        )
    walk = _Walk(body)
    parser = expat.ParserCreate()
    walk.follow(parser)
    try:
        run_parser(parser, body)
    except XmlError as error:
        raise HeaderError(
            f"the scan's header is not well-formed XML ({error}): it cannot be told where it names a person"
        ) from error
    return walk.marked


class _Walk:
    """Follows a parser through a header and marks what identifies a person."""

    def __init__(self, xml: bytes) -> None:
        self._xml = xml
        self._open: list[_Element] = []
        self.marked: list[tuple[int, int, bool]] = []

    def follow(self, parser: expat.XMLParserType) -> None:
        """Have a parser report to this walk."""
        self._parser = parser
        parser.buffer_text = False
        parser.StartElementHandler = self._start
        parser.EndElementHandler = self._end
        parser.CharacterDataHandler = self._text
        parser.CommentHandler = lambda _: self._aside(b"-->")
        parser.ProcessingInstructionHandler = lambda *_: self._aside(b"?>")

    def _start(self, tag: str, attributes: dict[str, str]) -> None:
        start = self._parser.CurrentByteIndex
        match = _TAG.match(self._xml, start)
        if match is None:
            raise ValueError("its encoding does not hold ASCII, so nothing can be taken out in place")
        self._open.append(_Element(tag.rpartition(":")[2], start, match.end()))

    def _text(self, text: str) -> None:
        if self._open:
            self._open[-1].text.append(text)

    def _end(self, tag: str) -> None:
        element = self._open.pop()
        empty = self._xml[element.text_start - 2 : element.text_start] == b"/>"
        text_end = element.text_start if empty else self._parser.CurrentByteIndex
        end = element.text_start if empty else self._xml.index(b">", text_end) + 1
        if element.name == "name" and self._open and self._open[-1].name in _USER_PARAMETERS:
            self._open[-1].user_name = "".join(element.text)
        if self._identifies(element):
            # What was marked inside it lies in it, and came last.
            while self.marked and self.marked[-1][0] > element.start:
                self.marked.pop()
            self.marked.append((element.start, end, False))
        elif element.name in _PSEUDONYMS:
            self._mark_identifier(element.text_start, text_end)

    def _identifies(self, element: _Element) -> bool:
        if element.name in IDENTIFYING:
            return True
        name = element.user_name if element.name in _USER_PARAMETERS else element.name
        return name not in _HARMLESS and _SUSPICIOUS.search(name) is not None

    def _mark_identifier(self, start: int, end: int) -> None:
        text = self._xml[start:end]
        found = re.search(rb"\S(?:.*\S)?", text, re.DOTALL)
        if found is not None and found.end() - found.start() >= _SHORTEST_PSEUDONYM:
            self.marked.append((start + found.start(), start + found.end(), True))

    def _aside(self, ending: bytes) -> None:
        start = self._parser.CurrentByteIndex
        self.marked.append((start, self._xml.index(ending, start) + len(ending), False))


def _pseudonym(identifier: bytes) -> bytes:
    """Letters and digits of the identifier's length that come from nothing but the identifier."""
    letters = bytearray()
    block = identifier
    while len(letters) < len(identifier):
        block = hashlib.sha256(b"scanside pseudonym " + block).digest()
        letters += base64.b32encode(block).rstrip(b"=").lower()
    return bytes(letters[: len(identifier)])
