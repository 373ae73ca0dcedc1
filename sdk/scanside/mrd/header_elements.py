"""Values of a scan's XML header, read as producers write them.

What cannot be used counts as absent, and what was noticed is collected in words for the operator.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from xml.etree.ElementTree import Element

from scanside.errors import HeaderError
from scanside.mrd.xml import XmlError, parse_xml
from scanside.texts import shortened, shown

__all__ = ["Elements", "all_of", "name_of", "read_document", "without_nul"]

_DECLARATION = re.compile(r"^\s*<\?xml[^>]*\?>")
_NO_CHARACTER = re.compile(r"[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_STRAY_AMPERSAND = re.compile(r"&(?!(?:[A-Za-z_][\w.-]*|#[0-9]+|#x[0-9A-Fa-f]+);)")
_ROOT = re.compile(r"<(?![?!])[^\s/>]+")
_PREFIX = re.compile(r"<([A-Za-z_][\w.-]*):|\s([A-Za-z_][\w.-]*):[\w.-]+\s*=")
_END = re.compile(r"</(?:[A-Za-z_][\w.-]*:)?ismrmrdHeader\s*>")
_DECLARED = re.compile(r"\sxmlns:([A-Za-z_][\w.-]*)\s*=")
_MOST_PREFIXES = 8
_LITTLE_ENDIAN = (b"\xff\xfe", b"<\0")
_UTF_16 = (*_LITTLE_ENDIAN, b"\xfe\xff", b"\0<")
_MOST_WARNINGS = 20
_LARGEST = 2**31 - 1


def without_nul(xml: bytes) -> bytes:
    """A document without the NUL that ends a C string."""
    body = xml.rstrip(b"\0")
    # Of UTF-16 in little-endian order, one belongs to the last character.
    return body + b"\0" if xml[:2] in _LITTLE_ENDIAN else body


def read_document(xml: bytes) -> tuple[Element, list[str]]:
    """The outermost element of a header, and what had to be mended to read it.

    Blanks and NUL around the document are no fault. Bytes of another encoding than the declared one, characters that
    XML does not have, ampersands that stand for themselves and prefixes that nobody declared are mended and told.

    Args:
        xml: the document as received.

    Raises:
        HeaderError: malformed in another way, or another kind of document.
    """
    body = xml if xml[:2] in _UTF_16 else xml.strip(b"\0 \t\r\n")
    mended: list[str] = []
    try:
        root = parse_xml(body)
    except XmlError as error:
        text, mended = _mended(body)
        try:
            root = parse_xml(text)
        except XmlError:
            raise HeaderError(
                f"the scan's header is not well-formed XML ({error}); it begins with {shown(body, 60)}: "
                "check the converter that made the file or stream"
            ) from error
    if name_of(root) != "ismrmrdHeader":
        raise HeaderError(
            f"the scan's header is a <{shortened(name_of(root), 80)}> document, expected <ismrmrdHeader>: "
            "is this a configuration sent in the header's place?"
        )
    return root, mended


def _mended(xml: bytes) -> tuple[str, list[str]]:
    """A document as text that a parser may take, and what was done to it."""
    done: list[str] = []
    try:
        text = xml.decode("utf-16" if xml[:2] in _UTF_16 else "utf-8-sig")
    except UnicodeDecodeError:
        text = xml.decode("latin-1")
        done.append("its bytes are not in the encoding that it declares and were read as Latin-1")
    # Text has no encoding any more, and the parser must not look for one.
    declaration = _DECLARATION.match(text)
    text = text[declaration.end() :] if declaration else text
    for pattern, instead, what in (
        (_NO_CHARACTER, "", "it holds characters that XML does not have; they were left out"),
        (_STRAY_AMPERSAND, "&amp;", "it holds '&' where '&amp;' was meant"),
    ):
        text, n = pattern.subn(instead, text)
        if n:
            done.append(what)
    end = _END.search(text)
    if end is not None and end.end() < len(text.rstrip()):
        text = text[: end.end()]
        done.append("it goes on after its end; the rest was left out")
    text, undeclared = _with_prefixes(text.strip("\0 \t\r\n"))
    if undeclared:
        done.append(f"it uses prefixes that it does not declare ({', '.join(undeclared)})")
    if declaration and not done:
        done.append("its XML declaration does not fit and was left out")
    return text, [f"the scan's header is not well-formed XML: {what}" for what in done]


def _with_prefixes(text: str) -> tuple[str, list[str]]:
    """The document with a declaration of each prefix that it uses without one."""
    used = {one or other for one, other in _PREFIX.findall(text)} - {"xml", "xmlns"}
    undeclared = sorted(used - set(_DECLARED.findall(text)))[:_MOST_PREFIXES]
    root = _ROOT.search(text)
    if root is None or not undeclared:
        return text, []
    declared = "".join(f' xmlns:{prefix}="undeclared:{prefix}"' for prefix in undeclared)
    return text[: root.end()] + declared + text[root.end() :], undeclared


def name_of(element: Element) -> str:
    """Tag without its namespace: producers disagree about it."""
    return element.tag.rpartition("}")[2]


def all_of(parent: Element, *path: str) -> list[Element]:
    """All elements that a path leads to; a section that a producer put into one of its own name counts as well."""
    found = [parent]
    for name in path:
        found = [
            one
            for element in found
            for child in element
            if name_of(child) == name
            for one in _unwrapped(child)
        ]
    return found


def _unwrapped(element: Element) -> Iterator[Element]:
    waiting = [element]
    while waiting:
        one = waiting.pop(0)
        inner = [child for child in one if name_of(child) == name_of(one)]
        waiting += inner
        if not inner or len(inner) < len(one):
            yield one


class Elements:
    """Reads single values.

    Args:
        warnings: is added to.

    Attributes:
        warnings: what an operator should know, in the order in which it was noticed.
    """

    def __init__(self, warnings: list[str]) -> None:
        self.warnings = warnings

    def unusable(self, value: object, expected: str, path: tuple[str, ...]) -> None:
        """Note that a value counts as absent."""
        name = path[0] if " " in path[0] else f"<{'/'.join(path)}>"
        self.warnings.append(
            f"{name} of the scan's header is {value}, expected {expected}: it counts as absent"
        )

    def told(self) -> tuple[str, ...]:
        """The warnings, each once, and of very many only the first: they travel with every image."""
        told = list(dict.fromkeys(self.warnings))
        if len(told) > _MOST_WARNINGS:
            rest = len(told) - _MOST_WARNINGS
            told[_MOST_WARNINGS:] = [f"{rest} more elements of the scan's header are like these"]
        return tuple(told)

    def text(self, parent: Element, *path: str, tell_empty: bool = False) -> str | None:
        """The text of an element, of several the first that is not empty; None where there is none.

        Args:
            parent: where the path begins.
            path: names of elements.
            tell_empty: an empty element is worth a warning.
        """
        texts = [(element.text or "").strip() for element in all_of(parent, *path)]
        told = [text for text in texts if text]
        if len(set(told)) > 1:
            # Without the values: some are a person's, and warnings go far.
            self.warnings.append(
                f"<{'/'.join(path)}> stands {len(texts)} times in the scan's header, with different values: the "
                "first is taken"
            )
        if texts and not told and tell_empty:
            self.unusable("empty", "a value", path)
        return told[0] if told else None

    @staticmethod
    def as_number(text: str | None) -> float | None:
        """The finite number that a text is; None where it is none."""
        try:
            value = float(text or "")
        except ValueError:
            return None
        return value if math.isfinite(value) else None

    def number(self, parent: Element, *path: str) -> float | None:
        """A finite number."""
        text = self.text(parent, *path, tell_empty=True)
        value = self.as_number(text)
        if text is not None and value is None:
            self.unusable(shown(text), "a finite number", path)
        return value

    def whole(self, parent: Element, *path: str) -> int | None:
        """A whole number."""
        value = self.number(parent, *path)
        if value is not None and not (value.is_integer() and abs(value) <= _LARGEST):
            self.unusable(value, f"a whole number of at most {_LARGEST}", path)
            return None
        return None if value is None else int(value)

    def numbers(self, parent: Element, *path: str) -> tuple[float, ...]:
        """The numbers of an element that may come several times; none of them where one cannot be used.

        Their places mean something, such as the contrast that an echo time belongs to.
        """
        texts = [(element.text or "").strip() for element in all_of(parent, *path)]
        values = [self.as_number(text) for text in texts]
        for text, value in zip(texts, values, strict=True):
            if value is None:
                all_of_them = (
                    "a finite number" if len(texts) == 1 else f"a finite number in each of its {len(texts)}"
                )
                self.unusable(shown(text), all_of_them, path)
                return ()
        return tuple(value for value in values if value is not None)

    def check(self, expected: tuple[str, re.Pattern[str]], parent: Element, *path: str) -> None:
        """Note a text that is not what is expected. It may be of a person, so the note does not hold it."""
        text = self.text(parent, *path)
        if text is not None and expected[1].fullmatch(text) is None:
            self.unusable("something else", expected[0], path)

    def one_of(self, known: tuple[str, ...], parent: Element, *path: str) -> str | None:
        """One of some words, without regard to capitals."""
        text = self.text(parent, *path, tell_empty=True)
        for word in known:
            if text is not None and text.lower() == word.lower():
                return word
        if text is not None:
            self.unusable(shown(text), f"one of {', '.join(known)}", path)
        return None
