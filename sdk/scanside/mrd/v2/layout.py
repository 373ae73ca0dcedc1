"""Acquisitions whose bytes are laid out alike, as rows of one array, so that no loop runs over readouts.

An item of an MRD 2 stream has no length in front: where it ends is known when all of it has been looked at. But one
readout is like the one before it: the same fields are there, its lists are as long, its samples as many, and its
numbers take as many bytes, but for a counter that goes from 127 to 128. A `Layout` holds which bytes have to be equal
for that, and where the values are.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from scanside.mrd.v2.source import ItemSource
from scanside.mrd.v2.types import FIXED, INTEGERS, Array, Enum, Map, Record, Scalar, Type, Union, Vector
from scanside.mrd.v2.varints import MOST_BYTES, unfolded

__all__ = ["Columns", "Layout", "columns_of", "layout_of"]

_EQUAL = 0xFF
_GOES_ON = 0x80
_LONGEST_LIST = 1024


@dataclass(slots=True, eq=False)
class Columns:
    """Fields of equal acquisitions, by their dotted names.

    Attributes:
        n: how many acquisitions.
        integers: ``(n,)``, or ``(n, length)`` of a list; uint64, or int64 of fields with a sign.
        arrays: ``(n, …)`` of what has a fixed size in bytes; views of the receive buffer.
        absent: names of the optional fields that are not there.
    """

    n: int
    integers: Mapping[str, npt.NDArray[Any]]
    arrays: Mapping[str, npt.NDArray[Any]]
    absent: frozenset[str]


@dataclass(slots=True, eq=False)
class Layout:
    """Where in an item what stands.

    Attributes:
        size: bytes of the item.
        places: ``(m,)`` of the bytes that have to be equal, in order.
        masks: ``(m,)`` which of their bits.
        values: ``(m,)`` what these bits are.
        offsets: of the integers.
        lengths: how many bytes each integer takes.
        names: by name, which integers belong to it, whether it is a list, and whether it has a sign.
        arrays: by name: offset, shape and type.
        absent: see `Columns`.
    """

    size: int
    places: npt.NDArray[np.intp]
    masks: npt.NDArray[np.uint8]
    values: npt.NDArray[np.uint8]
    offsets: npt.NDArray[np.intp]
    lengths: npt.NDArray[np.intp]
    names: Mapping[str, tuple[slice, bool, bool]]
    arrays: Mapping[str, tuple[int, tuple[int, ...], np.dtype[Any]]]
    absent: frozenset[str]

    def begins(self, data: npt.NDArray[np.uint8]) -> bool:
        """Whether an item of which some bytes have arrived may be laid out like this."""
        n = int(np.searchsorted(self.places, len(data)))
        return bool(((data[self.places[:n]] & self.masks[:n]) == self.values[:n]).all())

    def n_equal(self, rows: npt.NDArray[np.uint8]) -> int:
        """How many of would-be items ``(n, size)`` are laid out like this, before the first that is not."""
        equal = ((rows[:, self.places] & self.masks) == self.values).all(axis=1)
        return len(rows) if equal.all() else int(equal.argmin())

    def columns(self, block: npt.NDArray[np.uint8], start: int, n: int, stride: int) -> Columns:
        """The fields of items.

        Args:
            block: bytes.
            start: where in them the first item begins.
            n: how many items there are.
            stride: bytes from one to the next.
        """
        rows = np.ndarray((n, self.size), np.uint8, block.data, start, (stride, 1))
        numbers = self._integers(rows)
        integers = {}
        for name, (columns, is_list, signed) in self.names.items():
            found = numbers[:, columns]
            signed_or_not: npt.NDArray[Any] = unfolded(found) if signed else found
            integers[name] = signed_or_not if is_list else signed_or_not[:, 0]
        arrays = {}
        for name, (offset, shape, dtype) in self.arrays.items():
            inner = tuple(dtype.itemsize * math.prod(shape[i + 1 :]) for i in range(len(shape)))
            arrays[name] = np.ndarray((n, *shape), dtype, block.data, start + offset, (stride, *inner))
        return Columns(n, integers, arrays, self.absent)

    def _integers(self, rows: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint64]:
        numbers = np.zeros((len(rows), len(self.offsets)), np.uint64)
        for k in range(int(self.lengths.max(initial=0))):
            which = self.lengths > k
            numbers[:, which] |= (rows[:, self.offsets[which] + k] & 127).astype(np.uint64) << np.uint64(
                7 * k
            )
        return numbers


def columns_of(kind: Record, value: Mapping[str, Any]) -> Columns:
    """The fields of one acquisition that was read as a value."""
    columns = Columns(1, {}, {}, frozenset())
    return replace(columns, absent=frozenset(_absent(kind, value, "", columns)))


def _absent(kind: Record, value: Mapping[str, Any], path: str, columns: Columns) -> Iterator[str]:
    """Puts a record's fields into columns; gives the names of those that are not there."""
    assert isinstance(columns.integers, dict)
    assert isinstance(columns.arrays, dict)
    for name, of in kind.fields.items():
        full, found = f"{path}.{name}" if path else name, value[name]
        inner = (of.optional or of) if isinstance(of, Union) else of
        if found is None:
            yield full
        elif isinstance(inner, Record):
            yield from _absent(inner, found, full, columns)
        else:
            items = inner.items if isinstance(inner, (Vector, Array)) else inner
            scalar = items.base if isinstance(items, Enum) else items
            assert isinstance(scalar, Scalar)
            if scalar.name in INTEGERS:
                columns.integers[full] = np.array(
                    [found], np.int64 if INTEGERS[scalar.name][0] else np.uint64
                )
            else:
                columns.arrays[full] = np.array([found], FIXED[scalar.name])


