"""The types of a yardl schema, resolved: no names, no aliases, no type parameters are left.

What is written of each, see `scanside.mrd.v2.values`. The format: https://microsoft.github.io/yardl/reference/binary.html
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np

from scanside.errors import FileFormatError
from scanside.texts import shown

__all__ = [
    "FIXED",
    "INTEGERS",
    "INTEGER_DTYPES",
    "Array",
    "Enum",
    "Map",
    "Protocol",
    "Record",
    "Scalar",
    "Type",
    "Union",
    "Vector",
    "leaf_paths",
    "parse_schema",
]

_DEEPEST = 40
_MOST_CASES = 128
"""Of a union: its number is one byte, of which the highest bit has no meaning yet."""


@dataclass(frozen=True, slots=True)
class Scalar:
    """A primitive, by its name in the schema."""

    name: str


@dataclass(frozen=True, slots=True)
class Enum:
    """A number that has names; flags are one too. Numbers without a name are possible."""

    name: str
    base: Scalar
    symbols: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Record:
    """Values by name, in the order in which they are written."""

    name: str
    fields: Mapping[str, Type]


@dataclass(frozen=True, slots=True)
class Union:
    """One of several types; the first may be None, which stands for no value."""

    cases: tuple[tuple[str, Type | None], ...]

    @property
    def optional(self) -> Type | None:
        """The type of a value that may be absent; None where there are more types than one."""
        return self.cases[1][1] if len(self.cases) == 2 and self.cases[0][1] is None else None


@dataclass(frozen=True, slots=True)
class Vector:
    """Values in a row; without a `length` it is written before them."""

    items: Type
    length: int | None = None


@dataclass(frozen=True, slots=True)
class Array:
    """An n-dimensional array in C order.

    Attributes:
        items: type of its elements.
        n_dimensions: None where their number is written too.
        shape: where it is fixed and not written.
    """

    items: Type
    n_dimensions: int | None = None
    shape: tuple[int, ...] | None = None


@dataclass(frozen=True, slots=True)
class Map:
    """Values by key."""

    keys: Type
    values: Type


Type: TypeAlias = Scalar | Enum | Record | Union | Vector | Array | Map

_VARINTS = {"int16": 16, "uint16": 16, "int32": 32, "uint32": 32, "int64": 64, "uint64": 64, "size": 64}
INTEGERS: Mapping[str, tuple[bool, int]] = {
    **{name: (name.startswith("int"), bits) for name, bits in _VARINTS.items()},
    "date": (True, 64),
    "time": (True, 64),
    "datetime": (True, 64),
}
"""Scalars that are written with a variable number of bytes: whether they have a sign, and how many bits."""

FIXED: Mapping[str, np.dtype[Any]] = {
    "bool": np.dtype("?"),
    "int8": np.dtype("i1"),
    "uint8": np.dtype("u1"),
    "float32": np.dtype("<f4"),
    "float64": np.dtype("<f8"),
    "complexfloat32": np.dtype("<c8"),
    "complexfloat64": np.dtype("<c16"),
}
"""Scalars that are written with a fixed number of bytes, as NumPy has them in memory."""

INTEGER_DTYPES: Mapping[str, np.dtype[Any]] = {
    name: np.dtype(f"<{'i' if signed else 'u'}{bits // 8}") for name, (signed, bits) in INTEGERS.items()
}
"""NumPy's type of the elements of an array of `INTEGERS`."""

_SCALARS = {*INTEGERS, *FIXED, "string"}


@dataclass(frozen=True, slots=True)
class Protocol:
    """What a stream consists of.

    Attributes:
        name: of the protocol.
        steps: type of each part by its name, in order; a part that is a stream of items is the type of one of them.
        streams: names of the parts that are streams.
        text: the schema, as streams carry it.
    """

    name: str
    steps: Mapping[str, Type]
    streams: frozenset[str]
    text: bytes = field(repr=False)


