"""fastMRI's prostates: T2-weighted and diffusion-weighted (Tibrewala et al., Scientific Data 11:404, 2024).

T2, ``file_prostate_AXT2_001.h5``: ``kspace`` is ``(average, slice, coil, row, column)``, three averages of every
second column each. The first and the third have the same columns, and the second those between, so that GRAPPA takes
two kernels. Columns are as many as were encoded; zeros around them make as many as there are rows.

Diffusion, ``file_prostate_AXDIFF_001.h5``: ``kspace`` is ``(volume, slice, coil, row, column)``, echo-planar, sampled
while the gradient ramps up and down. Rows are therefore not on a grid.

In both, calibration lines lie apart, in ``calibration_data``, and the published images are upside down against
k-space. Patients have numbers, which the names of both files and the tables of labels share.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

import h5py
import numpy as np
import numpy.typing as npt

from scanside.datasets.scan_file import Hdf5ScanFile, MeasuredSlice, Place, dataset, naming, text
from scanside.errors import FileFormatError
from scanside.mrd.header import MrdHeader
from scanside.mrd.header_elements import Elements, all_of, read_document

__all__ = [
    "WEIGHTINGS",
    "DiffusionWeighting",
    "EpiReadout",
    "FastMriProstateDiffusionFile",
    "FastMriProstateT2File",
    "interleave",
]

_NAME = re.compile(r"file_prostate_AX(?:T2|DIFF)_(\d+)")
_N_AVERAGES = 3
_N_VOLUMES = 50
_FIRST_VOLUME = 2
"""Those before have no part in the published images."""
_FIRST_ALONE = 26
"""From here on volumes are weighted with the larger b-value only."""


class DiffusionWeighting(NamedTuple):
    """How a volume is weighted: b in s/mm², and along which axis."""

    b_s_per_mm2: int
    direction: str


WEIGHTINGS = tuple(DiffusionWeighting(b, direction) for b in (50, 1000) for direction in "xyz")
"""By `Place.set`."""


class EpiReadout(NamedTuple):
    """A trapezoid that is sampled from its ramp on, in µs."""

    ramp_up_us: float
    ramp_down_us: float
    flat_top_us: float
    acquisition_delay_us: float
    echo_spacing_us: float


_LONGS = ("rampUpTime", "rampDownTime", "flatTopTime", "acqDelayTime", "echoSpacing")


class _ProstateFile(Hdf5ScanFile):
    """What both kinds have in common.

    Attributes:
        header: the scan's ISMRMRD header, as XML.
        patient: the number that the file's name ends in, as in the tables of labels.
    """

    header: bytes
    patient: int

    def _look_into(self, file: h5py.File) -> None:
        name = _NAME.match(self.path.name)
        if name is None:
            raise FileFormatError(
                "its name is not as file_prostate_AXT2_001 or file_prostate_AXDIFF_001: the number says which files "
                "are of one patient and must stay together; give it the name that it came with"
            )
        self.patient = int(name[1])
        self.subject = f"prostate-{self.patient:03}"
        kspace = dataset(file, "kspace", (5,), "(average, slice, coil, row, column)")
        if not np.issubdtype(kspace.dtype, np.complexfloating):
            raise FileFormatError(f"'kspace' holds {kspace.dtype}, expected complex numbers")
        calibration = dataset(file, "calibration_data", (4,), "(slice, coil, row, column)")
        if calibration.shape[:3] != kspace.shape[1:4]:
            raise FileFormatError(
                f"'calibration_data' has the shape {calibration.shape} and 'kspace' {kspace.shape}: slices, coils or "
                "rows differ"
            )
        self.header = text(file, "ismrmrd_header")
        self.facts = {"acquisition": str(file.attrs.get("acquisition", ""))}

    def _read(self, place: Place, volume: int, lattice: npt.NDArray[np.bool_]) -> MeasuredSlice:
        """A slice without padding, whose columns must be of the lattice that all slices share."""
        with naming(self.path):
            kspace = _turned(self._file["kspace"][volume, place.slice])
            acquired = np.asarray(np.any(kspace != 0, axis=(0, 2)), np.bool_)
            if (acquired & ~lattice).any():
                raise FileFormatError(
                    f"slice {place.slice} of volume {volume} has other columns than the slice in the middle: "
                    f"{_described(acquired)}, expected {_described(lattice)}"
                )
        return MeasuredSlice(kspace, acquired[:, None])

    def calibration(self, place: Place) -> npt.NDArray[np.complex64]:
        """Lines of the middle of k-space that were acquired apart, ``(coil, k1, k0)``, k1 as many as there are.

        Raises:
            FileFormatError: the file is damaged.
        """
        with naming(self.path):
            return _turned(self._file["calibration_data"][place.slice])


class FastMriProstateT2File(_ProstateFile):
    """A T2-weighted file. Each `Place.average` has half of the columns, and the first two have all of them."""

    FORMAT = "fastmri-prostate-t2"

    @classmethod
    def _has_its_signs(cls, file: h5py.File) -> bool:
        return _looks_like_prostate(file) and "coil_sens_maps" not in file

    def _look_into(self, file: h5py.File) -> None:
        super()._look_into(file)
        kspace = file["kspace"]
        n_averages, n_slices, _, n_rows, _ = kspace.shape
        if n_averages != _N_AVERAGES:
            raise FileFormatError(f"'kspace' has {n_averages} averages, expected {_N_AVERAGES}")
        images = dataset(file, "reconstruction_rss", (3,), "(slice, row, column)")
        if len(images) != n_slices or max(images.shape[1:]) > n_rows:
            raise FileFormatError(
                f"'reconstruction_rss' has the shape {images.shape}, and 'kspace' {kspace.shape}: they are not of "
                "one scan"
            )
        self.image_size = images.shape[2], images.shape[1]
        self._padding = _padding(kspace, MrdHeader.parse(self.header))
        self._lattices = [_columns(kspace, average) for average in range(n_averages)]
        first, second, third = self._lattices
        if not np.array_equal(first, third) or (first & second).any() or not second.any():
            told = ", ".join(_described(lattice) for lattice in self._lattices)
            raise FileFormatError(
                "its averages have other columns than the first and third the same, and the second those between: "
                f"{told}"
            )
        self.places = [
            Place(number, average=average) for average in range(n_averages) for number in range(n_slices)
        ]

    def measured(self, place: Place) -> MeasuredSlice:
        """See `ScanFile.measured`. ``(coil, k1, k0)`` is as long in k1 as in k0: zeros are around the columns."""
        found = self._read(place, place.average, self._lattices[place.average])
        return MeasuredSlice(
            np.pad(found.kspace, ((0, 0), self._padding, (0, 0))),
            np.pad(found.acquired, (self._padding, (0, 0))),
        )

    def reference(self, place: Place) -> npt.NDArray[np.float32]:
        """See `ScanFile.reference`: GRAPPA's, the mean of the averages, and so the same for all of them.

        It is turned over, to lie as k-space does.
        """
        with naming(self.path):
            found = self._file["reconstruction_rss"][place.slice]
        return np.ascontiguousarray(found[::-1].T, np.float32)


class FastMriProstateDiffusionFile(_ProstateFile):
    """A diffusion-weighted file. `Place.set` is the place in `WEIGHTINGS`, and `Place.average` counts its volumes.

    `measured` gives samples as they are: not on a grid along k0. Regrid them by `epi` before anything else.

    Attributes:
        epi: the gradient that readouts were sampled under.
    """

    FORMAT = "fastmri-prostate-diffusion"
    CARTESIAN = False

    epi: EpiReadout

    @classmethod
    def _has_its_signs(cls, file: h5py.File) -> bool:
        return _looks_like_prostate(file) and "coil_sens_maps" in file

    def _look_into(self, file: h5py.File) -> None:
        super()._look_into(file)
        kspace = file["kspace"]
        if len(kspace) != _N_VOLUMES:
            raise FileFormatError(
                f"'kspace' has {len(kspace)} volumes, expected {_N_VOLUMES}: their order says how each is weighted"
            )
        maps = dataset(file, "coil_sens_maps", (4,), "(slice, coil, row, column)")
        if maps.shape != kspace.shape[1:]:
            raise FileFormatError(f"'coil_sens_maps' has the shape {maps.shape}, expected {kspace.shape[1:]}")
        self.epi = _epi_readout(self.header)
        recon = MrdHeader.parse(self.header).encoding(0).recon
        n_rows, n_columns = kspace.shape[-2:]
        self.image_size = min(recon.matrix[1], n_columns), min(recon.matrix[0], n_rows)
        self._lattice = _columns(kspace, _FIRST_VOLUME)
        if not self._lattice.any():
            raise FileFormatError("'kspace' is zero in its middle: the download is not whole")
        self._volumes = {
            Place(number, set=weighting, average=average): volume
            for volume, weighting, average in interleave()
            for number in range(kspace.shape[1])
        }
        self.places = list(self._volumes)
        self.facts["phase_correction"] = "yes" if "phase_correction" in file else "no"
        self.facts["trajectory"] = "echo-planar, sampled on ramps, not regridded"

    def measured(self, place: Place) -> MeasuredSlice:
        """See `ScanFile.measured`. Samples along k0 are not on a grid."""
        with naming(self.path):
            volume = self._volumes[place]
        return self._read(place, volume, self._lattice)

    def maps(self, place: Place) -> npt.NDArray[np.complex64]:
        """See `ScanFile.maps`: by ESPIRiT."""
        with naming(self.path):
            return _turned(self._file["coil_sens_maps"][place.slice])


def interleave() -> Iterator[tuple[int, int, int]]:
    """Which volume has which weighting: the volume, its place in `WEIGHTINGS`, and its number among its likes.

    Four times both b-values, along x, y and z, then eight times the larger one. The two volumes before are not used.
    """
    n_likes = [0] * len(WEIGHTINGS)
    n_directions = len(WEIGHTINGS) // 2
    for volume in range(_FIRST_VOLUME, _N_VOLUMES):
        weighting = (
            (volume - _FIRST_VOLUME) % len(WEIGHTINGS)
            if volume < _FIRST_ALONE
            else n_directions + (volume - _FIRST_ALONE) % n_directions
        )
        yield volume, weighting, n_likes[weighting]
        n_likes[weighting] += 1


def _looks_like_prostate(file: h5py.File) -> bool:
    names = {"kspace", "calibration_data", "ismrmrd_header"}
    return names <= set(file) and getattr(file["kspace"], "ndim", 0) == 5


def _turned(coils: npt.NDArray[np.complexfloating]) -> npt.NDArray[np.complex64]:
    """From ``(coil, row, column)`` to ``(coil, k1, k0)``."""
    return np.ascontiguousarray(coils.swapaxes(-1, -2), np.complex64)


def _columns(kspace: h5py.Dataset, volume: int) -> npt.NDArray[np.bool_]:
    """Which columns of a volume are not zero, as the middle row of its middle slice tells."""
    row = kspace[volume, kspace.shape[1] // 2, :, kspace.shape[3] // 2, :]
    return np.asarray(np.any(row != 0, axis=0), np.bool_)


def _padding(kspace: h5py.Dataset, header: MrdHeader) -> tuple[int, int]:
    """Zeros before and after the columns, one more after where the number is odd."""
    encoding = header.encoding(0)
    n_lines = encoding.limit("kspace_encode_step_1").maximum + 1
    n_encoded = encoding.encoded.matrix[0]
    n_zeros = n_encoded - n_lines
    n_rows, n_columns = kspace.shape[-2:]
    if n_zeros < 0 or n_columns + n_zeros != n_rows:
        raise FileFormatError(
            f"its header encodes {n_lines} lines of {n_encoded}, and 'kspace' has {n_columns} columns, which with "
            f"{n_zeros} more are not as many as its {n_rows} rows: header and data are not of one scan"
        )
    return n_zeros // 2, n_zeros - n_zeros // 2


def _described(lattice: npt.NDArray[np.bool_]) -> str:
    columns = np.flatnonzero(lattice)
    begin = ", ".join(map(str, columns[:3]))
    return f"{columns.size} columns ({begin}, …)" if columns.size else "no columns"


def _epi_readout(header: bytes) -> EpiReadout:
    root, _ = read_document(header)
    read = Elements([])
    found = {
        read.text(one, "name"): read.as_number(read.text(one, "value"))
        for one in all_of(root, "encoding", "trajectoryDescription", "userParameterLong")
    }
    lacking = [name for name in _LONGS if found.get(name) is None]
    if lacking:
        raise FileFormatError(
            f"its header's trajectoryDescription lacks {', '.join(lacking)}: without the shape of the gradient its "
            "readouts cannot be regridded"
        )
    return EpiReadout(*(value for name in _LONGS if (value := found[name]) is not None))