def layout_of(kind: Type, source: ItemSource, most_bytes: int) -> Layout | None:
    """How the item that comes next is laid out; nothing of it is taken.

    No more bytes are waited for than the item has.

    Args:
        kind: its type.
        source: where its bytes are.
        most_bytes: how large an item may be to be looked at in one piece.

    Returns:
        None for a larger one.

    Raises:
        MessageError: impossible lengths or numbers.
        IncompleteRead: the stream stops inside the item.
        TypeError: the type has parts that are not laid out: texts, maps, arrays of records.
    """
    walk = _Walk(source, most_bytes)
    try:
        walk.visit(kind, "")
    except _TooLargeError:
        return None
    if walk.position > most_bytes:
        return None
    fixed = sorted(walk.fixed)
    return Layout(
        size=walk.position,
        places=np.array([place for place, _, _ in fixed], np.intp),
        masks=np.array([mask for _, mask, _ in fixed], np.uint8),
        values=np.array([value & mask for _, mask, value in fixed], np.uint8),
        offsets=np.array([offset for offset, _ in walk.integers], np.intp),
        lengths=np.array([length for _, length in walk.integers], np.intp),
        names=walk.names,
        arrays=walk.arrays,
        absent=frozenset(walk.absent),
    )


class _TooLargeError(Exception):
    pass


