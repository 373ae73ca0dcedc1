"""Values of every type of both schemas, read as they were written."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from scanside.errors import IncompleteRead, MessageError
from scanside.mrd.ring import ReceiveRing
from scanside.mrd.source import Limits
from scanside.mrd.streams import MemoryStream
from scanside.mrd.v2.schemas import VERSIONS, known_schema
from scanside.mrd.v2.source import ItemSource
from scanside.mrd.v2.types import (
    FIXED,
    INTEGER_DTYPES,
    INTEGERS,
    Array,
    Enum,
    Map,
    Record,
    Scalar,
    Type,
    Union,
    Vector,
)
from scanside.mrd.v2.values import default, read_value, write_value

pytestmark = pytest.mark.torch_free


def source(data: bytes, limits: Limits | None = None, chunks: int | None = None) -> ItemSource:
    return ItemSource(ReceiveRing(MemoryStream(data, chunks), 1 << 12, 2), limits or Limits(), 0, 1)


def some(kind: Type) -> st.SearchStrategy[Any]:
    """Values of a type."""
    if isinstance(kind, Scalar):
        if kind.name in INTEGERS:
            signed, bits = INTEGERS[kind.name]
            return (
                st.integers(-(1 << bits - 1), (1 << bits - 1) - 1)
                if signed
                else st.integers(0, (1 << bits) - 1)
            )
        if kind.name == "float32":
            return st.floats(width=32)
        return st.text(max_size=5) if kind.name == "string" else st.floats()
    if isinstance(kind, Enum):
        return st.sampled_from(list(kind.symbols.values()))
    if isinstance(kind, Record):
        return st.fixed_dictionaries({name: some(of) for name, of in kind.fields.items()})
    if isinstance(kind, Union):
        if kind.optional is not None:
            return st.none() | some(kind.optional)
        return st.one_of(*(some(of).map(lambda value, tag=tag: (tag, value)) for tag, of in kind.cases if of))
    if isinstance(kind, Vector):
        return st.lists(some(kind.items), min_size=kind.length or 0, max_size=kind.length or 2)
    if isinstance(kind, Map):
        return st.dictionaries(some(kind.keys), some(kind.values), max_size=2)
    ndim = 2 if kind.n_dimensions is None else kind.n_dimensions
    shape = kind.shape or (1,) * (ndim - 2) + (2, 3)[-ndim:]
    items = kind.items.base if isinstance(kind.items, Enum) else kind.items
    dtype = {**FIXED, **INTEGER_DTYPES}.get(items.name) if isinstance(items, Scalar) else None
    n = int(np.prod(shape))
    if dtype is not None:
        return st.binary(min_size=n * dtype.itemsize, max_size=n * dtype.itemsize).map(
            lambda raw: np.frombuffer(raw, dtype).reshape(shape)
        )

    def of_objects(values: list[Any]) -> Any:
        found = np.empty(n, object)
        found[:] = values
        return found.reshape(shape)

    return st.lists(some(kind.items), min_size=n, max_size=n).map(of_objects)


def types(version: str) -> dict[str, Type]:
    known = known_schema(version)
    return {"header": known.header, **{tag: of for tag, of in known.items.cases if of is not None}}


CASES = [(version, tag) for version in VERSIONS for tag in types(version)]


@pytest.mark.parametrize(("version", "tag"), CASES)
@settings(max_examples=5, suppress_health_check=list(HealthCheck), deadline=None)
@given(data=st.data())
def test_what_is_written_is_read(version: str, tag: str, data: st.DataObject) -> None:
    kind = types(version)[tag]
    value = data.draw(some(kind))
    out = bytearray()
    write_value(kind, value, out)
    found = read_value(kind, source(bytes(out), chunks=data.draw(st.sampled_from([None, 1, 7]))))
    again = bytearray()
    write_value(kind, found, again)
    assert again == out
    if out:
        with pytest.raises(IncompleteRead, match="the stream stopped inside item 1"):
            read_value(kind, source(bytes(out[:-1])))


@pytest.mark.parametrize(("version", "tag"), CASES)
def test_what_says_nothing_can_be_written(version: str, tag: str) -> None:
    kind = types(version)[tag]
    out = bytearray()
    write_value(kind, default(kind), out)
    read_value(kind, source(bytes(out)))


def test_what_is_not_given_is_written_as_default() -> None:
    kind = Record("R", {"a": Scalar("int16"), "b": Union((("", None), ("", Scalar("string"))))})
    out = bytearray()
    write_value(kind, {}, out)
    assert read_value(kind, source(bytes(out))) == {"a": 0, "b": None}


@pytest.mark.parametrize(
    ("kind", "value", "said"),
    [
        (Scalar("uint16"), 65536, "uint16 of MRD 2 goes from 0 to 65535"),
        (Scalar("int16"), -32769, "int16 of MRD 2 goes from -32768"),
        (Scalar("uint32"), -1, "it is|is -1"),
        (Vector(Scalar("int8"), 2), [1], "has 1 values, and MRD 2 demands 2"),
        (Array(Scalar("float32"), 2), np.zeros(3), "demands 2 dimensions"),
        (Array(Scalar("float32"), 1, (3,)), np.zeros(2), r"demands \(3,\)"),
        (Union((("a", Scalar("int8")), ("b", Scalar("int8")))), ("c", 1), "the schema knows a, b"),
        (Scalar("float32"), 1e300, "is no float32"),
    ],
)
def test_values_that_do_not_fit(kind: Type, value: Any, said: str) -> None:
    with pytest.raises(MessageError, match=said):
        write_value(kind, value, bytearray())


LARGE = b"\xff\xff\xff\xff\xff\xff\x7f"


@pytest.mark.parametrize(
    ("kind", "data", "said"),
    [
        (Scalar("string"), LARGE, "at most 67108864 are possible"),
        (Scalar("uint16"), b"\x80\x80\x10", "more than 16 bits"),
        (Scalar("uint64"), b"\xff" * 11, "more than 64 bits"),
        (Vector(Scalar("string")), LARGE, "a whole message has at most"),
        (Map(Scalar("string"), Scalar("int8")), LARGE, "a whole message has at most"),
        (Array(Scalar("float64")), b"\x20", "32 dimensions, and at most 16"),
        (Array(Scalar("float64"), 2), b"\x01" + LARGE, "a whole message has at most"),
        (Array(Scalar("float64"), 2), b"\x00" + LARGE, "a whole message has at most"),
        (Array(Scalar("uint16"), 1), b"\x01\x80\x80\x10", "more than 16 bits"),
        (Array(Scalar("uint16"), 1), b"\x02" + b"\xff" * 11, "more than 64 bits"),
        (Union((("a", Scalar("int8")),)), b"\x01", "of kind 1, but there are 1"),
    ],
)
def test_damaged_values(kind: Type, data: bytes, said: str) -> None:
    with pytest.raises(MessageError, match=said):
        read_value(kind, source(data))
