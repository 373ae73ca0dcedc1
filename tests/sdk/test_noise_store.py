"""Noise records in memory and in files."""

from __future__ import annotations

import os
from dataclasses import astuple, replace
from pathlib import Path
from time import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scanside.errors import FileFormatError
from scanside.noise_store import NoiseRecord, NoiseStore

pytestmark = pytest.mark.torch_free


def record(seed: int = 0, n_coils: int = 3) -> NoiseRecord:
    generator = np.random.default_rng(seed)
    a = generator.standard_normal((n_coils, n_coils)) + 1j * generator.standard_normal((n_coils, n_coils))
    return NoiseRecord(a @ a.conj().T, 2.6, 256, ("Head:1", "Häd 2", ""))


def assert_equal(a: NoiseRecord | None, b: NoiseRecord) -> None:
    assert a is not None
    assert a.covariance.dtype == np.complex128
    np.testing.assert_array_equal(a.covariance, b.covariance)
    assert astuple(a)[1:] == astuple(b)[1:]


def test_memory_only() -> None:
    store = NoiseStore()
    assert store.get("a") is None
    store.put("a", record(1))
    store.put("b", record(2))
    store.put("a", record(3))
    assert_equal(store.get("a"), replace(record(3), replaces=True))
    assert_equal(store.get("b"), record(2))


@pytest.mark.parametrize("in_files", [False, True])
def test_another_measurement_of_one_id_is_told(tmp_path: Path, in_files: bool) -> None:
    folder = tmp_path if in_files else None
    store = NoiseStore(folder)
    assert not store.put("a", record(1))
    rounded = record(1)
    assert not store.put("a", replace(rounded, covariance=rounded.covariance * (1 + 1e-6)))
    found = store.get("a")
    assert found is not None
    assert not found.replaces
    other = NoiseStore(folder) if in_files else store  # perhaps in another process
    assert other.put("a", record(2))
    assert_equal(other.get("a"), replace(record(2), replaces=True))
    assert not other.put("a", record(2))
    found = other.get("a")
    assert found is not None
    assert found.replaces  # it stays doubtful
    assert other.put("a", replace(record(2), dwell_time_us=5.0))


def test_damaged_file_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "noise_x.npz").write_bytes(b"half")
    assert not NoiseStore(tmp_path).put("x", record())
    assert_equal(NoiseStore(tmp_path).get("x"), record())


def test_old_ones_and_too_many_leave_the_folder(tmp_path: Path) -> None:
    store = NoiseStore(tmp_path, most_files=3)
    for i in range(4):
        store.put(f"m{i}", record(i))
        os.utime(tmp_path / f"noise_m{i}.npz", (time() - 1000 + i,) * 2)
    assert {path.name for path in tmp_path.iterdir()} == {"noise_m1.npz", "noise_m2.npz", "noise_m3.npz"}
    os.utime(tmp_path / "noise_m3.npz", (time() - 31 * 86400,) * 2)
    (tmp_path / ".noise_m9.half.part").write_bytes(b"half")
    os.utime(tmp_path / ".noise_m9.half.part", (time() - 60,) * 2)
    (tmp_path / "mine.txt").touch()
    store.put("m5", record(5))
    assert {path.name for path in tmp_path.iterdir()} == {
        "noise_m1.npz",
        "noise_m2.npz",
        "noise_m5.npz",
        "mine.txt",
    }


def test_least_recently_used_leaves_first() -> None:
    store = NoiseStore(capacity=2)
    store.put("a", record(1))
    store.put("b", record(2))
    assert store.get("a") is not None
    store.put("c", record(3))
    assert store.get("b") is None
    assert_equal(store.get("a"), record(1))
    assert_equal(store.get("c"), record(3))


def test_files_outlive_the_store_and_its_capacity(tmp_path: Path) -> None:
    store = NoiseStore(tmp_path / "not" / "there" / "yet", capacity=1)
    for i in range(3):
        store.put(f"m{i}", record(i))
    again = NoiseStore(tmp_path / "not" / "there" / "yet")
    for i in range(3):
        assert_equal(again.get(f"m{i}"), record(i))
        assert_equal(store.get(f"m{i}"), record(i))
    assert again.get("m3") is None
    assert sorted(path.suffix for path in (tmp_path / "not" / "there" / "yet").iterdir()) == [".npz"] * 3


