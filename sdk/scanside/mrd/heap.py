"""Tables of variable-length records in HDF5 files, read in blocks.

ISMRMRD stores a readout as one record: header, trajectory and samples, the last two of variable length. The
HDF5 library looks up, allocates and frees every such value on its own, and h5py makes a Python object of
each, which costs several times the copying of the samples. Where a value lies is two look-ups in published
structures: the record holds its length, the address of a *global heap collection* and its index in there, and
a collection is a list of sized objects (HDF5 File Format Specification 3.0, sections III.E and VIII).
`HeapTable` does these look-ups for a whole block at once in NumPy. `LibraryTable` reads through h5py what is
stored in any less usual way.
"""

from __future__ import annotations

import mmap
from pathlib import Path
from typing import Any, Protocol

import h5py
import numpy as np
import numpy.typing as npt

from scanside.errors import FileFormatError

__all__ = ["HeapTable", "LibraryTable", "RecordTable", "open_table"]

_COLLECTION = np.dtype([("signature", "S4"), ("version", "u1"), ("reserved", "u1", (3,)), ("size", "<u8")])
_OBJECT = np.dtype([("index", "<u2"), ("references", "<u2"), ("reserved", "<u4"), ("size", "<u8")])
_POINTER = np.dtype([("length", "<u4"), ("address", "<u8"), ("index", "<u4")])
_NOWHERE = np.int64(-(2**62))  # address of a chunk that was never written


class RecordTable(Protocol):
    """A one-dimensional data set of records that hold a ``head`` and variable-length members."""

    def __len__(self) -> int:
        """How many records there are."""

    def heads(self, start: int, stop: int) -> npt.NDArray[np.void]:
        """Member ``head`` of records ``start`` to ``stop``, ``(n,)``, in the file's own layout."""

    def rows(self, member: str, start: int, stop: int, length: int) -> npt.NDArray[Any]:
        """A variable-length member of records ``start`` to ``stop``, each ``length`` long: ``(n, length)``.

        Raises:
            FileFormatError: a record holds another number of values, or the file is damaged.
        """


def open_table(dataset: h5py.Dataset) -> RecordTable:
    """The fastest table that can read a data set.

    Raises:
        FileFormatError: the data set is not a list of records with a ``head``.
    """
    if dataset.ndim != 1 or "head" not in (dataset.dtype.names or ()):
        raise FileFormatError(
            f"{dataset.file.filename}: '{dataset.name}' is no ISMRMRD table: expected a list of records with "
            f"member 'head', found shape {dataset.shape} of {dataset.dtype}"
        )
    return HeapTable(dataset) if HeapTable.can_read(dataset) else LibraryTable(dataset)


class LibraryTable:
    """Records as h5py reads them: any layout, filter and number format."""

    def __init__(self, dataset: h5py.Dataset) -> None:
        self._dataset = dataset
        self._held: tuple[int, int, Any] = (0, 0, None)

    def __len__(self) -> int:
        return int(self._dataset.shape[0])

    def heads(self, start: int, stop: int) -> npt.NDArray[np.void]:
        """See `RecordTable.heads`."""
        heads: npt.NDArray[np.void] = self._records(start, stop)["head"]
        return heads

    def rows(self, member: str, start: int, stop: int, length: int) -> npt.NDArray[Any]:
        """See `RecordTable.rows`."""
        # Some writers store complex numbers, not pairs of floats: the bytes are the same.
        base = h5py.check_vlen_dtype(self._dataset.dtype[member])
        plain = np.dtype("<f4") if base.kind in "cV" else base
        values = [value.view(plain) for value in self._records(start, stop)[member]]
        _check_lengths(self._dataset, member, start, np.array([len(value) for value in values]), length)
        return np.stack(values)

    def _records(self, start: int, stop: int) -> Any:
        # Header, trajectory and samples of a block are asked for one after the other; h5py reads all at once.
        if self._held[:2] != (start, stop) or self._held[2] is None:
            self._held = (start, stop, self._dataset[start:stop])
        return self._held[2]