def parse_schema(text: bytes) -> Protocol:
    """Read a schema.

    Raises:
        FileFormatError: it is not one, or one that says things that are not known.
    """
    try:
        schema = json.loads(text)
        protocol = schema["protocol"]
        resolver = _Resolver({one["name"]: one for one in schema["types"] or ()})
        steps: dict[str, Type] = {}
        streams = set()
        for step in protocol["sequence"]:
            inner = step["type"]
            if isinstance(inner, dict) and "stream" in inner:
                streams.add(step["name"])
                inner = inner["stream"]["items"]
            steps[step["name"]] = resolver.resolve(inner, {})
        return Protocol(str(protocol["name"]), steps, frozenset(streams), text)
    except FileFormatError:
        raise
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise FileFormatError(
            f"the schema at the beginning of the MRD 2 stream cannot be read ({type(error).__name__}: {error}); it "
            f"begins with {shown(text, 60)}"
        ) from error


class _Resolver:
    def __init__(self, named: Mapping[str, Any]) -> None:
        self._named = named
        self._depth = 0

    def resolve(self, one: Any, arguments: Mapping[str, Type]) -> Type:
        """The type that a piece of the schema means, where type parameters stand for `arguments`."""
        self._depth += 1
        if self._depth > _DEEPEST:
            raise FileFormatError(
                f"the schema of the MRD 2 stream nests types more than {_DEEPEST} deep, which none does"
            )
        try:
            return self._resolve(one, arguments)
        finally:
            self._depth -= 1

    def _resolve(self, one: Any, arguments: Mapping[str, Type]) -> Type:
        if isinstance(one, str):
            return self._by_name(one, [], arguments)
        if isinstance(one, list):
            return self._union(one, arguments)
        if "vector" in one:
            vector = one["vector"]
            return Vector(self.resolve(vector["items"], arguments), vector.get("length"))
        if "array" in one:
            return self._array(one["array"], arguments)
        if "map" in one:
            return Map(
                self.resolve(one["map"]["keys"], arguments), self.resolve(one["map"]["values"], arguments)
            )
        return self._by_name(one["name"], one.get("typeArguments", []), arguments)

    def _by_name(self, name: str, given: list[Any], arguments: Mapping[str, Type]) -> Type:
        if name in arguments:
            return arguments[name]
        if name in _SCALARS:
            return Scalar(name)
        found = self._named.get(name.rpartition(".")[2])
        if found is None:
            raise FileFormatError(f"the schema of the MRD 2 stream has no type {shown(name, 80)}")
        inner = dict(
            zip(found.get("typeParameters", ()), (self.resolve(one, arguments) for one in given), strict=True)
        )
        if "fields" in found:
            if not found["fields"]:
                raise FileFormatError(f"type {shown(name, 80)} of the MRD 2 stream's schema has no fields")
            return Record(
                found["name"],
                {one["name"]: self.resolve(one["type"], inner) for one in found["fields"]},
            )
        if "values" in found:
            base = self.resolve(found.get("base") or "int32", {})
            assert isinstance(base, Scalar)
            return Enum(found["name"], base, {one["symbol"]: int(one["value"]) for one in found["values"]})
        return self.resolve(found["type"], inner)

    def _union(self, cases: list[Any], arguments: Mapping[str, Type]) -> Union:
        found: list[tuple[str, Type | None]] = []
        for case in cases[:_MOST_CASES]:
            if case is None:
                found.append(("", None))
            elif isinstance(case, dict) and "tag" in case:
                found.append((str(case["tag"]), self.resolve(case["type"], arguments)))
            else:
                found.append((case if isinstance(case, str) else "", self.resolve(case, arguments)))
        return Union(tuple(found))

    def _array(self, array: Mapping[str, Any], arguments: Mapping[str, Type]) -> Array:
        items = self.resolve(array["items"], arguments)
        dimensions = array.get("dimensions")
        if dimensions is None:
            return Array(items)
        if isinstance(dimensions, int):
            return Array(items, dimensions)
        lengths = [one.get("length") if isinstance(one, dict) else None for one in dimensions]
        fixed = tuple(int(length) for length in lengths if length is not None)
        if fixed and len(fixed) == len(lengths):
            return Array(items, len(fixed), fixed)
        return Array(items, len(lengths))


def leaf_paths(kind: Type, path: str = "") -> Iterator[str]:
    """The dotted names of a record's fields, those of inner records included: ``head.idx.slice``."""
    if isinstance(kind, Record):
        for name, inner in kind.fields.items():
            yield from leaf_paths(inner, f"{path}.{name}" if path else name)
    else:
        yield path
