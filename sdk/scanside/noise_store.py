"""Noise covariances by measurement ID, so that a scan finds the noise scan that its header depends on."""

from __future__ import annotations

import os
import tempfile
import zlib
from collections import OrderedDict
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from threading import Lock
from urllib.parse import quote
from zipfile import BadZipFile

import numpy as np
import numpy.typing as npt

from scanside.errors import FileFormatError

__all__ = ["NoiseRecord", "NoiseStore"]

_DAMAGED = (OSError, ValueError, TypeError, AttributeError, KeyError, EOFError, BadZipFile, zlib.error)
"""What NumPy raises for a file that is no archive, is cut off, or holds something else."""

_LONGEST_NAME = 160  # characters of an ID in a file's name; most file systems allow 255 in all


@dataclass(frozen=True, slots=True)
class NoiseRecord:
    """What is known of the noise of a measurement.

    Attributes:
        covariance: ``(coil, coil)`` complex128, of the samples as received.
        dwell_time_us: dwell time of the noise samples in µs.
        n_samples: samples per coil that the covariance was estimated from.
        coil_names: labels in channel order, empty where the header had none.
    """

    covariance: npt.NDArray[np.complex128]
    dwell_time_us: float
    n_samples: int
    coil_names: tuple[str, ...] = ()


class NoiseStore:
    """Keeps noise records in memory and, where a folder is given, in files beside.

    Args:
        folder: where records outlive the process; one ``.npz`` per measurement. Made when first needed.
        capacity: how many records stay in memory; the least recently used leave first.
    """

    def __init__(self, folder: Path | None = None, capacity: int = 256) -> None:
        self._folder = folder
        self._capacity = capacity
        self._records: OrderedDict[str, NoiseRecord] = OrderedDict()
        self._lock = Lock()  # a server's sessions share the store

    def put(self, measurement_id: str, record: NoiseRecord) -> None:
        """Keep a record; one with the same ID is replaced."""
        self._remember(measurement_id, record)
        if self._folder is None:
            return
        self._folder.mkdir(parents=True, exist_ok=True)
        # Written aside and renamed: another worker never reads half a record.
        descriptor, name = tempfile.mkstemp(dir=self._folder, suffix=".part")
        try:
            os.fchmod(descriptor, 0o644)  # a store may be shared by the accounts of several workers
            with os.fdopen(descriptor, "wb") as file:
                np.savez(
                    file,
                    covariance=record.covariance,
                    dwell_time_us=record.dwell_time_us,
                    n_samples=record.n_samples,
                    coil_names=np.array(record.coil_names, dtype=np.str_),
                )
            Path(name).replace(self._path(measurement_id))
        except BaseException:
            Path(name).unlink()
            raise

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
