from __future__ import annotations

from itertools import product
from pathlib import Path

import h5py
import numpy as np
import numpy.typing as npt
import pytest

from scanside.errors import FileFormatError
from scanside.mrd.heap import HeapTable, LibraryTable, open_table

pytestmark = pytest.mark.torch_free

RECORD = np.dtype([("head", "<i4", (3,)), ("data", h5py.vlen_dtype(np.float32))])


def fill(n: int, length: int) -> npt.NDArray[np.void]:
    rng = np.random.default_rng(length)
    records = np.empty(n, RECORD)
    records["head"] = np.arange(3 * n).reshape(n, 3)
    for i in range(n):
        records["data"][i] = rng.normal(size=length).astype(np.float32)
    return records


def stored(path: Path, records: npt.NDArray[np.void], at_once: int, **layout: object) -> Path:
    """A file whose records are written ``at_once`` together, which decides where their values lie."""
    with h5py.File(path, "w", **layout.pop("file", {})) as file:  # type: ignore[arg-type, call-overload]
        table = file.create_dataset("table", (0,), RECORD, maxshape=(None,), **layout)
        for start in range(0, len(records), at_once):
            part = records[start : start + at_once]
            table.resize(len(table) + len(part), axis=0)
            table[start:] = part
    return path


# 1 value: well over a hundred share a heap collection; 900: one each; 5000: larger than a collection.
@pytest.mark.parametrize("length", [1, 3, 200, 900, 5000])
@pytest.mark.parametrize(("chunk", "at_once"), [(1, 1), (1, 40), (7, 40), (64, 5)])
def test_values_are_found_wherever_they_lie(tmp_path: Path, length: int, chunk: int, at_once: int) -> None:
    records = fill(150, length)
    with h5py.File(stored(tmp_path / "t.h5", records, at_once, chunks=(chunk,))) as file:
        table = open_table(file["table"])
        assert isinstance(table, HeapTable)
        assert len(table) == 150
        np.testing.assert_array_equal(table.heads(20, 150), records["head"][20:])
        found = table.rows("data", 20, 150, length)
    np.testing.assert_array_equal(found, np.stack(records["data"][20:]))


def test_values_of_other_tables_in_between(tmp_path: Path) -> None:
    first, second = fill(60, 30), fill(60, 7)
    path = tmp_path / "t.h5"
    with h5py.File(path, "w") as file:
        tables = [file.create_dataset(n, (60,), RECORD, maxshape=(None,), chunks=(1,)) for n in "ab"]
        for i in range(60):
            for table, records in zip(tables, (first, second), strict=True):
                table[i] = records[i]
        for i in range(0, 60, 3):  # overwritten values leave holes behind
            tables[0][i] = first[i]
    with h5py.File(path) as file:
        np.testing.assert_array_equal(open_table(file["a"]).rows("data", 0, 60, 30), np.stack(first["data"]))
        np.testing.assert_array_equal(open_table(file["b"]).rows("data", 0, 60, 7), np.stack(second["data"]))


@pytest.mark.parametrize(
    "layout",
    [
        {"chunks": (8,), "compression": "gzip"},
        {"chunks": (8,), "shuffle": True},
        {"chunks": (8,), "file": {"userblock_size": 512}},
    ],
    ids=["compressed", "shuffled", "user block"],
)
def test_other_layouts_are_left_to_the_library(tmp_path: Path, layout: dict[str, object]) -> None:
    records = fill(20, 11)
    with h5py.File(stored(tmp_path / "t.h5", records, 20, **layout)) as file:
        table = open_table(file["table"])
        assert isinstance(table, LibraryTable)
        np.testing.assert_array_equal(table.heads(5, 9), records["head"][5:9])
        np.testing.assert_array_equal(table.rows("data", 5, 9, 11), np.stack(records["data"][5:9]))


@pytest.mark.parametrize("libver", ["earliest", "latest"])
def test_both_generations_of_the_file_format(tmp_path: Path, libver: str) -> None:
    records = fill(30, 50)
    with h5py.File(stored(tmp_path / "t.h5", records, 4, chunks=(4,), file={"libver": libver})) as file:
        table = open_table(file["table"])
        assert isinstance(table, HeapTable)
        np.testing.assert_array_equal(table.rows("data", 0, 30, 50), np.stack(records["data"]))


@pytest.mark.parametrize("compression", [None, "gzip"])
def test_value_of_another_length_is_refused(tmp_path: Path, compression: str | None) -> None:
    records = fill(9, 5)
    records["data"][6] = np.zeros(4, np.float32)
    path = stored(tmp_path / "t.h5", records, 9, chunks=(4,), compression=compression)
    with h5py.File(path) as file, pytest.raises(FileFormatError, match=r"record 6 .* holds 4 .* announces 5"):
        open_table(file["table"]).rows("data", 2, 9, 5)


def test_empty_values(tmp_path: Path) -> None:
    with h5py.File(stored(tmp_path / "t.h5", fill(5, 0), 5, chunks=(4,))) as file:
        table = open_table(file["table"])
        assert table.rows("data", 0, 5, 0).shape == (5, 0)
        assert table.rows("data", 3, 3, 7).shape == (0, 7)


def test_rows_that_were_never_written(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "t.h5", "w") as file:
        file.create_dataset("table", (8,), RECORD, maxshape=(None,), chunks=(2,))[:3] = fill(3, 5)
    with h5py.File(tmp_path / "t.h5") as file, pytest.raises(FileFormatError, match=r"damaged|holds 0"):
        open_table(file["table"]).rows("data", 0, 8, 5)


# So many values share a collection.
@pytest.mark.parametrize(("n", "length"), [(20, 2), (20, 5000), (1, 5)], ids=["all", "two", "one"])
def test_damage_anywhere_is_an_error_and_never_other_values(tmp_path: Path, n: int, length: int) -> None:
    """Flipped bytes in heap collections either leave the values alone or are reported."""
    records = fill(n, length)
    whole = stored(tmp_path / "t.h5", records, 1, chunks=(1,)).read_bytes()
    collections = [i for i in range(len(whole)) if whole.startswith(b"GCOL", i)]
    # Signature of a collection, index and size of its first object: nothing of it may go unnoticed.
    vital = {*range(4), 16, 17, *range(24, 32)}
    for start, offset in product(collections[:3], range(32)):
        damaged = bytearray(whole)
        damaged[start + offset] ^= 0xFF
        (tmp_path / "damaged.h5").write_bytes(damaged)
        with h5py.File(tmp_path / "damaged.h5") as file:
            table = HeapTable(file["table"])
            try:
                found = table.rows("data", 0, n, length)
            except FileFormatError:
                continue
            else:
                assert offset not in vital
                np.testing.assert_array_equal(found, np.stack(records["data"]))
