"""Coil maps against the law of Biot and Savart, summed over short pieces of wire, and SciPy's elliptic integrals."""

from __future__ import annotations

import numpy as np
import pytest

from scanside.simulate.coils import CoilArray, loop_field
from scanside.simulate.config import CoilConfig

pytestmark = pytest.mark.torch_free


def test_loop_field_is_the_sum_over_its_wire() -> None:
    rng = np.random.default_rng(0)
    normal = np.array([0.48, -0.6, 0.64])
    center, radius = np.array([12.0, -7.0, 30.0]), 40.0
    points = center[:, None] + rng.uniform(-90, 90, (3, 200))
    points[:, 0] = center
    points[:, 1] = center + 25.0 * normal
    first = np.cross(normal, [0.0, 0, 1])
    first /= np.linalg.norm(first)
    second = np.cross(normal, first)
    angle = 2 * np.pi * np.arange(20_000) / 20_000
    wire = center + radius * (np.cos(angle)[:, None] * first + np.sin(angle)[:, None] * second)
    tangent = radius * (-np.sin(angle)[:, None] * first + np.cos(angle)[:, None] * second) * (angle[1])
    expected = np.empty_like(points)
    for n, point in enumerate(points.T):
        away = point - wire
        expected[:, n] = np.sum(
            np.cross(tangent, away) / np.linalg.norm(away, axis=1, keepdims=True) ** 3, axis=0
        )
    expected *= radius / (2 * np.pi)
    local = points - center[:, None]
    height = normal @ local
    rho = np.linalg.norm(local - np.outer(normal, height), axis=0)
    off_wire = np.hypot(rho - radius, height) > 0.1 * radius
    assert off_wire.sum() > 150
    found = loop_field(points, center, normal, radius)
    np.testing.assert_allclose(found[:, off_wire], expected[:, off_wire], atol=1e-6)
    assert np.isfinite(found).all()
    np.testing.assert_allclose(found[:, 0], normal, atol=1e-12)


@pytest.mark.parametrize(("n_coils", "n_rings"), [(1, 1), (8, 1), (12, 2), (32, 3)])
def test_arrays_have_rings_and_unit_sensitivity_in_the_centre(n_coils: int, n_rings: int) -> None:
    array = CoilArray(CoilConfig(n_coils=n_coils, center_mm=(3.0, 4.0, 5.0)), 130.0)
    assert len(np.unique(np.round(array.centers_mm[:, 2], 3))) == n_rings
    maps = array.sensitivities(np.array([[3.0], [4.0], [5.0]], np.float32))
    assert np.linalg.norm(maps) == pytest.approx(1.0, abs=1e-5)


def test_each_coil_sees_its_own_side_with_a_phase_of_its_own() -> None:
    array = CoilArray(CoilConfig(n_coils=8), 130.0)
    points = (0.6 * array.centers_mm.T).astype(np.float32)
    maps = array.sensitivities(points)
    assert np.array_equal(np.argmax(np.abs(maps), axis=0), np.arange(8))
    assert np.ptp(np.unwrap(np.angle(maps[:, 0]))) > 0.5


def test_interpolated_plane_is_the_field_at_its_points() -> None:
    array = CoilArray(CoilConfig(n_coils=6), 140.0)
    corner = np.array([-70.0, -60.0, 12.0])
    row, column = np.array([0.1, 0.9, 0.2]), np.array([0.8, -0.1, 0.0])
    shape = (131, 170)
    plane = array.plane(corner, (row, column), shape)
    grid = np.meshgrid(np.arange(shape[0]), np.arange(shape[1]), indexing="ij")
    points = corner[:, None, None] + row[:, None, None] * grid[0] + column[:, None, None] * grid[1]
    exact = array.sensitivities(points.astype(np.float32))
    assert plane.shape == exact.shape
    assert np.abs(plane - exact).max() < 2e-3
    assert np.sqrt(np.mean(np.abs(plane - exact) ** 2)) < 2e-4


def test_uniform_coils_differ_in_phase_only() -> None:
    array = CoilArray(CoilConfig(n_coils=5, model="uniform"), 130.0)
    maps = array.plane(np.zeros(3), (np.array([0.0, 2, 0]), np.array([2.0, 0, 0])), (4, 3))
    np.testing.assert_allclose(np.abs(maps), 1 / np.sqrt(5), atol=1e-6)
    assert len(np.unique(np.round(np.angle(maps[:, 0, 0]), 4))) == 5
