"""Values of any type of a schema, read and written.

========== ==================================================== ==========================================
type       on the wire                                          here
========== ==================================================== ==========================================
scalar     `types.FIXED` as in memory, little endian;           bool, int, float, complex, str; a date in
           `types.INTEGERS` as varints; texts with their length days, a time in ns
enum       its number                                           int
record     its fields                                           dict by the schema's names
union      the case's number as a byte, its value               None or the value of the one other type;
                                                                else the case's tag and the value
vector     length unless fixed, items                           list
array      number of dimensions and sizes unless fixed, items   NumPy array; of dtype object for records
map        length, keys and values                              dict
========== ==================================================== ==========================================
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from scanside.errors import MessageError
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
from scanside.mrd.v2.varints import folded, unfolded, varint, write_varints

__all__ = ["default", "read_value", "write_value"]

_CODES = {"bool": "?", "int8": "b", "uint8": "B", "float32": "f", "float64": "d"}
_STRUCTS = {name: struct.Struct(f"<{code}") for name, code in _CODES.items()}


def read_value(kind: Type, source: ItemSource, what: str = "value") -> Any:
    """Take a value out of a stream.

    Args:
        kind: what it is.
        source: where its bytes are.
        what: its name, for errors.

    Raises:
        MessageError: impossible lengths or numbers.
        IncompleteRead: the stream stops inside it.
    """
    return _READERS[type(kind)](kind, source, what)


def _read_scalar(kind: Scalar, source: ItemSource, what: str) -> Any:
    if kind.name in INTEGERS:
        signed, bits = INTEGERS[kind.name]
        value = source.varint(what, bits)
        return (value >> 1) ^ -(value & 1) if signed else value
    if kind.name == "string":
        return source.bytes_of(source.varint(f"{what}'s length"), what).decode("utf-8", "replace")
    dtype = FIXED[kind.name]
    return np.frombuffer(source.own_bytes(dtype.itemsize, what), dtype)[0].item()


def _read_enum(kind: Enum, source: ItemSource, what: str) -> int:
    return int(_read_scalar(kind.base, source, what))


def _read_record(kind: Record, source: ItemSource, what: str) -> dict[str, Any]:
    return {name: read_value(inner, source, f"{what}'s {name}") for name, inner in kind.fields.items()}


def _read_union(kind: Union, source: ItemSource, what: str) -> Any:
    number = source.byte(f"{what}'s kind")
    if number >= len(kind.cases):
        raise source.error(
            f"its {what} is of kind {number}, but there are {len(kind.cases)} (numbered from 0); the stream is "
            "damaged"
        )
    tag, inner = kind.cases[number]
    value = None if inner is None else read_value(inner, source, what)
    return value if inner is None or kind.optional is not None else (tag, value)


def _read_vector(kind: Vector, source: ItemSource, what: str) -> list[Any]:
    length = source.varint(f"{what}'s length") if kind.length is None else kind.length
    source.check(length, what)
    return [read_value(kind.items, source, what) for _ in range(length)]


def _read_map(kind: Map, source: ItemSource, what: str) -> dict[Any, Any]:
    length = source.varint(f"{what}'s length")
    source.check(2 * length, what)
    return {
        read_value(kind.keys, source, f"name in {what}"): read_value(kind.values, source, what)
        for _ in range(length)
    }


def _read_array(kind: Array, source: ItemSource, what: str) -> npt.NDArray[Any]:
    shape = kind.shape
    if shape is None:
        ndim = _n_dimensions(source, what) if kind.n_dimensions is None else kind.n_dimensions
        shape = tuple(source.varint(f"size of its {what}") for _ in range(ndim))
    # NumPy refuses an empty array whose other dimensions are too large, so they are checked as well.
    source.check(math.prod(max(size, 1) for size in shape), what)
    n = math.prod(shape)
    items = kind.items.base if isinstance(kind.items, Enum) else kind.items
    if isinstance(items, Scalar) and items.name in FIXED:
        return source.vector(FIXED[items.name], n, what).reshape(shape)
    if isinstance(items, Scalar) and items.name in INTEGERS:
        return _integers(source.varints(n, what), items.name, source, what).reshape(shape)
    values = [read_value(kind.items, source, what) for _ in range(n)]
    found = np.empty(n, object)
    found[:] = values
    return found.reshape(shape)


def _n_dimensions(source: ItemSource, what: str) -> int:
    ndim = source.varint(f"number of dimensions of its {what}")
    if ndim > source.limits.max_ndim:
        raise source.error(
            f"its {what} would have {ndim} dimensions, and at most {source.limits.max_ndim} are possible; "
            "the stream is damaged, or raise Limits.max_ndim"
        )
    return ndim


def _integers(values: npt.NDArray[np.uint64], name: str, source: ItemSource, what: str) -> npt.NDArray[Any]:
    signed, bits = INTEGERS[name]
    if bits < 64 and (values >> np.uint64(bits)).any():
        raise source.error(f"its {what} hold a number of more than {bits} bits; the stream is damaged")
    return (unfolded(values) if signed else values).astype(INTEGER_DTYPES[name])


_READERS: Mapping[type, Callable[[Any, ItemSource, str], Any]] = {
    Scalar: _read_scalar,
    Enum: _read_enum,
    Record: _read_record,
    Union: _read_union,
    Vector: _read_vector,
    Map: _read_map,
    Array: _read_array,
}


def default(kind: Type) -> Any:
    """The value of a type that says nothing: None, nought, empty; of an enum its first."""
    if isinstance(kind, Record):
        return {name: default(inner) for name, inner in kind.fields.items()}
    if isinstance(kind, Union):
        tag, inner = kind.cases[0]
        return None if inner is None else (tag, default(inner))
    if isinstance(kind, Vector):
        return [default(kind.items) for _ in range(kind.length or 0)]
    if isinstance(kind, Array):
        items = kind.items.base if isinstance(kind.items, Enum) else kind.items
        dtype = {**FIXED, **INTEGER_DTYPES}.get(items.name) if isinstance(items, Scalar) else None
        return np.zeros(kind.shape or (0,) * (kind.n_dimensions or 0), dtype or object)
    if isinstance(kind, Map):
        return {}
    if isinstance(kind, Enum):
        return 0 if kind.base.name.startswith("u") else next(iter(kind.symbols.values()), 0)
    return "" if kind.name == "string" else 0


def write_value(kind: Type, value: Any, out: bytearray, what: str = "value") -> None:
    """Append the bytes of a value.

    A record's fields that are not given are written as their `default`.

    Raises:
        MessageError: the value is not of the type, or outside its range.
    """
    _WRITERS[type(kind)](kind, value, out, what)


def _write_scalar(kind: Scalar, value: Any, out: bytearray, what: str) -> None:
    if kind.name in INTEGERS:
        signed, bits = INTEGERS[kind.name]
        number = int(value)
        low, high = (-(1 << bits - 1), 1 << bits - 1) if signed else (0, 1 << bits)
        if not low <= number < high:
            raise MessageError(f"{what} is {number}, and {kind.name} of MRD 2 goes from {low} to {high - 1}")
        out += varint((number << 1) ^ (number >> 63) if signed else number)
    elif kind.name == "string":
        text = str(value).encode("utf-8", "replace")
        out += varint(len(text))
        out += text
    elif kind.name in _STRUCTS:
        try:
            out += _STRUCTS[kind.name].pack(value)
        except (struct.error, OverflowError) as error:
            raise MessageError(f"{what} is {value!r}, which is no {kind.name}: {error}") from error
    else:
        out += np.asarray(value, FIXED[kind.name]).tobytes()


def _write_enum(kind: Enum, value: Any, out: bytearray, what: str) -> None:
    _write_scalar(kind.base, value, out, what)


def _write_record(kind: Record, value: Mapping[str, Any], out: bytearray, what: str) -> None:
    for name, inner in kind.fields.items():
        write_value(inner, value[name] if name in value else default(inner), out, f"{what}'s {name}")


def _write_union(kind: Union, value: Any, out: bytearray, what: str) -> None:
    if value is None and kind.cases[0][1] is None:
        out.append(0)
    elif (inner := kind.optional) is not None:
        out.append(1)
        write_value(inner, value, out, what)
    else:
        tag, value = value
        number = next((i for i, (known, _) in enumerate(kind.cases) if known == tag), None)
        if number is None or (of := kind.cases[number][1]) is None:
            known = ", ".join(known for known, _ in kind.cases)
            raise MessageError(f"{what} is {tag!r}, and the schema knows {known}")
        out.append(number)
        write_value(of, value, out, what)


def _write_vector(kind: Vector, value: Any, out: bytearray, what: str) -> None:
    if kind.length is None:
        out += varint(len(value))
    elif kind.length != len(value):
        raise MessageError(f"{what} has {len(value)} values, and MRD 2 demands {kind.length}")
    for one in value:
        write_value(kind.items, one, out, what)


def _write_map(kind: Map, value: Mapping[Any, Any], out: bytearray, what: str) -> None:
    out += varint(len(value))
    for name, one in value.items():
        write_value(kind.keys, name, out, f"name in {what}")
        write_value(kind.values, one, out, what)


def _write_array(kind: Array, value: Any, out: bytearray, what: str) -> None:
    array = np.asarray(value)
    wanted = array.shape if kind.shape is None else kind.shape
    if array.shape != wanted or kind.n_dimensions not in (None, array.ndim):
        raise MessageError(
            f"{what} has shape {array.shape}, and MRD 2 demands "
            + (f"{kind.n_dimensions} dimensions" if kind.shape is None else f"{wanted}")
        )
    if kind.shape is None:
        for size in (*([array.ndim] if kind.n_dimensions is None else []), *array.shape):
            out += varint(size)
    items = kind.items.base if isinstance(kind.items, Enum) else kind.items
    if isinstance(items, Scalar) and items.name in FIXED:
        out += np.ascontiguousarray(array, FIXED[items.name]).reshape(-1).view(np.uint8).data
    elif isinstance(items, Scalar) and items.name in INTEGERS:
        flat = array.ravel()
        whole = folded(flat.astype(np.int64)) if INTEGERS[items.name][0] else flat.astype(np.uint64)
        out += write_varints(whole).data
    else:
        for one in array.flat:
            write_value(kind.items, one, out, what)


_WRITERS: Mapping[type, Callable[[Any, Any, bytearray, str], None]] = {
    Scalar: _write_scalar,
    Enum: _write_enum,
    Record: _write_record,
    Union: _write_union,
    Vector: _write_vector,
    Map: _write_map,
    Array: _write_array,
}
