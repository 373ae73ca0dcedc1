"""Meta attributes of images: names with one or several values each, sent as a little XML document."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, MutableMapping
from typing import TypeAlias
from xml.etree import ElementTree
from xml.sax.saxutils import escape

import numpy as np

from scanside.errors import FormatError
from scanside.mrd.xml import XmlError, parse_xml
from scanside.texts import shortened, shown

__all__ = ["Meta", "MetaValue"]

MetaValue: TypeAlias = "str | int | float | np.generic"
"""What a value may be set to; it is kept as the text that is sent."""

_NOT_IN_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


class Meta(MutableMapping[str, list[str]]):
    """Meta attributes of an image: each name has a list of one or more strings; the order is kept.

    ``meta["name"] = 3`` and ``meta["name"] = ["a", "b"]`` both work; ``meta["name"]`` is always a list. An
    empty value stays the empty string. Two are equal if they have the same names with the same values.

    Args:
        values: attributes to begin with.

    Raises:
        TypeError: a value is neither text nor a number.
        ValueError: a name without text, or an empty list of values.
    """

    __slots__ = ("_values",)

    def __init__(self, values: Mapping[str, MetaValue | Iterable[MetaValue]] | None = None) -> None:
        self._values: dict[str, list[str]] = {}
        for name, value in (values or {}).items():
            self[name] = value

    @classmethod
    def parse(cls, xml: bytes | str) -> Meta:
        """Attributes from the text that came with an image.

        Trailing NUL bytes, which count into the length on the wire, are dropped; no text is no attributes.
        Values of a name that appears more than once are put together.

        Raises:
            FormatError: the text is not an ``ismrmrdMeta`` document.
        """
        text = (xml.encode() if isinstance(xml, str) else bytes(xml)).rstrip(b"\0")
        if not text.strip():
            return cls()
        try:
            root = parse_xml(text.decode() if isinstance(xml, str) else text)
        except XmlError as error:
            line, column = error.position
            start = sum(len(part) for part in text.splitlines(keepends=True)[: line - 1]) + column
            raise _malformed(str(error), text[max(start - 40, 0) :]) from error
        if root.tag != "ismrmrdMeta":
            raise _malformed(
                f"the outermost element is <{shortened(root.tag, 80)}>, expected <ismrmrdMeta>", text
            )
        meta = cls()
        for entry in root.iterfind("meta"):
            name = entry.findtext("name")
            if not name:
                raise _malformed("a <meta> element has no <name>", ElementTree.tostring(entry))
            values = [value.text or "" for value in entry.iterfind("value")]
            meta.append(name, *values or [""])
        return meta

    def to_xml(self) -> bytes:
        """The attributes as sent with an image, UTF-8, without a trailing NUL; no attributes give no bytes.

        Characters that XML cannot hold (control characters) become U+FFFD.
        """
        if not self._values:
            return b""
        lines = ['<?xml version="1.0" encoding="UTF-8"?>', "<ismrmrdMeta>"]
        for name, values in self._values.items():
            elements = "".join(f"<value>{_escaped(_text(value))}</value>" for value in values)
            lines.append(f"<meta><name>{_escaped(name)}</name>{elements}</meta>")
        return "\n".join([*lines, "</ismrmrdMeta>\n"]).encode()

    def first(self, name: str, default: str = "") -> str:
        """The first value of a name, or a default where there is no such name."""
        values = self._values.get(name)
        return values[0] if values else default

    def append(self, name: str, *values: MetaValue) -> None:
        """Add values behind those that a name already has."""
        self[name] = [*self._values.get(name, []), *map(_text, values)]

    def copy(self) -> Meta:
        """A copy that shares nothing with this one."""
        return Meta(self._values)

    def __getitem__(self, name: str) -> list[str]:
        return self._values[name]

    def __setitem__(self, name: str, value: MetaValue | Iterable[MetaValue]) -> None:
        if not isinstance(name, str) or not name:
            raise ValueError(f"a meta attribute needs a name, got {name!r}")
        is_list = isinstance(value, Iterable) and not isinstance(value, (str, bytes))
        values = [_text(item) for item in (value if is_list else [value])]  # type: ignore[union-attr]
        if not values:
            raise ValueError(f"meta attribute '{name}' needs a value; delete the name to have none")
        self._values[name] = values

    def __delitem__(self, name: str) -> None:
        del self._values[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __eq__(self, other: object) -> bool:
        return self._values == other._values if isinstance(other, Meta) else NotImplemented

    __hash__ = None  # type: ignore[assignment]  # mutable

    def __repr__(self) -> str:
        return f"Meta({self._values!r})"


def _text(value: object) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, (bool, np.bool_)):
        return "true" if value else "false"
    # Whatever else would print as something that no reader expects: None, a tensor, an object's address.
    if not isinstance(value, (int, float, np.generic)):
        raise TypeError(f"a meta attribute is text or a number, got {value!r}")
    return str(value)


def _escaped(text: str) -> str:
    # A parser turns a bare carriage return into a line feed.
    return escape(_NOT_IN_XML.sub("\ufffd", text), {"\r": "&#13;"})


def _malformed(why: str, text: bytes) -> FormatError:
    return FormatError(f"the meta attributes are not an ismrmrdMeta document: {why}; near {shown(text)}")
