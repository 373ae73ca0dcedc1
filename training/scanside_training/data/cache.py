"""Decoded slices and films in an HDF5 file, so that every process of every run reads only those that it needs.

The cache is never a precondition: damaged files are decoded again, and where nothing can be written the slices stay
in memory.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import numpy as np
import numpy.typing as npt

from scanside.errors import FileFormatError
from scanside.scratch import remove_abandoned
from scanside.storage import storage_problem, user_cache

__all__ = ["DAMAGED", "Decoded", "HeldSlices", "SliceStore", "cache_folder", "cached_slices", "written_whole"]

logger = logging.getLogger(__name__)

Slices = npt.NDArray[Any]

_FORMAT = 2

DAMAGED = (OSError, RuntimeError, KeyError, ValueError, TypeError)
"""What h5py raises for a file that is cut short, overwritten, or holds something else."""


class Decoded(NamedTuple):
    """What a source decodes.

    Attributes:
        subjects: of every slice.
        slices: ``(y, x)``, or films ``(t, y, x)``.
        recordings: of every slice, a hash of the content of the recording that it comes from; empty where the source
            has no recordings.
    """

    subjects: list[str]
    slices: list[Slices]
    recordings: list[str] = []  # noqa: RUF012 — never changed


def cache_folder() -> Path:
    """Where decoded slices are kept: ``$SCANSIDE_CACHE``, else ``scanside`` below the user's cache folder."""
    if named := os.environ.get("SCANSIDE_CACHE"):
        return Path(named)
    return user_cache()


class SliceStore:
    """Slices of one file, opened anew in every process that reads: HDF5 handles do not survive a fork.

    Args:
        path: file that `cached_slices` wrote.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        with h5py.File(path, "r") as file:
            self.subjects: tuple[str, ...] = tuple(file["subject"].asstr()[:])
            self.recordings: tuple[str, ...] = tuple(file["recording"].asstr()[:])
        self._open: tuple[int, h5py.File] | None = None

    def __len__(self) -> int:
        return len(self.subjects)

    def shape_of(self, index: int) -> tuple[int, ...]:
        """The shape of a slice, which is not read."""
        with h5py.File(self.path, "r") as file:
            shape: tuple[int, ...] = file[_name(index)].shape
        return shape

    def __getitem__(self, index: int) -> Slices:
        """Slice ``(y, x)`` or film ``(t, y, x)``.

        Raises:
            FileFormatError: the file was damaged after it had been opened.
        """
        if self._open is None or self._open[0] != os.getpid():
            self._open = (os.getpid(), h5py.File(self.path, "r"))
        try:
            found: Slices = self._open[1][_name(index)][()]
        except DAMAGED as error:
            raise FileFormatError(
                f"{self.path} with decoded slices was damaged while it was in use ({error}): begin again or go on "
                "with --resume, the slices are then decoded anew"
            ) from error
        return found

    def __getstate__(self) -> dict[str, object]:
        return {**self.__dict__, "_open": None}


class HeldSlices:
    """Slices in memory, where no file can hold them.

    Args:
        decoded: what the source gave.
    """

    def __init__(self, decoded: Decoded) -> None:
        self.subjects = tuple(decoded.subjects)
        self.recordings = tuple(decoded.recordings or [""] * len(decoded.subjects))
        self._slices = decoded.slices

    def __len__(self) -> int:
        return len(self._slices)

    def shape_of(self, index: int) -> tuple[int, ...]:
        """The shape of a slice."""
        return self._slices[index].shape

    def __getitem__(self, index: int) -> Slices:
        """Slice ``(y, x)`` or film ``(t, y, x)``."""
        return self._slices[index]


_held: dict[Path, HeldSlices] = {}
"""Slices of this process that no file could hold, by the file that they were meant for."""

_whole: set[tuple[Path, int, int]] = set()
"""Files that this process has read in full: path, size, time of change."""


def cached_slices(
    kind: str, settings: object, files: Sequence[Path], decode: Callable[[], Decoded]
) -> SliceStore | HeldSlices:
    """The slices that `decode` gives, from the cache where they are in it.

    Several processes may ask at once: each that finds nothing decodes, writes a file of its own and moves it to its
    place in one step. A damaged file is told and decoded again; what no file can hold stays in memory, with a
    warning.

    Args:
        kind: name of the source, part of the file's name.
        settings: what decides about the slices, as JSON can hold it.
        files: files that they are read from; their sizes and times of change are part of the key.
        decode: gives the slices.
    """
    stamps = [(str(path.resolve()), path.stat().st_size, path.stat().st_mtime_ns) for path in files]
    key = hashlib.sha256(json.dumps([_FORMAT, settings, stamps], sort_keys=True).encode()).hexdigest()
    path = cache_folder() / "slices" / f"{kind}-{key[:16]}.h5"
    if path in _held:
        return _held[path]
    if (found := _read(path)) is not None:
        return found
    decoded = Decoded(*decode())
    try:
        _write(path, decoded)
        return SliceStore(path)
    except (OSError, RuntimeError) as error:  # HDF5 tells of a full disk by either
        problem = storage_problem(error if isinstance(error, OSError) else OSError(str(error)), path.parent)
        logger.warning(
            "decoded slices of %s cannot be kept: %s. They stay in memory, and every run decodes them again: make "
            "room, or name another folder in SCANSIDE_CACHE",
            kind,
            problem,
        )
        _held[path] = HeldSlices(decoded)
        return _held[path]


def _read(path: Path) -> SliceStore | None:
    """The store in a file, all of which has been read once; None where there is none, or a damaged one."""
    try:
        status = path.stat()
    except OSError:  # not there, or not for us to read
        return None
    stamp = (path, status.st_size, status.st_mtime_ns)
    try:
        store = SliceStore(path)
        if stamp not in _whole:
            with h5py.File(path, "r") as file:
                if len(file["slice"]) != len(store) or len(store.recordings) != len(store):
                    raise ValueError(f"it holds {len(file['slice'])} slices of {len(store)}")
                for index in range(len(store)):
                    file[_name(index)][()]  # HDF5 compares its checksums
            _whole.add(stamp)
    except DAMAGED as error:
        logger.warning("%s is damaged (%s): its slices are decoded again", path, error)
        return None
    return store


@contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """A file to write, which is moved to its place in one step when all is written, and removed when it is not.

    Args:
        path: its place; the folder is made.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    remove_abandoned(path.parent, ".*.part")  # HDF5 locks what it writes
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.stem}-", suffix=".part")
    os.close(handle)
    partial = Path(name)
    try:
        yield partial
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def _write(path: Path, decoded: Decoded) -> None:
    text = h5py.string_dtype()
    with written_whole(path) as partial, h5py.File(partial, "w") as file:
        file["subject"] = np.array(decoded.subjects, dtype=text)
        file["recording"] = np.array(decoded.recordings or [""] * len(decoded.subjects), dtype=text)
        for index, pixels in enumerate(decoded.slices):
            file.create_dataset(_name(index), data=pixels, chunks=pixels.shape, fletcher32=True)


def _name(index: int) -> str:
    return f"slice/{index:06d}"
