"""Poisson discs: distances, acceleration, density, and a spectrum that is empty at low frequencies."""

from __future__ import annotations

import subprocess
from pathlib import Path

import numpy as np
import pytest
from scipy.spatial import cKDTree

from scanside.errors import ConfigError
from scanside.sampling import Limits, Mask, Space, generator, plane_mask
from scanside.sampling.poisson import distances

SHAPE = (128, 96)


def space_of(acs: tuple[int, int] = (12, 12), limits: Limits | None = None) -> Space:
    return Space.of((limits or Limits()).region(SHAPE), acs)


def gaps(mask: Mask) -> np.ndarray:
    """Distance from every point to the nearest other one."""
    points = np.argwhere(mask)
    return cKDTree(points).query(points, 2)[0][:, 1]


@pytest.mark.parametrize("pattern", ["poisson", "poisson-uniform"])
@pytest.mark.parametrize("acceleration", [1, 1.2, 2, 3, 5.5, 8, 16])
@pytest.mark.parametrize("limits", [Limits(), Limits((0.75, 1.0), elliptical=True)])
def test_the_acceleration_is_exact(pattern: str, acceleration: float, limits: Limits) -> None:
    space = space_of((8, 8), limits)
    mask = plane_mask(pattern, space, acceleration=acceleration, rng=generator(1))
    assert mask.sum() == round(space.n_places / acceleration)
    assert mask[space.block].all()
    assert not mask[~space.region].any()


@pytest.mark.parametrize(("acceleration", "square"), [(3, 2), (6, 4), (10, 5), (16, 10), (30, 18)])
def test_points_of_one_distance_keep_it(acceleration: float, square: int) -> None:
    mask = plane_mask("poisson-uniform", space_of((0, 0)), acceleration=acceleration, rng=generator(2))
    drawn = plane_mask("random", space_of((0, 0)), acceleration=acceleration, rng=generator(2))
    assert gaps(mask).min() >= np.sqrt(square) - 1e-9
    assert gaps(drawn).min() == 1


def test_distances_grow_outwards() -> None:
    mask = plane_mask("poisson", space_of((0, 0)), acceleration=8, rng=generator(3))
    points = np.argwhere(mask)
    radius = np.hypot((points[:, 0] - 64) / 64, (points[:, 1] - 48) / 48)
    nearest = gaps(mask)
    rings = [nearest[(radius >= low) & (radius < low + 0.2)].min() for low in (0.0, 0.2, 0.4, 0.6, 0.8)]
    assert rings == sorted(rings)
    assert rings[0] == 1
    assert rings[-1] >= 2.2


def test_distances_are_those_of_the_grid_and_right_on_average() -> None:
    wanted = np.full(40_000, 1.7)
    found = distances(wanted, generator(0).random(40_000))
    assert set(found.tolist()) == {2, 4}
    assert found.mean() == pytest.approx(1.7**2, abs=0.03)
    assert distances(np.array([1.0, 2.0, 5.0]), np.zeros(3)).tolist() == [1, 4, 25]


def spectrum(masks: list[Mask]) -> np.ndarray:
    """Power by distance from the centre of the spectrum, mean over masks; 1 for points drawn alone."""
    size = masks[0].shape
    power = np.zeros(size)
    for mask in masks:
        share = mask.mean()
        power += np.abs(np.fft.fftn(mask - share)) ** 2 / (mask.size * share * (1 - share))
    radius = np.hypot(*np.meshgrid(*map(np.fft.fftfreq, size), indexing="ij"))
    rings = np.minimum((radius / 0.05).astype(int), 9)
    return np.bincount(rings.ravel(), (power / len(masks)).ravel()) / np.bincount(rings.ravel())


def test_the_spectrum_is_empty_at_low_frequencies() -> None:
    space = Space.of(np.ones((96, 96), bool), (0, 0))
    found = {
        pattern: spectrum(
            [plane_mask(pattern, space, acceleration=10, rng=generator(seed)) for seed in range(10)]
        )
        for pattern in ("poisson-uniform", "random")
    }
    assert found["poisson-uniform"][:3].max() < 0.35
    assert found["poisson-uniform"].max() > 1.3
    assert np.abs(found["random"] - 1).max() < 0.15


def density(mask: Mask) -> np.ndarray:
    """Share of acquired points by distance from the centre."""
    k = [(np.arange(n) - n // 2) / (n / 2) for n in mask.shape]
    rings = (np.hypot(k[0][:, None], k[1]) / 0.125).astype(int)
    return np.array([mask[rings == ring].mean() for ring in range(1, 8)])


def test_density_of_sigpy() -> None:
    sigpy_mri = pytest.importorskip("sigpy.mri")
    theirs = sigpy_mri.poisson((128, 128), 8, seed=0, tol=0.05).real.astype(bool)
    space = Space.of(Limits(elliptical=True).region((128, 128)), (0, 0))
    ours, even = (
        plane_mask(pattern, space, acceleration=space.n_places / theirs.sum(), rng=generator(0))
        for pattern in ("poisson", "poisson-uniform")
    )
    assert ours.sum() == theirs.sum()
    assert np.corrcoef(density(ours), density(theirs))[0, 1] > 0.98
    assert (
        np.abs(density(ours) - density(theirs)).max() < 0.12 < np.abs(density(even) - density(theirs)).max()
    )
    # Theirs are thrown between the points of the grid, and moved there.
    assert gaps(ours).mean() > gaps(theirs).mean()


def test_distances_of_bart(bart: str, tmp_path: Path) -> None:
    command = "poisson -Y 128 -Z 128 -y 3 -z 3 -C 0 -s 11 mask"
    subprocess.run([bart, *command.split()], cwd=tmp_path, check=True, capture_output=True)
    theirs = np.fromfile(tmp_path / "mask.cfl", np.complex64).reshape(128, 128) != 0
    space = Space.of(np.ones((128, 128), bool), (0, 0))
    rate = theirs.size / theirs.sum()
    ours = plane_mask("poisson-uniform", space, acceleration=rate, rng=generator(0))
    assert ours.sum() == theirs.sum()
    # As even as theirs, and far from points that know nothing of each other.
    even, drawn = (
        gaps(mask).mean()
        for mask in (theirs, plane_mask("random", space, acceleration=rate, rng=generator(0)))
    )
    assert gaps(ours).mean() > even - 0.3
    assert gaps(ours).mean() > drawn + 0.5


def test_a_centre_larger_than_what_is_left_is_refused() -> None:
    with pytest.raises(
        ConfigError, match=r"leaves 1024 of 12288 points, .* has 1600: lower acs, or .* to 7\.68"
    ):
        plane_mask("poisson", space_of((40, 40)), acceleration=12, rng=generator(0))


def test_a_tolerance_that_no_distance_meets_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"Poisson disc .* none was found; .* raise the tolerance \(0\)"):
        plane_mask(
            "poisson",
            Space.of(np.ones((320, 320), bool), (24, 24)),
            acceleration=3,
            rng=generator(0),
            tolerance=0,
        )
