"""Configurations, hosts' parameters and meta attributes: what is not known by its words is masked."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from enum import Enum

from scanside.errors import FormatError
from scanside.privacy.document import Attribute, Element, Span, read_document
from scanside.privacy.edits import Change, Edit, apply, masked
from scanside.privacy.vocabulary import Vocabulary

__all__ = ["clean_attributes", "clean_message", "clean_name", "clean_settings"]

_LARGEST = 16 << 20

_TOKEN = re.compile(
    rb'\s*(?:(?P<text>"(?:[^"\\]|\\.)*")|(?P<other>[-+]?[\d.]+(?:[eE][-+]?\d+)?|true|false|null)|(?P<sign>[{}\[\]:,]))',
    re.DOTALL,
)

_QUOTED = re.compile(r"""(?<!\w)(?:'[^']*'|"[^"]*")|(?<=\bb)(?:'[^']*'|"[^"]*")""")

_CONFIGURATION = frozenset({"pipeline", "property", "output", "name", "value"})
_ATTRIBUTES = frozenset({"ismrmrdMeta", "name", "value"})


def clean_name(name: bytes, vocabulary: Vocabulary) -> bytes:
    """The name of a configuration as it stands on the wire; masked unless it is known, and nothing after its NUL."""
    text, nul, rest = name.partition(b"\0")
    if not vocabulary.knows(text.decode(errors="replace")):
        text = masked(text)
    return text + nul + b"\0" * len(rest)


def clean_settings(text: bytes, vocabulary: Vocabulary, keep: Collection[str] = ()) -> bytes:
    """A configuration in XML, or settings in JSON, of the same length.

    A setting stays whose name is known and whose value is a number or known. Other values are masked; a text that is
    neither XML nor JSON is masked whole.

    Args:
        text: as it was sent.
        vocabulary: what is known.
        keep: names of settings that stay as they are.
    """
    if len(text) > _LARGEST:
        return masked(text)
    if text.lstrip()[:1] == b"<":
        return _cleaned_document(text, vocabulary, keep, _CONFIGURATION, "property")
    json = _Json(text.rstrip(b"\0"), vocabulary, keep)
    return apply(text, json.edits) if json.read() else masked(text)


def clean_attributes(xml: bytes, vocabulary: Vocabulary, keep: Collection[str] = ()) -> bytes:
    """An image's meta attributes, of the same length; as `clean_settings`."""
    return _cleaned_document(xml, vocabulary, keep, _ATTRIBUTES, "meta")


def clean_message(text: str, vocabulary: Vocabulary) -> str:
    """What Scanside says of an error, with what it quotes masked where that is not known."""

    def quoted(found: re.Match[str]) -> str:
        content = found[0][1:-1]
        return (
            found[0]
            if _is_known(content, vocabulary)
            else f"'{masked(content.encode(errors='replace')).decode()}'"
        )

    return _QUOTED.sub(quoted, text)


def _cleaned_document(
    xml: bytes, vocabulary: Vocabulary, keep: Collection[str], names: frozenset[str], group: str
) -> bytes:
    try:
        root, asides = read_document(xml)
    except FormatError:
        return masked(xml)
    if root.name not in names and not vocabulary.knows(root.name):
        return masked(xml)
    edits = [Edit(span, Change.BLANK) for span in asides]
    waiting = [root]
    while waiting:
        element = waiting.pop()
        name = _group_name(element) if element.name == group else element.name
        if element.name == group and name in keep:
            continue
        if name not in names and not vocabulary.knows(name):
            edits.append(Edit(element.span, Change.BLANK))
            continue
        edits += [Edit(span, Change.MASK) for span in _unknown(element, vocabulary)]
        waiting.extend(element.children)
    return apply(xml, edits)


def _group_name(element: Element) -> str:
    own = next((one.text for one in element.attributes if one.name == "name"), "")
    return own.strip() or element.child_text("name")


def _unknown(element: Element, vocabulary: Vocabulary) -> Iterator[Span]:
    """Attributes' values and text of an element that are not known."""
    for one in element.attributes:
        if not _is_known(one.text, vocabulary) and not _is_name_space(one):
            yield one.span
    if not _is_known(element.text.strip(), vocabulary):
        yield from element.texts


def _is_known(text: str, vocabulary: Vocabulary) -> bool:
    return Vocabulary.is_number(text) or vocabulary.knows(text)


def _is_name_space(attribute: Attribute) -> bool:
    return attribute.name.startswith(("xmlns", "xsi:")) and "ismrm" in attribute.text


class _Stays(Enum):
    """What of a value stays."""

    NOTHING = "nothing"
    KNOWN = "known"
    ALL = "all"


class _Json:
    """Goes through JSON sign by sign, so that neither depth nor faults in it matter."""

    def __init__(self, text: bytes, vocabulary: Vocabulary, keep: Collection[str]) -> None:
        self._text = text
        self._vocabulary = vocabulary
        self._keep = keep
        self._may_stay = [_Stays.NOTHING]
        """Of each object and list that is open, what of the present name's values stays."""
        self._string: Span | None = None
        self.edits: list[Edit] = []

    def read(self) -> bool:
        """Read all; whether it can be JSON."""
        place, end = 0, len(self._text.rstrip())
        while place < end:
            token = _TOKEN.match(self._text, place)
            if token is None:
                return False
            place = token.end()
            if token["sign"] == b":":
                if not self._take_name():
                    return False
                continue
            self._take_string()
            if token["sign"] in (b"{", b"["):
                self._may_stay.append(self._may_stay[-1])
            elif token["sign"] in (b"}", b"]"):
                self._may_stay.pop()
            elif token["text"] is not None:
                self._string = Span(token.start("text") + 1, token.end("text") - 1)
            elif token["other"] is not None and self._may_stay[-1] is _Stays.NOTHING:
                self.edits.append(Edit(Span(*token.span("other")), Change.DIGITS))
            if not self._may_stay:
                return False
        self._take_string()
        return True

    def _take_name(self) -> bool:
        """The string before a colon is the name of what follows; whether there is one."""
        if self._string is None or len(self._may_stay) == 1:
            return False
        if self._may_stay[-2] is not _Stays.ALL:
            name = self._content(self._string)
            if name in self._keep:
                self._may_stay[-1] = _Stays.ALL
            elif self._vocabulary.knows(name):
                self._may_stay[-1] = _Stays.KNOWN
            else:
                self._may_stay[-1] = _Stays.NOTHING
                self.edits.append(Edit(self._string, Change.MASK))
        self._string = None
        return True

    def _take_string(self) -> None:
        """Any other string is a value."""
        if self._string is None:
            return
        stays = self._may_stay[-1]
        known = stays is _Stays.KNOWN and _is_known(self._content(self._string), self._vocabulary)
        if stays is not _Stays.ALL and not known:
            self.edits.append(Edit(self._string, Change.MASK))
        self._string = None

    def _content(self, span: Span) -> str:
        return self._text[span.start : span.end].decode(errors="replace")
