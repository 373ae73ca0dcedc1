"""Decoded slices and films in an HDF5 file, so that every process of every run reads only those that it needs."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt

__all__ = ["SliceStore", "cache_folder", "cached_slices"]

Slices = npt.NDArray[Any]

_FORMAT = 1


def cache_folder() -> Path:
    """Where decoded slices are kept: ``$SCANSIDE_CACHE``, else ``scanside`` below the user's cache folder."""
    if named := os.environ.get("SCANSIDE_CACHE"):
        return Path(named)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "scanside"


class SliceStore:
    """Slices of one file, opened anew in every process that reads: HDF5 handles do not survive a fork.

    Args:
        path: file that `cached_slices` wrote.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        with h5py.File(path, "r") as file:
            self.subjects: tuple[str, ...] = tuple(file["subject"].asstr()[:])
        self._open: tuple[int, h5py.File] | None = None

    def __len__(self) -> int:
        return len(self.subjects)

    def __getitem__(self, index: int) -> Slices:
        """Slice ``(y, x)`` or film ``(t, y, x)``."""
        if self._open is None or self._open[0] != os.getpid():
            self._open = (os.getpid(), h5py.File(self.path, "r"))
        found: Slices = self._open[1][f"slice/{index:06d}"][()]
        return found

    def __getstate__(self) -> dict[str, object]:
        return {**self.__dict__, "_open": None}


def cached_slices(
    kind: str, settings: object, files: Sequence[Path], decode: Callable[[], tuple[list[str], list[Slices]]]
) -> SliceStore:
    """The slices that `decode` gives, from the cache where they are in it.

    Several processes may ask at once: each that finds nothing decodes, writes a file of its own and moves it to its
    place in one step.

    Args:
        kind: name of the source, part of the file's name.
        settings: what decides about the slices, as JSON can hold it.
        files: files that they are read from; their sizes and times of change are part of the key.
        decode: gives the subject and the pixels of every slice ``(y, x)`` or film ``(t, y, x)``.
    """
    stamps = [(str(path.resolve()), path.stat().st_size, path.stat().st_mtime_ns) for path in files]
    key = hashlib.sha256(json.dumps([_FORMAT, settings, stamps], sort_keys=True).encode()).hexdigest()
    path = cache_folder() / "slices" / f"{kind}-{key[:16]}.h5"
    if not path.exists():
        subjects, slices = decode()
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, partial = tempfile.mkstemp(dir=path.parent, prefix=f".{path.stem}-", suffix=".part")
        os.close(handle)
        try:
            with h5py.File(partial, "w") as file:
                file["subject"] = np.array(subjects, dtype=h5py.string_dtype())
                for index, pixels in enumerate(slices):
                    file[f"slice/{index:06d}"] = pixels
            Path(partial).replace(path)
        finally:
            Path(partial).unlink(missing_ok=True)
    return SliceStore(path)