class HeapTable:
    """Records in plain chunks, gathered from the mapped file without a Python object per record.

    The file must not be cut short by others while it is open: reading pages that vanish ends the process.
    """

    def __init__(self, dataset: h5py.Dataset) -> None:
        self._dataset = dataset
        kind = dataset.id.get_type()
        names = [kind.get_member_name(i).decode() for i in range(kind.get_nmembers())]
        self._base = {name: h5py.check_vlen_dtype(dataset.dtype[name]) for name in names}
        self._record = np.dtype(
            {
                "names": names,
                "formats": [_POINTER if self._base[name] else dataset.dtype[name] for name in names],
                "offsets": [kind.get_member_offset(i) for i in range(kind.get_nmembers())],
                "itemsize": kind.get_size(),
            }
        )
        self._chunk_length = int(dataset.chunks[0])
        self._chunks = np.full(-(-len(dataset) // self._chunk_length), _NOWHERE)
        found: list[Any] = []
        dataset.id.chunk_iter(found.append)
        for (first,), _, address, _ in found:
            self._chunks[first // self._chunk_length] = address
        with Path(dataset.file.filename).open("rb") as file:
            self._bytes = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)

    @staticmethod
    def can_read(dataset: h5py.Dataset) -> bool:
        """Whether a data set is stored the way that this class reads: plain chunks, 8-byte addresses."""
        file, layout = dataset.file, dataset.id.get_create_plist()
        vlens = [h5py.check_vlen_dtype(dataset.dtype[name]) for name in dataset.dtype.names if name != "head"]
        return bool(
            dataset.chunks
            and layout.get_nfilters() == 0
            and file.driver in ("sec2", "stdio")
            and file.userblock_size == 0
            and file.id.get_create_plist().get_sizes() == (8, 8)
            and all(base is not None and base.str in ("<f4", "<u4") for base in vlens)
            and hasattr(dataset.id, "chunk_iter")
        )

    def __len__(self) -> int:
        return int(self._dataset.shape[0])

    def heads(self, start: int, stop: int) -> npt.NDArray[np.void]:
        """See `RecordTable.heads`."""
        heads: npt.NDArray[np.void] = self._records(start, stop)["head"]
        return heads

    def rows(self, member: str, start: int, stop: int, length: int) -> npt.NDArray[Any]:
        """See `RecordTable.rows`."""
        pointers = self._records(start, stop)[member]
        _check_lengths(self._dataset, member, start, pointers["length"], length)
        base = self._base[member]
        if not length:
            return np.empty((len(pointers), 0), base)
        at = self._locate(pointers, length * base.itemsize)
        return self._gather(at, np.dtype((base, (length,))))

    def _records(self, start: int, stop: int) -> npt.NDArray[np.void]:
        chunk, row = np.divmod(np.arange(start, stop), self._chunk_length)
        return self._gather(self._chunks[chunk] + row * self._record.itemsize, self._record)

    def _locate(self, pointers: npt.NDArray[np.void], size: int) -> npt.NDArray[np.int64]:
        """Where the values that records point to begin in the file, each ``size`` bytes long."""
        collection = pointers["address"].astype(np.int64)
        start = self._gather(collection, _COLLECTION)
        end = collection + start["size"].astype(np.int64)
        if np.any(start["signature"] != b"GCOL"):
            raise self._damaged("a record points to something that is no heap collection")
        at = collection + _COLLECTION.itemsize
        # Long values lie alone in their collection and are found at once, short ones behind one another.
        searched = np.arange(len(pointers))
        while len(searched):
            objects = self._gather(at[searched], _OBJECT)
            found = objects["index"] == pointers["index"][searched]
            if np.any(objects["size"][found] != size):
                raise self._damaged(f"a heap object is not {size} bytes long as its record says")
            ahead, objects = searched[~found], objects[~found]
            at[ahead] += _OBJECT.itemsize + (objects["size"].astype(np.int64) + 7) // 8 * 8
            if np.any(objects["index"] == 0) or np.any(at[ahead] >= end[ahead]):
                raise self._damaged("a heap collection lacks an object that a record points to")
            searched = ahead
        return at + _OBJECT.itemsize

    def _gather(self, at: npt.NDArray[np.int64], item: np.dtype[Any]) -> npt.NDArray[Any]:
        """Copies of the items at byte addresses ``at``, ``(n, *item.shape)``."""
        last = len(self._bytes) - item.itemsize
        if not len(at):
            return np.empty((0, *item.shape), item.base)
        if at.min() < 0 or at.max() > last:
            raise self._damaged(f"a record lies outside the file's {len(self._bytes)} bytes")
        # An array that begins an item at every byte of the file: picking from it copies whole items.
        anywhere = np.ndarray((last + 1,), np.dtype((np.void, item.itemsize)), self._bytes, strides=(1,))
        picked = anywhere[at].view(item.base)
        return picked.reshape(len(at), *item.shape)

    def _damaged(self, what: str) -> FileFormatError:
        return FileFormatError(
            f"{self._dataset.file.filename}: '{self._dataset.name}' is damaged: {what}. "
            "The file was cut short, or is still being written"
        )


def _check_lengths(
    dataset: h5py.Dataset, member: str, start: int, found: npt.NDArray[Any], expected: int
) -> None:
    wrong = np.flatnonzero(found != expected)
    if len(wrong):
        raise FileFormatError(
            f"{dataset.file.filename}: record {start + wrong[0]} of '{dataset.name}' holds {found[wrong[0]]} "
            f"values in '{member}', but its header announces {expected}"
        )
