"""Decoded slices: written once, found again, whoever asks."""

from __future__ import annotations

import errno
import os
import pickle
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest

from scanside_training.data import cache as cache_module
from scanside_training.data.cache import Decoded, HeldSlices, SliceStore, cached_slices

SLICES = [np.full((3, 4), 1 + 2j, np.complex64), np.arange(6, dtype=np.float32).reshape(2, 3)]


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SCANSIDE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "slices"


def ask(
    settings: object = None, files: tuple[Path, ...] = (), calls: list[int] | None = None
) -> SliceStore | HeldSlices:
    def decode() -> Decoded:
        if calls is not None:
            calls.append(1)
        return Decoded(["a", "b"], list(SLICES))

    return cached_slices("kind", settings, files, decode)


def test_what_a_dead_process_wrote_goes(cache: Path) -> None:
    cache.mkdir(parents=True)
    dead, writing = cache / ".kind-1-x.part", cache / ".kind-2-y.part"
    dead.write_bytes(b"half of a patient")
    with h5py.File(writing, "w") as file:
        file["slice"] = 1
        file.flush()
        for path in (dead, writing):
            os.utime(path, (1e9, 1e9))
        ask()
        assert not dead.exists()
        assert writing.exists()


def test_slices_come_back_in_their_own_type_and_shape(cache: Path) -> None:
    store = ask()
    assert (len(store), store.subjects) == (2, ("a", "b"))
    for index, pixels in enumerate(SLICES):
        np.testing.assert_array_equal(store[index], pixels)
        assert store[index].dtype == pixels.dtype


def test_decoded_once_for_the_same_settings_and_files(cache: Path, tmp_path: Path) -> None:
    calls: list[int] = []
    file = tmp_path / "data"
    file.write_bytes(b"1")
    for settings in ({"step": 1}, {"step": 1}, {"step": 2}):
        ask(settings, (file,), calls)
    assert len(calls) == 2
    file.write_bytes(b"22")
    ask({"step": 1}, (file,), calls)
    assert len(calls) == 3


def test_another_process_is_faster(cache: Path) -> None:
    def decode() -> Decoded:
        ask()
        return Decoded(["a", "b"], list(SLICES))

    np.testing.assert_array_equal(cached_slices("kind", None, (), decode)[1], SLICES[1])
    assert [path.suffix for path in cache.iterdir()] == [".h5"]


def test_a_process_that_was_forked_opens_the_file_itself(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = ask()
    store[0]
    opened: list[str] = []
    open_file = h5py.File
    monkeypatch.setattr(h5py, "File", lambda *how: opened.append("again") or open_file(*how))
    store[1]
    assert not opened
    monkeypatch.setattr(os, "getpid", lambda: -1)
    store[1]
    assert opened


def test_a_store_that_was_read_can_be_sent_to_a_process(cache: Path) -> None:
    store = ask()
    store[0]
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(store))[1], SLICES[1])


def test_what_fails_leaves_nothing(cache: Path) -> None:
    def decode() -> tuple[list[str], list[np.ndarray]]:
        return ["a"], [np.array([object()])]

    with pytest.raises((TypeError, ValueError, OSError)):
        cached_slices("kind", None, (), decode)
    assert not list(cache.iterdir())


def flipped(path: Path) -> None:
    """One bit of the pixels, which HDF5 would give out without a word if they had no checksum."""
    data = bytearray(path.read_bytes())
    data[data.index(SLICES[0].tobytes())] ^= 1
    path.write_bytes(data)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def emptied(path: Path) -> None:
    path.write_bytes(b"")


def with_a_slice_less(path: Path) -> None:
    with h5py.File(path, "a") as file:
        del file["slice/000001"]


@pytest.mark.parametrize("damage", [flipped, cut, emptied, with_a_slice_less])
def test_damaged_slices_are_decoded_again(
    cache: Path, damage: Callable[[Path], None], caplog: pytest.LogCaptureFixture
) -> None:
    ask()
    (path,) = cache.iterdir()
    damage(path)
    calls: list[int] = []
    for _ in range(2):
        np.testing.assert_array_equal(ask(calls=calls)[0], SLICES[0])
    assert len(calls) == 1
    assert f"{path} is damaged" in caplog.text


def below_a_file(cache: Path, _: pytest.MonkeyPatch) -> None:
    cache.parent.write_bytes(b"")


def full(_: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def write(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(cache_module, "_write", write)


@pytest.mark.parametrize("damage", [below_a_file, full])
def test_without_a_cache_slices_stay_in_memory(
    cache: Path,
    damage: Callable[[Path, pytest.MonkeyPatch], None],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    damage(cache, monkeypatch)
    calls: list[int] = []
    for _ in range(2):
        held = ask(calls=calls)
        assert (held.subjects, held.recordings) == (("a", "b"), ("", ""))
        np.testing.assert_array_equal(held[1], SLICES[1])
    assert len(calls) == 1
    assert f"{cache}, on the disk at /" in caplog.text
    assert "SCANSIDE_CACHE" in caplog.text
