"""Grids of a scan in patient coordinates.

A grid of ``n`` points over ``fov`` mm has its centre at index ``n // 2``, as the centred discrete Fourier
transform has; the voxel at the centre of all three axes lies at the position that the headers give. Directions
are used as they are, left-handed ones too.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from scanside.simulate.config import GeometryConfig, SamplingConfig

__all__ = ["Directions", "ScanGrid", "grid_affine", "grid_coordinates"]

_PLANES = {
    "axial": np.array([[1.0, 0, 0], [0, 1, 0], [0, 0, 1]]),
    "coronal": np.array([[1.0, 0, 0], [0, 0, 1], [0, -1, 0]]),
    "sagittal": np.array([[0.0, 1, 0], [0, 0, 1], [1, 0, 0]]),
}


def grid_coordinates(n: int, fov_mm: float) -> npt.NDArray[np.float64]:
    """Coordinates ``(n,)`` in mm of a grid whose centre, index ``n // 2``, is zero."""
    return np.asarray((np.arange(n) - n // 2) * (fov_mm / n), dtype=np.float64)


@dataclass(frozen=True)
class Directions:
    """Unit vectors (LPS) along the axes of the image, as columns x, y, z of ``matrix`` ``(3, 3)``."""

    matrix: npt.NDArray[np.float64]

    @classmethod
    def of(cls, geometry: GeometryConfig) -> Directions:
        """Directions that a configuration asks for."""
        read, phase, slice_ = _PLANES[geometry.plane]
        turn = np.deg2rad(geometry.in_plane_deg)
        read, phase = np.cos(turn) * read + np.sin(turn) * phase, np.cos(turn) * phase - np.sin(turn) * read
        columns = np.stack([read, phase, -slice_ if geometry.left_handed else slice_], axis=1)
        return cls(_rotation(np.deg2rad(geometry.rotation_deg)) @ columns)

    @property
    def read(self) -> npt.NDArray[np.float64]:
        """Direction of the image's x axis."""
        return self.matrix[:, 0]

    @property
    def phase(self) -> npt.NDArray[np.float64]:
        """Direction of the image's y axis."""
        return self.matrix[:, 1]

    @property
    def slice(self) -> npt.NDArray[np.float64]:
        """Direction of the image's z axis, and of the slice counter."""
        return self.matrix[:, 2]


@dataclass(frozen=True)
class ScanGrid:
    """Matrices and fields of view of a scan; all vectors in the order (x, y, z).

    Attributes:
        encoded_matrix: points of k-space, oversampling included.
        encoded_fov_mm: field of view that they resolve.
        recon_matrix: voxels of the image.
        recon_fov_mm: field of view of the image.
        directions: axes of the image.
        positions: ``(slice, 3)`` centre of each slice or slab, LPS.
    """

    encoded_matrix: tuple[int, int, int]
    encoded_fov_mm: tuple[float, float, float]
    recon_matrix: tuple[int, int, int]
    recon_fov_mm: tuple[float, float, float]
    directions: Directions
    positions: npt.NDArray[np.float64]

    @classmethod
    def of(cls, geometry: GeometryConfig, sampling: SamplingConfig) -> ScanGrid:
        """Grid that a configuration asks for."""
        nx, ny, nz = geometry.matrix
        along_y = sampling.oversampling if sampling.trajectory else 1 + sampling.phase_oversampling
        encoded = (
            nx * sampling.oversampling,
            round(ny * along_y),
            round(nz * (1 + sampling.partition_oversampling)) if nz > 1 else 1,
        )
        fov = tuple(f * e / n for f, e, n in zip(geometry.fov_mm, encoded, geometry.matrix, strict=True))
        directions = Directions.of(geometry)
        spacing = geometry.fov_mm[2] + geometry.slice_gap_mm
        along = (np.arange(geometry.n_slices) - (geometry.n_slices - 1) / 2) * spacing
        return cls(
            encoded_matrix=encoded,
            encoded_fov_mm=(fov[0], fov[1], fov[2]),
            recon_matrix=geometry.recon_matrix or geometry.matrix,
            recon_fov_mm=geometry.fov_mm,
            directions=directions,
            positions=np.asarray(geometry.offset_mm) + along[:, None] * directions.slice,
        )

    @property
    def is_3d(self) -> bool:
        """Whether there is a second phase encoding."""
        return self.encoded_matrix[2] > 1

    @property
    def n_slices(self) -> int:
        """Number of slices or slabs."""
        return len(self.positions)

    def points(
        self, slice_: int, x: npt.ArrayLike, y: npt.ArrayLike, z: npt.ArrayLike
    ) -> npt.NDArray[np.float32]:
        """World coordinates ``(3, z, y, x)`` in mm, LPS, of a grid about the centre of a slice.

        Args:
            slice_: which slice or slab.
            x: coordinates along the read direction in mm; so `y` and `z` along the others.
            y: see `x`.
            z: see `x`.
        """
        local = np.meshgrid(z, y, x, indexing="ij")
        moved = np.tensordot(self.directions.matrix, np.stack(local[::-1]), axes=1)
        moved += self.positions[slice_][:, None, None, None]
        return np.asarray(moved, dtype=np.float32)

    def affine(self, slice_: int) -> npt.NDArray[np.float64]:
        """Affine ``(4, 4)`` of one slice or slab: index (x, y, z, 1) of the reconstructed image to LPS in mm."""
        voxel = [f / n for f, n in zip(self.recon_fov_mm, self.recon_matrix, strict=True)]
        return grid_affine(self.recon_matrix, voxel, self.directions.matrix, self.positions[slice_])


def grid_affine(
    matrix: tuple[int, int, int],
    voxel_mm: npt.ArrayLike,
    directions: npt.NDArray[np.float64],
    position: npt.NDArray[np.float64],
) -> npt.NDArray[np.float64]:
    """Affine ``(4, 4)`` of a grid: voxel ``matrix // 2`` lies at `position`, axes are columns of `directions`."""
    affine = np.eye(4)
    affine[:3, :3] = directions * np.asarray(voxel_mm)
    affine[:3, 3] = position - affine[:3, :3] @ (np.asarray(matrix) // 2)
    return affine


def _rotation(angles: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    (sx, sy, sz), (cx, cy, cz) = np.sin(angles), np.cos(angles)
    about_x = np.array([[1, 0, 0], [0, cx, -sx], [0, sx, cx]])
    about_y = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
    about_z = np.array([[cz, -sz, 0], [sz, cz, 0], [0, 0, 1]])
    return np.asarray(about_z @ about_y @ about_x)
