"""Decoded slices: written once, found again, whoever asks."""

from __future__ import annotations

import os
import pickle
from pathlib import Path

import h5py
import numpy as np
import pytest

from scanside_training.data.cache import SliceStore, cached_slices

SLICES = [np.full((3, 4), 1 + 2j, np.complex64), np.arange(6, dtype=np.float32).reshape(2, 3)]


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SCANSIDE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "slices"


def ask(settings: object = None, files: tuple[Path, ...] = (), calls: list[int] | None = None) -> SliceStore:
    def decode() -> tuple[list[str], list[np.ndarray]]:
        if calls is not None:
            calls.append(1)
        return ["a", "b"], list(SLICES)

    return cached_slices("kind", settings, files, decode)


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
    def decode() -> tuple[list[str], list[np.ndarray]]:
        ask()
        return ["a", "b"], list(SLICES)

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
