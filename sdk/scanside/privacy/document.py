"""An XML document as a tree that knows at which bytes everything stands."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple
from xml.parsers import expat

from scanside.errors import FormatError
from scanside.mrd.xml import XmlError, run_parser

__all__ = ["Attribute", "Element", "Span", "read_document"]

_LARGEST = 16 << 20
"""Far beyond any document that a scanner makes; what is larger is not looked through."""

_TAG = re.compile(rb"<(?:[^\"'<>]|\"[^\"]*\"|'[^']*')*>")
_ATTRIBUTE = re.compile(rb"\s([^\s=\"'<>/]+)\s*=\s*(\"[^\"]*\"|'[^']*')")


class Span(NamedTuple):
    """Bytes from ``start`` up to ``end``."""

    start: int
    end: int


class Attribute(NamedTuple):
    """An attribute of an element.

    Attributes:
        name: with its prefix.
        text: its value as it stands in the document.
        span: of the value, without quotes.
    """

    name: str
    text: str
    span: Span


@dataclass(slots=True)
class Element:
    """An element.

    Attributes:
        name: without its prefix.
        span: with both tags.
        attributes: in order.
        children: elements right below it.
        texts: where its own text stands.
        text: its own text, joined.
    """

    name: str
    span: Span
    attributes: list[Attribute]
    children: list[Element] = field(default_factory=list)
    texts: list[Span] = field(default_factory=list)
    text: str = ""

    def child_text(self, name: str) -> str:
        """Text of the first child of a name; empty where there is none."""
        return next((child.text.strip() for child in self.children if child.name == name), "")

    def walk(self) -> Iterator[Element]:
        """This element and all below, in order."""
        waiting = [self]
        while waiting:
            element = waiting.pop()
            yield element
            waiting.extend(reversed(element.children))


def read_document(xml: bytes) -> tuple[Element, list[Span]]:
    """The tree of a document, and where its comments and processing instructions stand.

    Takes a time in proportion to the document's length.

    Args:
        xml: in an encoding that holds ASCII; trailing NULs are allowed.

    Raises:
        FormatError: it is malformed, declares a document type, is in UTF-16, or is larger than any real one.
    """
    body = xml.rstrip(b"\0")
    if body[:2] in (b"\xff\xfe", b"\xfe\xff") or b"\0" in body[:4]:
        raise FormatError("it is in UTF-16, of which names cannot be taken out in place")
    if len(body) > _LARGEST:
        raise FormatError(f"it has {len(body)} bytes, and more than {_LARGEST} are not looked through")
    reader = _Reader(body)
    try:
        return reader.read(), reader.asides
    except XmlError as error:
        raise FormatError(f"it is not well-formed XML ({error})") from error


class _Reader:
    """Follows a parser and notes where it is."""

    def __init__(self, xml: bytes) -> None:
        self._xml = xml
        self._open: list[Element] = []
        self._pieces: list[list[str]] = []
        self._text_start: int | None = None
        self._root: Element | None = None
        self.asides: list[Span] = []
        self._parser = parser = expat.ParserCreate()
        parser.buffer_text = False
        parser.StartElementHandler = self._start
        parser.EndElementHandler = self._end
        parser.CharacterDataHandler = self._text
        parser.StartCdataSectionHandler = self._end_text
        parser.EndCdataSectionHandler = self._end_text
        parser.CommentHandler = lambda _: self._aside(b"-->")
        parser.ProcessingInstructionHandler = lambda *_: self._aside(b"?>")

    def read(self) -> Element:
        """Read all."""
        try:
            run_parser(self._parser, self._xml)
        finally:
            # As there: what refers to its parser would stay until garbage is looked for.
            self._parser.StartCdataSectionHandler = self._parser.EndCdataSectionHandler = None
        assert self._root is not None, "a parser that found no fault"
        return self._root

    def _start(self, tag: str, _: dict[str, str]) -> None:
        self._end_text()
        start = self._parser.CurrentByteIndex
        match = _TAG.match(self._xml, start)
        if match is None:
            raise ValueError("its encoding does not hold ASCII, so nothing can be taken out in place")
        attributes = [
            Attribute(
                found[1].decode(errors="replace"),
                found[2][1:-1].decode(errors="replace"),
                Span(found.start(2) + 1, found.end(2) - 1),
            )
            for found in _ATTRIBUTE.finditer(self._xml, start, match.end())
        ]
        element = Element(tag.rpartition(":")[2], Span(start, match.end()), attributes)
        if self._open:
            self._open[-1].children.append(element)
        else:
            self._root = element
        self._open.append(element)
        self._pieces.append([])

    def _end(self, _: str) -> None:
        self._end_text()
        element = self._open.pop()
        element.text = "".join(self._pieces.pop())
        start, end = element.span
        if self._xml[end - 2 : end] != b"/>":
            end = self._xml.index(b">", self._parser.CurrentByteIndex) + 1
        element.span = Span(start, end)

    def _text(self, text: str) -> None:
        if self._text_start is None:
            self._text_start = self._parser.CurrentByteIndex
        self._pieces[-1].append(text)

    def _end_text(self) -> None:
        if self._text_start is not None:
            self._open[-1].texts.append(Span(self._text_start, self._parser.CurrentByteIndex))
            self._text_start = None

    def _aside(self, ending: bytes) -> None:
        if self._open:
            self._end_text()
        start = self._parser.CurrentByteIndex
        self.asides.append(Span(start, self._xml.index(ending, start) + len(ending)))