@dataclass(slots=True)
class _Walk:
    source: ItemSource
    most_bytes: int
    position: int = 0
    fixed: list[tuple[int, int, int]] = field(default_factory=list)
    integers: list[tuple[int, int]] = field(default_factory=list)
    names: dict[str, tuple[slice, bool, bool]] = field(default_factory=dict)
    arrays: dict[str, tuple[int, tuple[int, ...], np.dtype[Any]]] = field(default_factory=dict)
    absent: list[str] = field(default_factory=list)

    def visit(self, kind: Type, name: str) -> None:
        _VISITS[type(kind)](self, kind, name)

    def _byte(self, mask: int, what: str) -> int:
        place = self.position
        if place >= self.most_bytes:
            raise _TooLargeError
        value = int(self.source.look(place + 1, what)[place])
        self.fixed.append((place, mask, value))
        self.position += 1
        return value

    def _varint(self, mask: int, what: str, bits: int = 64) -> int:
        value = 0
        for k in range(MOST_BYTES):
            byte = self._byte(mask, what)
            value |= (byte & 127) << 7 * k
            if byte < _GOES_ON:
                break
        if byte >= _GOES_ON or value >> bits:
            raise self.source.error(f"its {what} is a number of more than {bits} bits; the stream is damaged")
        return value

    def _scalars(self, kind: Scalar, name: str, n: int | None) -> None:
        """One value, or a list of ``n``."""
        if kind.name in INTEGERS:
            signed, bits = INTEGERS[kind.name]
            first = len(self.integers)
            for _ in range(1 if n is None else n):
                start = self.position
                self._varint(_GOES_ON, name, bits)
                self.integers.append((start, self.position - start))
            self.names[name] = slice(first, len(self.integers)), n is not None, signed
        else:
            self._array(kind, name, () if n is None else (n,))

    def _array(self, kind: Scalar, name: str, shape: tuple[int, ...]) -> None:
        dtype = FIXED.get(kind.name)
        if dtype is None:
            raise TypeError(f"{name} is a {kind.name}")
        # NumPy refuses an empty array whose other dimensions are too large, so they are checked as well.
        self.source.check(self.position + math.prod(max(size, 1) for size in shape) * dtype.itemsize, name)
        self.arrays[name] = self.position, shape, dtype
        self.position += math.prod(shape) * dtype.itemsize

    def visit_scalar(self, kind: Scalar, name: str) -> None:
        self._scalars(kind, name, None)

    def visit_enum(self, kind: Enum, name: str) -> None:
        self._scalars(kind.base, name, None)

    def visit_record(self, kind: Record, name: str) -> None:
        for inner, of in kind.fields.items():
            self.visit(of, f"{name}.{inner}" if name else inner)

    def visit_union(self, kind: Union, name: str) -> None:
        if kind.optional is None:
            raise TypeError(f"{name} is one of several types")
        number = self._byte(_EQUAL, f"{name}'s mark")
        if number > 1:
            raise self.source.error(
                f"the mark that says whether {name} follows must be 0 or 1, found {number}"
            )
        if number:
            self.visit(kind.optional, name)
        else:
            self.absent.append(name)

    def visit_vector(self, kind: Vector, name: str) -> None:
        length = self._varint(_EQUAL, f"{name}'s length") if kind.length is None else kind.length
        if length > _LONGEST_LIST:
            raise self.source.error(
                f"its {name} would be {length} values, and at most {_LONGEST_LIST} are possible; the stream is "
                "damaged"
            )
        if not isinstance(kind.items, Scalar):
            raise TypeError(f"{name} is a list of {kind.items}")
        self._scalars(kind.items, name, length)

    def visit_array(self, kind: Array, name: str) -> None:
        shape = kind.shape
        if not isinstance(kind.items, Scalar) or (shape is None and kind.n_dimensions is None):
            raise TypeError(f"{name} is an array of {kind.items}")
        if shape is None:
            assert kind.n_dimensions is not None
            shape = tuple(self._varint(_EQUAL, f"size of its {name}") for _ in range(kind.n_dimensions))
        self._array(kind.items, name, shape)

    def visit_other(self, kind: Type, name: str) -> None:
        raise TypeError(f"{name} is {kind}")


_VISITS: Mapping[type, Callable[[_Walk, Any, str], None]] = {
    Scalar: _Walk.visit_scalar,
    Enum: _Walk.visit_enum,
    Record: _Walk.visit_record,
    Union: _Walk.visit_union,
    Vector: _Walk.visit_vector,
    Array: _Walk.visit_array,
    Map: _Walk.visit_other,
}
