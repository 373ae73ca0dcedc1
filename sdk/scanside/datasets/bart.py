"""K-space in BART's files (Uecker et al., Proc ISMRM 2015;23:2486): pairs ``.hdr`` and ``.cfl``.

BART's dimensions are 0 readout, 1 and 2 phase encodings, 3 coil, 5 echo, 10 time, 11 repetition, 13 slice, 14 average
and 15 batch. The first two of the three spatial ones that are longer than 1 are k0 and k1. Where all three are, each
position along the readout, after its Fourier transform, is a slice of both phase encodings, as in other volumes.

No file says whose it is. A file that is called ``kspace``, ``ksp``, ``full`` or ``data`` has its folder's name as the
subject, any other one its own. Coil maps lie beside it as ``NAME_maps``, ``NAME_sens``, ``maps`` or ``sens``, and the
ISMRMRD header of the scan that it was made of as ``NAME.xml``.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from scanside.datasets.bart_files import header_beside, map_cfl, pair_of, read_dimensions
from scanside.datasets.fourier import centred_ifft
from scanside.datasets.scan_file import MeasuredSlice, Place, ScanFile, naming, whole_lines
from scanside.errors import CounterError, FileFormatError, ScansideError
from scanside.mrd.header import MrdHeader

__all__ = ["BART_DIMENSIONS", "COIL", "N_DIMENSIONS", "BartFile", "is_bart"]

COIL = 3
N_DIMENSIONS = 16
BART_DIMENSIONS = {"contrast": 5, "phase": 10, "repetition": 11, "slice": 13, "average": 14, "set": 15}
"""Where the counters of `Place` are; BART has none for ISMRMRD's set, and a batch is what it keeps apart."""

_COMMON = re.compile(r"(ksp|kspace|k-space|full|data|raw)(_?full)?", re.IGNORECASE)
_BESIDE = re.compile(
    r"(^|[_-])(maps?|sens|csm|coils?|mask|pattern|traj|weights?|basis|images?|img|reco|ref|reference|noise)([_-]|\d|$)",
    re.IGNORECASE,
)
"""In names of arrays that are no k-space."""
_MAPS = ("{}_maps", "{}_sens", "maps", "sens")
_SETS = 4


