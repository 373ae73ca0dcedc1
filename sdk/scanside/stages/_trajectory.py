"""Trajectories of readouts in one unit: cycles per voxel of the image."""

from __future__ import annotations

from typing import Literal

import numpy as np
import numpy.typing as npt

from scanside.errors import NonFiniteError, ScanError
from scanside.mrd.header import Encoding
from scanside.mrd.readouts import Readouts

__all__ = ["Unit", "check_dimensions", "in_cycles_per_voxel", "trajectory_of", "unit_of"]

Unit = Literal["voxel", "radian", "matrix", "metre"]

Points = npt.NDArray[np.float32]

_NEAR = (0.55, 1.1)
"""How far a trajectory may reach, against the edge of k-space that the header's matrix has."""


def unit_of(reach: float, encoding: Encoding, asked: Unit | Literal["auto"] = "auto") -> Unit:
    """The unit of a trajectory, by how far it reaches.

    ISMRMRD leaves it to the producer. Known are cycles per voxel (±0.5, Gadgetron and most converters), radians per
    voxel (±π), steps of a full grid (±N/2, BART and pulseq) and cycles per metre.

    Args:
        reach: largest magnitude of a coordinate.
        encoding: the encoding space of the readouts.
        asked: what a user says that it is.

    Raises:
        ScanError: the reach fits no unit, or more than one.
    """
    edges = _edges(encoding)
    if asked != "auto":
        if reach > edges[asked] * _NEAR[1]:
            raise ScanError(
                f"the trajectory reaches {reach:.4g}, beyond the edge of k-space in the unit '{asked}', which is "
                f"{edges[asked]:.4g} by the header's matrix and field of view: set gather.unit (of a measured "
                "trajectory, the attribute unit of its file) to what it is in"
            )
        return asked
    fitting = [unit for unit, edge in edges.items() if edge * _NEAR[0] <= reach <= edge * _NEAR[1]]
    if len(fitting) != 1:
        told = ", ".join(f"{unit} {edge:.4g}" for unit, edge in edges.items())
        which = f"fits {' and '.join(fitting)}" if fitting else "fits none"
        raise ScanError(
            f"the unit of the trajectory cannot be told: it reaches {reach:.4g}, which {which} of the edges of "
            f"k-space by the header's matrix and field of view ({told}): set gather.unit, or mend the header"
        )
    return fitting[0]


def in_cycles_per_voxel(trajectory: Points, unit: Unit, encoding: Encoding, n_dimensions: int) -> Points:
    """A trajectory ``(…, dimension)`` in cycles per voxel of the recon space, which is that of the images.

    Args:
        trajectory: as it came.
        unit: that it is in.
        encoding: the encoding space of the readouts.
        n_dimensions: how many of its dimensions count: two of a slice, three of a volume.
    """
    encoded, recon = encoding.encoded, encoding.recon
    factors = []
    for axis in range(n_dimensions):
        per_mm = {
            "voxel": 1 / encoded.voxel_mm[axis],
            "radian": 1 / (2 * np.pi * encoded.voxel_mm[axis]),
            "matrix": 1 / encoded.field_of_view_mm[axis],
            "metre": 1e-3,
        }[unit]
        factors.append(per_mm * recon.voxel_mm[axis])
    return np.asarray(trajectory[..., :n_dimensions] * np.asarray(factors, np.float32), dtype=np.float32)


def check_dimensions(n_dimensions: int, encoding: Encoding, who: str) -> None:
    """Refuse trajectories of other than two or three dimensions.

    Args:
        n_dimensions: of the trajectory; 0 without.
        encoding: the encoding space of the readouts.
        who: carries it, with the verb, for the text of the error.

    Raises:
        ScanError: there are fewer than two.
    """
    if n_dimensions < 2:
        raise ScanError(
            f"{who} a trajectory of {n_dimensions} dimensions, expected two (kx, ky) or three: the "
            f"header says {encoding.trajectory}, so have the converter write the trajectory, or the "
            "scan's lines as Cartesian ones"
        )


def trajectory_of(readouts: Readouts, encoding: Encoding) -> Points:
    """The trajectory ``(n, sample, dimension)`` that readouts carry.

    Raises:
        NonFiniteError: it holds NaN or infinity.
        ScanError: they carry none, or one of a single dimension, or it is zero throughout.
    """
    trajectory = readouts.trajectory
    counter = int(readouts.headers["scan_counter"][0])
    n_dimensions = 0 if trajectory is None else trajectory.shape[-1]
    check_dimensions(n_dimensions, encoding, f"the readout with scan counter {counter} carries")
    assert trajectory is not None
    finite = np.isfinite(trajectory).all(axis=(1, 2))
    if not finite.all():
        first = int(readouts.headers["scan_counter"][~finite][0])
        raise NonFiniteError(
            f"the trajectory of {int((~finite).sum())} readouts is NaN or infinite, the first with scan "
            f"counter {first}"
        )
    return trajectory


def _edges(encoding: Encoding) -> dict[Unit, float]:
    """The edge of k-space along the image's longest axis in each unit."""
    encoded = encoding.encoded
    # Along the axis that is resolved best: trajectories of a plane reach equally far in voxels there.
    axis = int(np.argmax(encoded.matrix[:2]))
    n, extent = encoded.matrix[axis], encoded.field_of_view_mm[axis]
    return {"voxel": 0.5, "radian": np.pi, "matrix": n / 2, "metre": 1e3 * n / (2 * extent)}
