"""Coil maps of measured scans on the disk, so that those of one scan are estimated once.

They depend on the calibration lines alone, and among the masks that are drawn these differ in their number only. As
with all that is kept, it is never a precondition: what is damaged is estimated again, and what finds no room is
estimated whenever it is needed.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import h5py
import numpy as np
import torch
from torch import Tensor

from scanside.storage import storage_problem
from scanside_training.data.cache import DAMAGED, cache_folder, written_whole

__all__ = ["Calibration", "KeptMaps"]

logger = logging.getLogger(__name__)

_FORMAT = 2
_LOOK_AGAIN = 256
"""So many files are written before those of other processes are counted again."""


class Calibration(NamedTuple):
    """What is estimated of a scan's k-space.

    Attributes:
        maps: ``(coil, y, x)`` complex64, on the grid on which they are estimated.
        virtual: ``(coil,)`` complex64, the virtual coil that sees them with zero phase.
        noise: standard deviation of the noise's real and imaginary part per coil and voxel.
        region: ``(k1, k0)`` booleans, where the object is in the image of all lines, combined with these maps.
    """

    maps: Tensor
    virtual: Tensor
    noise: float
    region: Tensor


@dataclass(frozen=True)
class KeptMaps:
    """What was estimated of one image's k-space, for each setting by which it was.

    Attributes:
        image: which one: its file, the file's size and time of change, and its place in it.
        most_gb: that all images may take on the disk.
    """

    image: tuple[object, ...]
    most_gb: float

    def get(self, settings: Mapping[str, object], estimate: Callable[[], Calibration]) -> Calibration:
        """What `estimate` gives, from the disk where it is there.

        A damaged file is told, and written anew.

        Args:
            settings: all that the estimate depends on beside the image, as JSON can hold it.
            estimate: makes it.
        """
        text = json.dumps([_FORMAT, self.image, settings], sort_keys=True)
        key = hashlib.sha256(text.encode()).hexdigest()
        folder = cache_folder() / "coil-maps"
        path = folder / key[:2] / f"{key[2:18]}.h5"
        if (found := _read(path)) is not None:
            return found
        made = estimate()
        room = _rooms.setdefault(folder, _Room(folder))
        if room.holds(made.maps.nbytes, self.most_gb):
            try:
                _write(path, made)
                room.take(path.stat().st_size)
            except (OSError, RuntimeError) as error:  # HDF5 tells of a full disk by either
                problem = error if isinstance(error, OSError) else OSError(str(error))
                room.close(f"cannot be kept: {storage_problem(problem, folder)}")
        return made


@dataclass
class _Room:
    """What this process knows of the room for maps in a folder."""

    folder: Path
    taken: int = 0
    written: int = 0
    open: bool = True
    last_look: int = field(default=-_LOOK_AGAIN)

    def holds(self, n_bytes: int, most_gb: float) -> bool:
        """Whether more may be written."""
        if self.open and self.written - self.last_look >= _LOOK_AGAIN:
            self.taken = sum(one.stat().st_size for one in self.folder.rglob("*.h5"))
            self.last_look = self.written
        if self.open and self.taken + n_bytes > 1e9 * most_gb:
            self.close(f"take {self.taken / 1e9:.2g} GB, and may take {most_gb:g} (espirit.kept_gb)")
        return self.open

    def take(self, n_bytes: int) -> None:
        """So much was written."""
        self.written += 1
        self.taken += n_bytes

    def close(self, why: str) -> None:
        """Write no more, and say so once."""
        self.open = False
        logger.warning(
            "coil maps of measured scans in %s %s. From now on those that are not there are estimated for every "
            "sample: remove the folder, or name another one in SCANSIDE_CACHE",
            self.folder,
            why,
        )


_rooms: dict[Path, _Room] = {}
"""Of this process, by folder."""


def _read(path: Path) -> Calibration | None:
    """What a file holds; None where there is none, or a damaged one."""
    if not path.exists():
        return None
    try:
        with h5py.File(path, "r") as file:
            maps = file["maps"][()]  # HDF5 compares its checksum
            virtual, region = file["virtual"][()], file["region"][()]
            noise, n0 = float(file.attrs["noise"]), int(file.attrs["k0"])
        if maps.ndim != 3 or maps.dtype != np.complex64:
            raise ValueError(f"it holds maps of the shape {maps.shape}, {maps.dtype}")
    except DAMAGED as error:
        logger.warning("%s is damaged (%s): its coil maps are estimated again", path, error)
        return None
    inside = np.unpackbits(region, axis=1, count=n0).astype(np.bool_)
    return Calibration(torch.from_numpy(maps), torch.from_numpy(virtual), noise, torch.from_numpy(inside))


def _write(path: Path, made: Calibration) -> None:
    # Maps may be views of others, which h5py would write element by element.
    arrays = {
        "maps": np.ascontiguousarray(made.maps),
        "virtual": made.virtual.numpy(),
        "region": np.packbits(made.region.numpy(), axis=1),
    }
    with written_whole(path) as partial, h5py.File(partial, "w") as file:
        for name, array in arrays.items():
            file.create_dataset(name, data=array, chunks=array.shape, fletcher32=True)
        file.attrs.update(noise=made.noise, k0=made.region.shape[1])
