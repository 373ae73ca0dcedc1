"""Receive coils: circular loops around the object, by the law of Biot and Savart.

The field of a circular current loop in closed form takes complete elliptic integrals (Simpson et al., NASA/TM-2013-
217919), which the arithmetic-geometric mean gives to full precision in a few steps. By reciprocity (Hoult and
Richards, J Magn Reson 1976;24:71) a coil receives with the conjugate of the transverse field that it would make; the
main field lies along the patient's z axis.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from scanside.simulate.config import CoilConfig

__all__ = ["CoilArray", "loop_field"]

_AGM_STEPS = 6
"""The arithmetic-geometric mean doubles its digits with every step."""

_WIRE = 0.1
"""Radius of the wire in units of the loop's radius."""

_ON_AXIS = 1e-3
"""Distance from the axis that counts as on it, in the same unit."""


class CoilArray:
    """Coils at world coordinates.

    Args:
        config: number and kind of coils.
        default_radius_mm: distance of the loops from the axis of the array where the configuration names none.
    """

    def __init__(self, config: CoilConfig, default_radius_mm: float) -> None:
        self.n_coils = config.n_coils
        self._uniform = config.model == "uniform"
        self._center = np.asarray(config.center_mm, dtype=np.float64)
        radius = config.radius_mm or default_radius_mm
        n_rings = 1 if config.n_coils < 12 else 2 if config.n_coils < 24 else 3
        rings = np.array_split(np.arange(config.n_coils), n_rings)
        # Neighbouring loops of a ring overlap a little, as decoupled arrays do.
        self.loop_radius_mm = float(min(1.15 * np.pi * radius / max(len(rings[0]), 4), 0.75 * radius))
        self.centers_mm, self.normals = _place(rings, radius, 1.7 * self.loop_radius_mm)
        self._scale = 1.0
        reference = self.sensitivities(self._center[:, None].astype(np.float32))
        self._scale = 1.0 / float(np.sqrt(np.sum(np.abs(reference) ** 2)))

    def sensitivities(self, points: npt.NDArray[np.float32]) -> npt.NDArray[np.complex64]:
        """Maps ``(coil, ...)`` at world coordinates ``(3, ...)`` in mm, LPS.

        Their root sum of squares is one at the centre of the array.
        """
        if self._uniform:
            phases = np.exp(2j * np.pi * np.arange(self.n_coils) / self.n_coils + 0.3j) / np.sqrt(
                self.n_coils
            )
            constant = np.broadcast_to(
                phases.reshape((-1,) + (1,) * (points.ndim - 1)), (self.n_coils, *points.shape[1:])
            )
            return constant.astype(np.complex64)
        local = points.astype(np.float64) - self._center.reshape((3,) + (1,) * (points.ndim - 1))
        maps = np.empty((self.n_coils, *points.shape[1:]), np.complex64)
        for coil, (center, normal) in enumerate(zip(self.centers_mm, self.normals, strict=True)):
            field = loop_field(local, center, normal, self.loop_radius_mm)
            maps[coil] = self._scale * (field[0] - 1j * field[1])
        return maps

    def plane(
        self,
        corner: npt.NDArray[np.float64],
        steps: tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]],
        shape: tuple[int, int],
        coarse_mm: float = 4.0,
    ) -> npt.NDArray[np.complex64]:
        """Maps ``(coil, row, column)`` on a plane, interpolated from a coarser grid.

        Maps are smooth: a cubic through points 4 mm apart is right to about 1e-4 inside the array.

        Args:
            corner: world coordinates ``(3,)`` of the first point.
            steps: vectors ``(3,)`` from one row, and from one column, to the next, in mm.
            shape: rows and columns.
            coarse_mm: distance of the points at which the field is computed.
        """
        weights, grids = [], []
        for step, n in zip(steps, shape, strict=True):
            every = max(int(coarse_mm / np.linalg.norm(step)), 1)
            grids.append((np.arange(-1, -(-(n - 1) // every) + 3)) * every)
            weights.append(_cubic_weights(n, every, len(grids[-1])))
        rows, columns = np.meshgrid(*grids, indexing="ij")
        points = corner[:, None, None] + steps[0][:, None, None] * rows + steps[1][:, None, None] * columns
        coarse = self.sensitivities(points.astype(np.float32))
        return np.asarray(weights[0] @ coarse @ weights[1].T, dtype=np.complex64)


def loop_field(
    points: npt.NDArray[np.float64],
    center: npt.NDArray[np.float64],
    normal: npt.NDArray[np.float64],
    radius_mm: float,
) -> npt.NDArray[np.float64]:
    """Magnetic field ``(3, ...)`` of a circular loop, in units of what it has in its own centre.

    Within a tenth of the radius from the wire the field is that of a thick wire, so it stays finite.

    Args:
        points: ``(3, ...)`` in mm.
        center: ``(3,)`` centre of the loop in mm.
        normal: ``(3,)`` unit vector along the loop's axis.
        radius_mm: radius of the loop.
    """
    extra = (1,) * (points.ndim - 1)
    local = (points - center.reshape((3, *extra))) / radius_mm
    height = np.tensordot(normal, local, axes=1)
    across = local - normal.reshape((3, *extra)) * height
    rho = np.sqrt(np.sum(across**2, axis=0))
    far = (1 + rho) ** 2 + height**2
    near = np.maximum((1 - rho) ** 2 + height**2, _WIRE**2)
    k, e = _elliptic(1 - near / far)
    common = 1 / (np.pi * np.sqrt(far))
    along = common * (k + (1 - rho**2 - height**2) / near * e)
    # Divided by rho twice, since `across` has the length rho. On the axis that loses all digits: there the limit.
    outward = common * height * ((1 + rho**2 + height**2) / near * e - k) / np.maximum(rho, _ON_AXIS) ** 2
    outward = np.where(rho < _ON_AXIS, 1.5 * height / (1 + height**2) ** 2.5, outward)
    return np.asarray(normal.reshape((3, *extra)) * along + across * outward)


def _elliptic(
    m: npt.NDArray[np.float64],
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Complete elliptic integrals K and E of the parameter m in [0, 1) by the arithmetic-geometric mean."""
    a, b = np.ones_like(m), np.sqrt(1 - m)
    c_squared, weight = m.copy(), 0.5
    total = weight * c_squared
    for _ in range(_AGM_STEPS):
        c = (a - b) / 2
        a, b = (a + b) / 2, np.sqrt(a * b)
        weight *= 2
        total += weight * c**2
    k = np.pi / (2 * a)
    return k, k * (1 - total)


def _place(
    rings: list[npt.NDArray[np.int_]], radius: float, ring_distance: float
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    centers, normals = [], []
    for number, ring in enumerate(rings):
        height = (number - (len(rings) - 1) / 2) * ring_distance
        # Rings are turned against each other, and the first coil lies off every axis of symmetry.
        angles = 2 * np.pi * (np.arange(len(ring)) + 0.5 * number + 0.2) / len(ring)
        for angle in angles:
            # Rings away from the middle lean inwards, as a helmet does.
            lean = 0.35 * height / radius
            outward = np.array([np.cos(angle), np.sin(angle), 0.0])
            normal = np.cos(lean) * outward + np.sin(lean) * np.array([0.0, 0, 1])
            centers.append(outward * radius * np.cos(lean) + np.array([0, 0, height]))
            normals.append(normal)
    return np.array(centers), np.array(normals)


def _cubic_weights(n: int, every: int, n_coarse: int) -> npt.NDArray[np.float32]:
    """Catmull-Rom weights ``(n, n_coarse)``: coarse point j lies at fine index (j - 1) * every."""
    position = np.arange(n) / every
    cell = np.minimum(position.astype(int), n_coarse - 4)
    t = position - cell
    weights = np.zeros((n, n_coarse), np.float32)
    row = np.arange(n)
    weights[row, cell] = 0.5 * (-t + 2 * t**2 - t**3)
    weights[row, cell + 1] = 0.5 * (2 - 5 * t**2 + 3 * t**3)
    weights[row, cell + 2] = 0.5 * (t + 4 * t**2 - 3 * t**3)
    weights[row, cell + 3] = 0.5 * (-(t**2) + t**3)
    return weights
