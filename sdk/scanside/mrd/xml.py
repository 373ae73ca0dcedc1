"""XML from files and peers: headers, configurations, attributes.

None of them has a document type. One could define entities that stand for each other by the hundred thousand, which
costs a reader its time, its memory or (by recursion inside the parser) its life; so it is refused where it begins.
"""

from __future__ import annotations

import re
from typing import Any, NoReturn
from xml.etree.ElementTree import Element, TreeBuilder
from xml.parsers import expat

from scanside.errors import FormatError

__all__ = ["XmlError", "parse_xml", "run_parser", "without_declaration"]

_DECLARATION = re.compile(rb"<\?xml[^>]*\?>\s*")
_DEEPEST = 100
_MOST_PARTS = 200_000


class XmlError(FormatError):
    """Not the XML that headers, configurations and attributes are.

    Attributes:
        position: line, from 1, and column, from 0, at which this was found.
    """

    def __init__(self, text: str, position: tuple[int, int]) -> None:
        super().__init__(text)
        self.position = position


def parse_xml(xml: bytes | str) -> Element:
    """The outermost element of a document, as `xml.etree.ElementTree` gives it.

    Args:
        xml: the document.

    Raises:
        XmlError: malformed, in an unknown encoding, with a document type, nested too deeply or in too many parts.
    """
    builder = TreeBuilder()
    parser = expat.ParserCreate("utf-8" if isinstance(xml, str) else None, "}")
    parser.buffer_text = True
    parser.StartElementHandler = lambda tag, attributes: builder.start(
        _expanded(tag), {_expanded(name): value for name, value in attributes.items()}
    )
    parser.EndElementHandler = lambda tag: builder.end(_expanded(tag))
    parser.CharacterDataHandler = builder.data
    run_parser(parser, xml.encode("utf-8", "replace") if isinstance(xml, str) else xml)
    return builder.close()


def without_declaration(xml: bytes) -> bytes:
    """What follows a document's ``<?xml … ?>``, if it begins with one."""
    match = _DECLARATION.match(xml)
    return xml if match is None else xml[match.end() :]


def run_parser(parser: expat.XMLParserType, xml: bytes) -> None:
    """Have a parser read a whole document, with the limits that hold for all of them.

    Args:
        parser: with handlers for what is of interest.
        xml: the document.

    Raises:
        XmlError: as `parse_xml`.
    """
    limits = _Limits(parser)
    try:
        parser.Parse(xml, True)
    except expat.ExpatError as error:
        raise XmlError(str(error), (error.lineno, error.offset)) from error
    except (LookupError, ValueError) as error:  # an encoding that is unknown, or not for documents
        if isinstance(error, XmlError):
            raise
        raise XmlError(str(error), (1, 0)) from error
    finally:
        # Handlers that refer to their parser would keep it, and the document, until garbage is looked for.
        limits.release()


class _Limits:
    """Counts beside a parser's own handlers, and stops it."""

    def __init__(self, parser: expat.XMLParserType) -> None:
        self._parser = parser
        self._n_parts = self._depth = 0
        self._start: Any = parser.StartElementHandler  # typeshed knows attributes in a list only
        self._end = parser.EndElementHandler
        self._comment, self._instruction = parser.CommentHandler, parser.ProcessingInstructionHandler
        parser.StartDoctypeDeclHandler = self._on_doctype
        parser.StartElementHandler = self._on_start
        parser.EndElementHandler = self._on_end
        parser.CommentHandler = self._on_comment
        parser.ProcessingInstructionHandler = self._on_instruction

    def release(self) -> None:
        """Take all handlers away."""
        parser = self._parser
        parser.StartDoctypeDeclHandler = parser.StartElementHandler = parser.EndElementHandler = None
        parser.CommentHandler = parser.ProcessingInstructionHandler = parser.CharacterDataHandler = None

    def _on_doctype(self, *_: object) -> NoReturn:
        self._refuse("it declares a document type (<!DOCTYPE), which such a document never does")

    def _on_start(self, tag: str, attributes: Any) -> None:
        self._depth += 1
        if self._depth > _DEEPEST:
            self._refuse(f"its elements are nested more than {_DEEPEST} deep")
        self._count()
        if self._start is not None:
            self._start(tag, attributes)

    def _on_end(self, tag: str) -> None:
        self._depth -= 1
        if self._end is not None:
            self._end(tag)

    def _on_comment(self, text: str) -> None:
        self._count()
        if self._comment is not None:
            self._comment(text)

    def _on_instruction(self, target: str, text: str) -> None:
        self._count()
        if self._instruction is not None:
            self._instruction(target, text)

    def _count(self) -> None:
        self._n_parts += 1
        if self._n_parts > _MOST_PARTS:
            self._refuse(f"it has more than {_MOST_PARTS} elements and comments")

    def _refuse(self, why: str) -> NoReturn:
        raise XmlError(why, (self._parser.CurrentLineNumber, self._parser.CurrentColumnNumber))


def _expanded(name: str) -> str:
    """A name with its namespace in braces."""
    return "{" + name if "}" in name else name
