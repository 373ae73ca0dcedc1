"""Files that tell where gradients really go: their impulse response, or a trajectory that was measured.

Both are HDF5.

A gradient impulse response holds, in its root group:

* attribute ``axes``: ``readout`` or ``patient``, see `Girf`;
* ``frequencies`` ``(n,)`` in Hz, from 0 on, rising;
* ``transfer`` complex, ``(3, n)`` of each axis on itself, or ``(3, 3, n)`` with the cross terms: of the gradient
  along the first axis that comes, for one along the second;
* ``field`` complex ``(3, n)`` in metres, optional: the field that comes everywhere (k0) in T for a gradient in T/m.

A measured trajectory holds:

* attribute ``unit``: ``voxel``, ``radian``, ``matrix`` or ``metre``, as `unit_of` has them;
* ``trajectory`` ``(readout, sample, 2 or 3)``: x, y and z in that unit, of all samples of a readout, those that are
  discarded included;
* one data set ``(readout,)`` of whole numbers for each counter of MRD by which readouts are found, named like it,
  such as ``kspace_encode_step_1``.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import h5py
import numpy as np
import numpy.typing as npt

from scanside.errors import FileFormatError, NonFiniteError, ScanError, ShapeError
from scanside.mrd.dtypes import ACQUISITION_HEADER
from scanside.mrd.readouts import Readouts
from scanside.recon.noncartesian.girf import Girf
from scanside.stages._trajectory import Points, Unit

__all__ = ["MeasuredTrajectory", "read_girf"]

_COUNTERS = tuple(name for name in ACQUISITION_HEADER["idx"].names or () if name != "user")
_GAIN = (0.8, 1.2)  # of a gradient that stays the same


def read_girf(path: Path) -> Girf:
    """A gradient impulse response from its file.

    Raises:
        FileFormatError: it is no such file: arrays are missing, or of another shape.
        NonFiniteError: an array holds NaN or infinity.
        OSError: it cannot be opened.
    """
    with _opened(path, "gradient impulse response") as file:
        frequencies = np.asarray(_array(file, "frequencies"), np.float64)
        transfer = np.asarray(_array(file, "transfer"), np.complex128)
        field = np.asarray(_array(file, "field"), np.complex128) if "field" in file else None
        axes = str(file.attrs.get("axes", "missing"))
    n = len(frequencies) if frequencies.ndim == 1 else -1
    if n < 3 or frequencies[0] != 0 or not (np.diff(frequencies) > 0).all():
        raise FileFormatError(f"frequencies of {path} must be (n ≥ 3,) in Hz, from 0 on, rising")
    if transfer.shape not in ((3, n), (3, 3, n)):
        raise FileFormatError(
            f"transfer of {path} has shape {transfer.shape}, expected (3, {n}) of the axes themselves or "
            f"(3, 3, {n}) with cross terms"
        )
    if field is not None and field.shape != (3, n):
        raise FileFormatError(f"field of {path} has shape {field.shape}, expected (3, {n})")
    if transfer.ndim == 2:
        transfer = np.eye(3)[:, :, None] * transfer
    gain = transfer[range(3), range(3), 0]
    if not ((gain.real >= _GAIN[0]) & (gain.real <= _GAIN[1]) & (np.abs(gain.imag) < 1 - _GAIN[0])).all():
        raise FileFormatError(
            f"transfer of {path} is {', '.join(f'{one:.3g}' for one in gain)} at 0 Hz, expected about 1: it is of "
            "another kind, such as in dB or of fields"
        )
    if axes not in ("readout", "patient"):
        raise FileFormatError(f"attribute axes of {path} is '{axes}', expected 'readout' or 'patient'")
    return Girf(frequencies, transfer, field, "patient" if axes == "patient" else "readout")


@dataclass(frozen=True)
class MeasuredTrajectory:
    """A trajectory that takes the place of what readouts carry.

    Attributes:
        path: where it comes from.
        unit: that it is in.
        points: ``(readout, sample, 2 or 3)``.
        counters: names of the counters by which readouts are found.
        rows: number of the readout in the file by their values.
    """

    path: Path
    unit: Unit
    points: Points
    counters: tuple[str, ...]
    rows: dict[tuple[int, ...], int]

    @classmethod
    def load(cls, path: Path) -> MeasuredTrajectory:
        """Read a file.

        Raises:
            FileFormatError: it is no such file: arrays are missing, of another shape, or hold readouts twice.
            NonFiniteError: an array holds NaN or infinity.
            OSError: it cannot be opened.
        """
        with _opened(path, "measured trajectory") as file:
            points = np.asarray(_array(file, "trajectory"), np.float32)
            found = {name: _array(file, name) for name in _COUNTERS if name in file}
            unit = str(file.attrs.get("unit", "missing"))
        if points.ndim != 3 or points.shape[-1] not in (2, 3):
            raise FileFormatError(
                f"trajectory of {path} has shape {points.shape}, expected (readout, sample, 2 or 3)"
            )
        if not found:
            raise FileFormatError(
                f"{path} holds no counters by which readouts are found: add kspace_encode_step_1 or others of "
                f"{', '.join(_COUNTERS)}"
            )
        for name, values in found.items():
            if values.shape != points.shape[:1]:
                raise FileFormatError(
                    f"{name} of {path} has shape {values.shape}, expected ({len(points)},) as the trajectory has"
                )
        if unit not in get_args(Unit):
            raise FileFormatError(
                f"attribute unit of {path} is '{unit}', expected one of {', '.join(get_args(Unit))}"
            )
        keys = [tuple(int(one) for one in row) for row in zip(*found.values(), strict=True)]
        rows = {key: i for i, key in enumerate(keys)}
        if len(rows) < len(keys):
            raise FileFormatError(
                f"{path} holds {len(keys) - len(rows)} readouts twice, by {', '.join(found)}"
            )
        known: dict[str, Unit] = {one: one for one in get_args(Unit)}
        return cls(path, known[unit], points, tuple(found), rows)

    def of(self, readouts: Readouts) -> Points:
        """The trajectory ``(n, sample, 2 or 3)`` of readouts.

        Raises:
            ScanError: a readout is not in the file.
            ShapeError: readouts have another number of samples.
        """
        if readouts.samples.shape[-1] != self.points.shape[1]:
            raise ShapeError(
                f"readouts have {readouts.samples.shape[-1]} samples, and those of {self.path} "
                f"{self.points.shape[1]}: measure the trajectory of this protocol, with samples that are discarded"
            )
        rows = []
        for header in readouts.headers:
            key = tuple(int(header["idx"][name]) for name in self.counters)
            if key not in self.rows:
                told = ", ".join(f"{name} {value}" for name, value in zip(self.counters, key, strict=True))
                raise ScanError(
                    f"{self.path} holds no trajectory of the readout with scan counter {int(header['scan_counter'])} "
                    f"({told}): measure that of this protocol"
                )
            rows.append(self.rows[key])
        return self.points[rows]


@contextmanager
def _opened(path: Path, what: str) -> Iterator[h5py.File]:
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path} to read a {what} from")
    if not h5py.is_hdf5(path):
        raise FileFormatError(f"{path} is no HDF5 file, expected one with a {what}")
    with h5py.File(path, "r") as file:
        yield file


def _array(file: h5py.File, name: str) -> npt.NDArray[Any]:
    if not isinstance(file.get(name), h5py.Dataset):
        raise FileFormatError(f"{file.filename} holds no array '{name}'")
    array = np.asarray(file[name][()])
    if array.dtype.kind not in "iufc":
        raise FileFormatError(f"'{name}' of {file.filename} holds no numbers, but {array.dtype}")
    if not np.isfinite(array).all():
        n = int((~np.isfinite(array)).sum())
        raise NonFiniteError(f"{n} of {array.size} values of '{name}' of {file.filename} are NaN or infinite")
    return array
