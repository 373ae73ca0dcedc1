"""Where the voxels of an image lie in the patient.

One rule holds everywhere: the voxel with index ``N // 2`` in x, y and z lies at the header's position. x runs
along the read direction, y along the phase direction, z along the slice direction, each as the scanner gave
it, which need not be a right-handed triple: none is ever made from the other two. A voxel is as large as the
field of view divided by the matrix.

Positions are in mm in the patient coordinates of DICOM, LPS: x grows to the patient's left, y to the back,
z to the head (DICOM PS3.3 C.7.6.2.1.1).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import product
from typing import Any

import numpy as np
import numpy.typing as npt

from scanside.errors import FormatError

__all__ = ["Geometry"]

Vector = npt.NDArray[np.float64]

_TOLERANCE = 1e-3
"""How far directions may be from unit length and right angles; headers keep them as float32."""


@dataclass(frozen=True, slots=True, eq=False)
class Geometry:
    """Position, directions and grid of an image or of a slab that is excited as a whole.

    Attributes:
        position: ``(3,)`` float64, LPS mm, where the voxel with index ``N // 2`` lies.
        read_dir: ``(3,)`` float64, direction in which x grows.
        phase_dir: ``(3,)`` float64, direction in which y grows.
        slice_dir: ``(3,)`` float64, direction in which z grows.
        field_of_view_mm: extent along (x, y, z), from edge to edge.
        matrix: number of voxels along (x, y, z).
        assumed: the directions were all zero, as in files with sparse headers, and x, y, z were taken to run
            to the patient's left, back and head.

    Raises:
        FormatError: directions that are not of unit length and perpendicular to each other, a position that
            is not finite, or a field of view or matrix that is not positive.
    """

    position: Vector
    read_dir: Vector
    phase_dir: Vector
    slice_dir: Vector
    field_of_view_mm: tuple[float, float, float]
    matrix: tuple[int, int, int]
    assumed: bool = False

    def __post_init__(self) -> None:
        for name in ("position", "read_dir", "phase_dir", "slice_dir"):
            vector = np.array(getattr(self, name), np.float64)
            if vector.shape != (3,) or not np.isfinite(vector).all():
                raise FormatError(f"an image's {name} needs three finite numbers, got {vector.tolist()}")
            vector.flags.writeable = False
            object.__setattr__(self, name, vector)
        object.__setattr__(self, "field_of_view_mm", tuple(float(n) for n in self.field_of_view_mm))
        object.__setattr__(self, "matrix", tuple(int(n) for n in self.matrix))
        if len(self.field_of_view_mm) != 3 or not all(0 < n < np.inf for n in self.field_of_view_mm):
            raise FormatError(f"the field of view (x, y, z) must be positive mm, got {self.field_of_view_mm}")
        if len(self.matrix) != 3 or min(self.matrix) < 1:
            raise FormatError(f"the matrix (x, y, z) must be positive, got {self.matrix}")
        if not np.any(self.directions):
            for name, axis in zip(("read_dir", "phase_dir", "slice_dir"), np.eye(3), strict=True):
                axis.flags.writeable = False
                object.__setattr__(self, name, axis)
            object.__setattr__(self, "assumed", True)
        products = self.directions.T @ self.directions
        if not np.allclose(products, np.eye(3), rtol=0, atol=_TOLERANCE):
            raise FormatError(
                "read, phase and slice direction must be of unit length and perpendicular to each other, got "
                f"{self.read_dir.tolist()}, {self.phase_dir.tolist()} and {self.slice_dir.tolist()}: correct "
                "the header, or set all three to zero to have the patient's axes assumed"
            )

    @classmethod
    def from_image_header(cls, header: np.void) -> Geometry:
        """Geometry of an image, from a scalar of `IMAGE_HEADER`.

        Raises:
            FormatError: see `Geometry`.
        """
        return cls.from_readout(header, tuple(header["field_of_view"]), tuple(header["matrix_size"]))

    @classmethod
    def from_readout(
        cls, header: np.void, field_of_view_mm: tuple[float, ...], matrix: tuple[int, ...]
    ) -> Geometry:
        """Geometry of the image that a readout belongs to.

        Args:
            header: scalar of `ACQUISITION_HEADER`; its position is the centre of the excited slice or slab.
            field_of_view_mm: of the image, (x, y, z).
            matrix: of the image, (x, y, z).

        Raises:
            FormatError: see `Geometry`.
        """
        x_mm, y_mm, z_mm = field_of_view_mm
        x, y, z = matrix
        directions = (header["read_dir"], header["phase_dir"], header["slice_dir"])
        return cls(header["position"], *directions, (x_mm, y_mm, z_mm), (x, y, z))

    def to_image_header(self, header: np.void) -> None:
        """Write position, directions, field of view and matrix into a scalar of `IMAGE_HEADER`, in place."""
        for name in ("position", "read_dir", "phase_dir", "slice_dir"):
            header[name] = getattr(self, name)
        header["field_of_view"] = self.field_of_view_mm
        header["matrix_size"] = self.matrix

    @property
    def directions(self) -> Vector:
        """``(3, 3)``, the columns are the directions of x, y and z."""
        return np.stack([self.read_dir, self.phase_dir, self.slice_dir], axis=1)

    @property
    def is_left_handed(self) -> bool:
        """Whether x, y, z form a left-handed triple, as they do on many scanners."""
        return bool(np.linalg.det(self.directions) < 0)

    @property
    def voxel_size_mm(self) -> Vector:
        """``(3,)``, distance between voxel centres along x, y, z."""
        return np.divide(self.field_of_view_mm, self.matrix, dtype=np.float64)

    @property
    def affine(self) -> Vector:
        """``(4, 4)``, takes voxel indices (x, y, z, 1) to LPS mm; integers are the centres of voxels."""
        affine = np.eye(4)
        affine[:3, :3] = self.directions * self.voxel_size_mm
        affine[:3, 3] = self.position - affine[:3, :3] @ self._centre_index
        return affine

    @property
    def affine_ras(self) -> Vector:
        """``(4, 4)``, takes voxel indices (x, y, z, 1) to RAS mm, the coordinates of NIfTI."""
        return np.diag([-1.0, -1.0, 1.0, 1.0]) @ self.affine

    @property
    def slice_offset_mm(self) -> float:
        """Signed distance of the plane z = ``N // 2`` from the origin along the slice direction, in mm."""
        return float(self.position @ self.slice_dir)

    @property
    def image_orientation_patient(self) -> tuple[float, ...]:
        """DICOM's (0020,0037): direction of a row (x grows), then of a column (y grows)."""
        return (*self.read_dir.tolist(), *self.phase_dir.tolist())

    def image_position_patient(self, z: int = 0) -> tuple[float, ...]:
        """DICOM's (0020,0032): centre of the first voxel of slice ``z``, LPS mm."""
        return tuple(self.centre_of((0, 0, z)).tolist())

    def centre_of(self, index: npt.ArrayLike) -> Vector:
        """Where voxels lie.

        Args:
            index: ``(..., 3)``, voxel indices (x, y, z), also fractions.

        Returns:
            ``(..., 3)``, LPS mm.
        """
        affine = self.affine
        points: Vector = np.asarray(index, np.float64) @ affine[:3, :3].T + affine[:3, 3]
        return points

    def cropped(self, matrix: tuple[int, int, int]) -> Geometry:
        """The geometry after cropping or padding about the voxel ``N // 2``; voxels keep their size."""
        x, y, z = (float(size * n) for size, n in zip(self.voxel_size_mm, matrix, strict=True))
        return replace(self, matrix=matrix, field_of_view_mm=(x, y, z))

    def resized(self, matrix: tuple[int, int, int]) -> Geometry:
        """The geometry after interpolation to another matrix by zero filling or cropping in k-space.

        The field of view stays. A centred Fourier transform keeps the voxel ``N // 2`` where it is, so the
        edges of the image move by up to half a voxel when an odd matrix becomes an even one.
        """
        return replace(self, matrix=matrix)

    def same_place(self, other: Geometry, tolerance_mm: float) -> bool:
        """Whether two images have the same matrix, and no voxel lies further apart than a tolerance."""
        if self.matrix != other.matrix:
            return False
        # Distances change linearly over the grid: none is larger than at one of the corners.
        corners = np.array(list(product(*((0, n - 1) for n in self.matrix))))
        distances = np.linalg.norm(self.centre_of(corners) - other.centre_of(corners), axis=1)
        return bool(distances.max() <= tolerance_mm)

    @property
    def _centre_index(self) -> npt.NDArray[Any]:
        return np.array(self.matrix) // 2