def test_a_record_without_coil_names(tmp_path: Path) -> None:
    bare = NoiseRecord(np.eye(2, dtype=np.complex128), 5.0, 10)
    NoiseStore(tmp_path).put("x", bare)
    assert_equal(NoiseStore(tmp_path).get("x"), bare)


@pytest.mark.parametrize(
    "identity",
    [
        "../../etc/passwd",
        "/absolute",
        "..",
        "",
        "a\\b",
        "45387_2938_111 x",
        "ünïcödé",
        "%2F",
        "a\0b",
        "I" * 5000,
        "é" * 300,
    ],
)
def test_any_id_stays_in_the_folder(tmp_path: Path, identity: str) -> None:
    folder = tmp_path / "store"
    NoiseStore(folder).put(identity, record(4))
    assert_equal(NoiseStore(folder).get(identity), record(4))
    assert list(tmp_path.iterdir()) == [folder]
    assert len(list(folder.iterdir())) == 1


@given(st.lists(st.text(alphabet="a/.%_é", max_size=6), min_size=2, max_size=2, unique=True))
def test_ids_never_share_a_file(identities: list[str]) -> None:
    one, other = (NoiseStore(Path("store"))._path(identity) for identity in identities)
    assert one != other


def test_long_ids_never_share_a_file(tmp_path: Path) -> None:
    store = NoiseStore(tmp_path)
    store.put("x" * 400 + "1", record(1))
    store.put("x" * 400 + "2", record(2))
    assert_equal(NoiseStore(tmp_path).get("x" * 400 + "1"), record(1))
    assert NoiseStore(tmp_path).get("x" * 400) is None


def damaged(path: Path) -> dict[str, bytes]:
    whole = path.read_bytes()
    flipped = bytearray(whole)
    flipped[len(whole) // 3] ^= 0xFF
    return {
        "empty": b"",
        "text": b"this is no archive",
        "short": whole[: len(whole) // 2],
        "no end": whole[:-30],
        "flipped": bytes(flipped),
    }


@pytest.mark.parametrize("how", ["empty", "text", "short", "no end", "flipped"])
def test_damaged_file(tmp_path: Path, how: str) -> None:
    NoiseStore(tmp_path).put("x", record())
    (path,) = tmp_path.iterdir()
    path.write_bytes(damaged(path)[how])
    with pytest.raises(FileFormatError, match=r"noise_x\.npz is damaged .*: delete it"):
        NoiseStore(tmp_path).get("x")
    # What the operator is told to do helps.
    path.unlink()
    assert NoiseStore(tmp_path).get("x") is None


@pytest.mark.parametrize(
    "content",
    [
        {"covariance": np.eye(2)},
        {"covariance": np.eye(2), "dwell_time_us": np.ones(3), "n_samples": 1, "coil_names": np.array(["a"])},
        {"covariance": np.array([{}]), "dwell_time_us": 1.0, "n_samples": 1, "coil_names": np.array(["a"])},
    ],
    ids=["incomplete", "wrong shape", "pickled objects"],
)
def test_foreign_content(tmp_path: Path, content: dict[str, np.ndarray]) -> None:
    np.savez(tmp_path / "noise_x.npz", **content)
    with pytest.raises(FileFormatError, match="is damaged"):
        NoiseStore(tmp_path).get("x")


def test_a_single_array_is_no_record(tmp_path: Path) -> None:
    with (tmp_path / "noise_x.npz").open("wb") as file:
        np.save(file, np.eye(2))
    with pytest.raises(FileFormatError, match="is damaged"):
        NoiseStore(tmp_path).get("x")


def test_failing_write_leaves_no_piece(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "savez", full)
    store = NoiseStore(tmp_path)
    with pytest.raises(OSError, match="No space left"):
        store.put("x", record())
    assert list(tmp_path.iterdir()) == []
    assert_equal(store.get("x"), record())  # this worker has it all the same
