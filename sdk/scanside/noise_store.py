"""Noise covariances by measurement ID, so that a scan finds the noise scan that its header depends on."""

from __future__ import annotations

import zlib
from collections import OrderedDict
from contextlib import suppress
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from threading import Lock
from time import time
from urllib.parse import quote
from zipfile import BadZipFile

import numpy as np
import numpy.typing as npt

from scanside.errors import FileFormatError
from scanside.scratch import remove_abandoned, replacing

__all__ = ["NoiseRecord", "NoiseStore"]

_DAMAGED = (OSError, ValueError, TypeError, AttributeError, KeyError, EOFError, BadZipFile, zlib.error)
"""What NumPy raises for a file that is no archive, is cut off, or holds something else."""

_SAME = 1e-3
_DAY_SECONDS = 86400.0
_LONGEST_NAME = 160  # characters of an ID in a file's name; most file systems allow 255 in all


@dataclass(frozen=True, slots=True)
class NoiseRecord:
    """What is known of the noise of a measurement.

    Attributes:
        covariance: ``(coil, coil)`` complex128, of the samples as received.
        dwell_time_us: dwell time of the noise samples in µs.
        n_samples: samples per coil that the covariance was estimated from.
        coil_names: labels in channel order, empty where the header had none.
        replaces: whether the measurement came before, with another result.
    """

    covariance: npt.NDArray[np.complex128]
    dwell_time_us: float
    n_samples: int
    coil_names: tuple[str, ...] = ()
    replaces: bool = False

    def agrees(self, other: NoiseRecord) -> bool:
        """Whether two records are of one measurement: equal but for rounding."""
        return (
            self.covariance.shape == other.covariance.shape
            and self.dwell_time_us == other.dwell_time_us
            and self.coil_names == other.coil_names
            and bool(np.allclose(self.covariance, other.covariance, rtol=_SAME, atol=_SAME * self._largest()))
        )

    def _largest(self) -> float:
        return float(np.abs(self.covariance).max(initial=0.0))


class NoiseStore:
    """Keeps noise records in memory and, where a folder is given, in files beside.

    Args:
        folder: where records outlive the process; one ``.npz`` per measurement. Made when first needed.
        capacity: how many records stay in memory; the least recently used leave first.
        most_files: how many records stay in the folder; the oldest leave first.
        days: how long a record stays there.
    """

    def __init__(
        self, folder: Path | None = None, capacity: int = 256, *, most_files: int = 2000, days: float = 30.0
    ) -> None:
        self._folder = folder
        self._capacity = capacity
        self._most_files = most_files
        self._days = days
        self._records: OrderedDict[str, NoiseRecord] = OrderedDict()
        self._lock = Lock()  # a server's sessions share the store

    def put(self, measurement_id: str, record: NoiseRecord) -> bool:
        """Keep a record; one with the same ID is replaced, and the new one says so if it is another.

        Returns:
            Whether another was replaced: two measurements have one ID, or somebody sent what is not theirs.

        Raises:
            OSError: it cannot be written; it is kept in memory all the same.
        """
        try:
            known = self.get(measurement_id)
        except FileFormatError:
            known = None  # a damaged one is worth nothing
        if known is not None:
            record = replace(record, replaces=known.replaces or not record.agrees(known))
        self._remember(measurement_id, record)
        if self._folder is not None:
            self._folder.mkdir(parents=True, exist_ok=True)
            self._write(self._path(measurement_id), record)
            self._prune()
        return known is not None and not record.agrees(known)

    def _write(self, path: Path, record: NoiseRecord) -> None:
        # Written aside and renamed: another worker never reads half a record.
        with replacing(path) as draft:
            draft.chmod(0o644)  # a store may be shared by the accounts of several workers
            with draft.open("wb") as file:
                np.savez(
                    file,
                    covariance=record.covariance,
                    dwell_time_us=record.dwell_time_us,
                    n_samples=record.n_samples,
                    coil_names=np.array(record.coil_names, dtype=np.str_),
                    replaces=record.replaces,
                )

    def _prune(self) -> None:
        """Remove what is too old or too much; other processes may do the same."""
        assert self._folder is not None
        remove_abandoned(self._folder, ".*.part")
        ages: list[tuple[float, Path]] = []
        for path in self._folder.glob("noise_*.npz"):
            with suppress(OSError):
                ages.append((time() - path.stat().st_mtime, path))
        ages.sort()
        for place, (age, path) in enumerate(ages):
            if place >= self._most_files or age > self._days * _DAY_SECONDS:
                with suppress(OSError):
                    path.unlink()

    def get(self, measurement_id: str) -> NoiseRecord | None:
        """The record of a measurement, or None.

        Raises:
            FileFormatError: the record's file is damaged.
        """
        with self._lock:
            if measurement_id in self._records:
                self._records.move_to_end(measurement_id)
                return self._records[measurement_id]
        if self._folder is None or not (path := self._path(measurement_id)).exists():
            return None
        try:
            # Opened here, because np.load leaves a damaged archive open.
            with path.open("rb") as file, np.load(file, allow_pickle=False) as stored:
                record = NoiseRecord(
                    stored["covariance"],
                    float(stored["dwell_time_us"]),
                    int(stored["n_samples"]),
                    tuple(str(name) for name in stored["coil_names"]),
                    bool(stored["replaces"]) if "replaces" in stored else False,
                )
        except _DAMAGED as error:
            raise FileFormatError(f"the noise record {path} is damaged ({error}): delete it") from error
        self._remember(measurement_id, record)
        return record

    def _remember(self, measurement_id: str, record: NoiseRecord) -> None:
        with self._lock:
            self._records[measurement_id] = record
            self._records.move_to_end(measurement_id)
            while len(self._records) > self._capacity:
                self._records.popitem(last=False)

    def _path(self, measurement_id: str) -> Path:
        assert self._folder is not None
        # Measurement IDs come from a scanner's header: they must not reach beyond the folder, nor be longer than
        # a file's name may be.
        name = quote(measurement_id, safe="")
        if len(name) > _LONGEST_NAME:
            name = f"{name[:_LONGEST_NAME]}-{sha256(measurement_id.encode()).hexdigest()}"
        return self._folder / f"noise_{name}.npz"
