"""The schemas of MRD 2 that are known, and what a stream's schema must have to be read as one."""

from __future__ import annotations

from functools import lru_cache
from importlib.resources import files

from scanside.errors import FileFormatError
from scanside.mrd.v2.types import Protocol, Record, Type, Union, parse_schema
from scanside.texts import shown

__all__ = ["NEWEST", "VERSIONS", "MrdSchema", "known_schema", "mrd_schema"]

VERSIONS = ("2.1", "2.2")
"""Of mrd-python 2.1.1 and 2.2.1."""

NEWEST = VERSIONS[-1]
_PROTOCOL = "Mrd"
_HEADER, _DATA = "header", "data"


class MrdSchema:
    """The types of one version of MRD 2.

    Attributes:
        text: the schema, as streams carry it.
        version: its number; None of one that is not known.
        header: type of the scan's header.
        items: the union of all that a stream holds.
        tags: numbers of the union's cases by their tags in lower case: 2.1 and 2.2 disagree about capitals.
    """

    def __init__(self, protocol: Protocol, header: Record, items: Union) -> None:
        self.text = protocol.text
        self.version = next((one for one in VERSIONS if _text(one) == protocol.text), None)
        self.header = header
        self.items = items
        self.tags = {tag.lower(): number for number, (tag, _) in enumerate(items.cases)}

    @property
    def name(self) -> str:
        """How errors call it."""
        return f"MRD {self.version}" if self.version else "an unknown version of MRD 2"

    def item(self, tag: str) -> tuple[int, Type]:
        """Number and type of a kind of items.

        Raises:
            KeyError: the schema has no such items.
        """
        number = self.tags[tag]
        kind = self.items.cases[number][1]
        assert kind is not None
        return number, kind


@lru_cache(maxsize=8)
def mrd_schema(text: bytes) -> MrdSchema:
    """What a stream holds by its schema.

    Raises:
        FileFormatError: the schema cannot be read, or is that of another protocol.
    """
    protocol = parse_schema(text)
    steps = {name: (kind, name in protocol.streams) for name, kind in protocol.steps.items()}
    header, data = steps.get(_HEADER), steps.get(_DATA)
    if protocol.name != _PROTOCOL or list(steps) != [_HEADER, _DATA] or header is None or data is None:
        raise FileFormatError(
            f"the stream is one of the yardl protocol {shown(protocol.name, 40)} with "
            f"{', '.join(steps) or 'nothing'}; expected protocol '{_PROTOCOL}' (MRD {' or '.join(VERSIONS)}) with "
            "header and data"
        )
    of_header = header[0].optional if isinstance(header[0], Union) else None
    if not isinstance(of_header, Record) or not (data[1] and isinstance(data[0], Union)):
        raise FileFormatError(
            "the schema of the MRD 2 stream has another header or other data than MRD "
            f"{' and '.join(VERSIONS)}, which have an optional record and a stream of a union's items"
        )
    return MrdSchema(protocol, of_header, data[0])


def known_schema(version: str) -> MrdSchema:
    """The schema of a version.

    Raises:
        ValueError: it is not known.
    """
    if version not in VERSIONS:
        raise ValueError(f"MRD {version} is not known; possible are {', '.join(VERSIONS)}")
    return mrd_schema(_text(version))


@lru_cache(maxsize=len(VERSIONS))
def _text(version: str) -> bytes:
    return (files("scanside.mrd.v2") / "schemas" / f"mrd-{version}.json").read_bytes()