class BartFile(ScanFile):
    """Cartesian k-space of BART; `path` is either file of the pair."""

    FORMAT = "bart"

    def __init__(self, path: Path) -> None:
        self.path = path
        if not path.exists():
            raise FileNotFoundError(f"{path} does not exist")
        with naming(path):
            self._data = _with_all_dimensions(map_cfl(path))
            self._look_into()

    def _look_into(self) -> None:
        shape = self._data.shape
        counters = set(BART_DIMENSIONS.values())
        other = {dim: n for dim, n in enumerate(shape) if dim > COIL and dim not in counters and n > 1}
        if other:
            told = ", ".join(f"{dim} has {n}" for dim, n in other.items())
            raise FileFormatError(
                f"holds more than k-space of images: of BART's dimensions {told}; expected space (0, 1, 2), "
                "coil (3), echo (5), time (10), repetition (11), slice (13), average (14) and batch (15)"
            )
        spatial = [dim for dim in range(COIL) if shape[dim] > 1]
        if len(spatial) < 2:
            raise FileFormatError(f"has the dimensions {shape[:4]}, expected two or three of space, and coil")
        self._is_volume = len(spatial) == COIL
        if self._is_volume and shape[BART_DIMENSIONS["slice"]] > 1:
            raise FileFormatError(f"holds {shape[BART_DIMENSIONS['slice']]} volumes as slices, expected one")
        self._k0, self._k1 = spatial[-2:]
        name = pair_of(self.path)[0].stem
        self.subject = self.path.resolve().parent.name if _COMMON.fullmatch(name) else name
        self.facts = {"dimensions": " × ".join(map(str, shape[:4]))}
        self._volume: tuple[Place, npt.NDArray[np.complex64]] | None = None
        self._maps = self._find_maps(name)
        lengths = {key: shape[dim] for key, dim in BART_DIMENSIONS.items()}
        if self._is_volume:
            lengths["slice"] = shape[0]
        sizes = [lengths[key] for key in Place._fields]
        self.places = [Place(*(int(n) for n in at[::-1])) for at in np.ndindex(*sizes[::-1])]
        self.image_size = shape[self._k1], shape[self._k0]
        self._read_header()

    def _read_header(self) -> None:
        beside = header_beside(self.path)
        if self._is_volume or not beside.exists():
            return
        xml = beside.read_bytes()
        encoding = MrdHeader.parse(xml).encoding(0)
        matrix, shape = encoding.encoded.matrix[:2], (self.image_size[1], self.image_size[0])
        if matrix != shape:
            raise FileFormatError(
                f"{beside.name} is of a scan with a matrix (k0, k1) of {matrix}, and k-space has {shape}: they are "
                "not of one scan; remove the header"
            )
        self.header = xml
        self.first_line = matrix[1] // 2 - encoding.limit("kspace_encode_step_1").center

    def _find_maps(self, name: str) -> npt.NDArray[np.complex64] | None:
        header = pair_of(self.path)[0]
        beside = [header.with_name(one.format(name) + ".hdr") for one in _MAPS]
        found = next((one for one in beside if one.exists()), None)
        if found is None:
            return None
        maps = _with_all_dimensions(map_cfl(found))
        if maps.shape[: COIL + 1] != self._data.shape[: COIL + 1]:
            raise FileFormatError(
                f"{found.name} has the dimensions {maps.shape[: COIL + 1]}, and k-space has "
                f"{self._data.shape[: COIL + 1]}: they are not of one scan"
            )
        n_sets = maps.shape[_SETS]
        self.facts["maps"] = found.stem if n_sets == 1 else f"{found.stem}, the first of {n_sets} sets"
        return maps

    @classmethod
    def recognises(cls, path: Path) -> bool:
        """See `ScanFile.recognises`."""
        return is_bart(path) and not cls.accompanies(path)

    @classmethod
    def accompanies(cls, path: Path) -> bool:
        """See `ScanFile.accompanies`."""
        return is_bart(path) and _BESIDE.search(pair_of(path)[0].stem) is not None

    def measured(self, place: Place) -> MeasuredSlice:
        """See `ScanFile.measured`. What was acquired is not zero in some coil."""
        kspace = self._at(place)
        acquired = np.asarray((kspace != 0).any(0))
        return MeasuredSlice(kspace, acquired if self._is_volume else whole_lines(acquired))

    def maps(self, place: Place) -> npt.NDArray[np.complex64] | None:
        """See `ScanFile.maps`."""
        if self._maps is None:
            return None
        index: list[Any] = [slice(None)] * (COIL + 1) + [0] * (N_DIMENSIONS - COIL - 1)
        for name, dim in BART_DIMENSIONS.items():
            # Maps of one time hold for all.
            if self._maps.shape[dim] > 1:
                index[dim] = getattr(place, name)
        return self._turned(np.asarray(self._maps[tuple(index)]), place)

    def _at(self, place: Place) -> npt.NDArray[np.complex64]:
        """K-space ``(coil, k1, k0)`` of a place."""
        if place not in self.places:
            raise CounterError(f"{self.path} has no image at {place}; `places` has all there are")
        index: list[Any] = [slice(None)] * (COIL + 1) + [0] * (N_DIMENSIONS - COIL - 1)
        for name, dim in BART_DIMENSIONS.items():
            if not (self._is_volume and name == "slice"):
                index[dim] = getattr(place, name)
        if not self._is_volume:
            return self._turned(np.asarray(self._data[tuple(index)]), place)
        volume = place._replace(slice=0)
        if self._volume is None or self._volume[0] != volume:
            along = centred_ifft(np.asarray(self._data[tuple(index)]), axes=(0,))
            self._volume = volume, along.astype(np.complex64, copy=False)
        return self._turned(self._volume[1], place)

    def _turned(self, found: npt.NDArray[np.complex64], place: Place) -> npt.NDArray[np.complex64]:
        """From BART's first four dimensions to ``(coil, k1, k0)``."""
        (left,) = (dim for dim in range(COIL) if dim not in (self._k0, self._k1))
        plane = np.take(found, place.slice if self._is_volume else 0, left)
        return np.ascontiguousarray(plane.T, np.complex64)

    def close(self) -> None:
        """See `ScanFile.close`."""
        self._volume = None


def is_bart(path: Path) -> bool:
    """Whether a file is of a pair whose header, which other formats call .hdr, too, is BART's."""
    if path.suffix not in (".hdr", ".cfl"):
        return False
    try:
        read_dimensions(path)
    except (ScansideError, OSError):
        return False
    return True


def _with_all_dimensions(values: npt.NDArray[np.complex64]) -> npt.NDArray[np.complex64]:
    if values.ndim > N_DIMENSIONS:
        raise FileFormatError(f"has {values.ndim} dimensions, and BART has {N_DIMENSIONS}")
    return values.reshape(values.shape + (1,) * (N_DIMENSIONS - values.ndim), order="F")
