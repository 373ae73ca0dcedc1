"""Noise maps by formula, beside noise that went the same way."""

from __future__ import annotations

import math

import pytest
import torch

from scanside.errors import ShapeError
from scanside.recon import grappa
from scanside.recon.columns import factorise
from scanside.recon.combine import combine_with_maps
from scanside.recon.fourier import to_image, to_kspace
from scanside.recon.noise_maps import g_factor, grappa_deviation, matched_deviation, sense_deviation
from scanside.recon.sense import SenseOperator

N_REPLICAS = 400


def some_maps(n_coils: int, n2: int, n1: int, n0: int) -> torch.Tensor:
    """Smooth maps ``(coil, z, y, x)`` complex64 whose squares add up to 1 to 4."""
    generator = torch.Generator().manual_seed(2)
    waves = torch.randn(n_coils, 3, 3, 3, dtype=torch.complex64, generator=generator)
    z, y, x = (torch.linspace(-1, 1, n) if n > 1 else torch.zeros(1) for n in (n2, n1, n0))
    powers = [torch.stack((torch.ones_like(t), t, t * t)).to(torch.complex64) for t in (z, y, x)]
    maps = torch.einsum("cdab,dz,ay,bx->czyx", waves, *powers)
    return maps / maps.abs().square().sum(0).sqrt() * (1 + (x > 0).float())


def replicas(sampled: torch.Tensor, n_coils: int, n0: int) -> torch.Tensor:
    """Noise of variance 1 in the real part on the acquired lines, ``(replica, coil, k2, k1, k0)``."""
    generator = torch.Generator().manual_seed(3)
    shape = (N_REPLICAS, n_coils, *sampled.shape, n0)
    return math.sqrt(2) * torch.randn(shape, dtype=torch.complex64, generator=generator) * sampled[..., None]


def check(deviation: torch.Tensor, images: torch.Tensor) -> None:
    """A deviation ``(z, y, x)`` is that of images ``(replica, z, y, x)``, as well as so many can tell."""
    ratio = images.real.square().mean(0).sqrt() / deviation
    expected = 1 / math.sqrt(2 * N_REPLICAS)
    assert abs(float(ratio.mean()) - 1) < 0.01
    assert float(ratio.std()) < 1.3 * expected


@pytest.mark.parametrize(
    ("shape", "acceleration"), [((1, 36, 20), (3, 1)), ((12, 14, 10), (2, 2)), ((9, 12, 10), (1, 3))]
)
def test_grappa(shape: tuple[int, int, int], acceleration: tuple[int, int]) -> None:
    """With calibration lines in the middle, and lines that were not acquired at one end."""
    n_coils, (n2, n1, n0), (r1, r2) = 5, shape, acceleration
    maps = some_maps(n_coils, n2, n1, n0)
    sampled = torch.zeros(n2, n1, dtype=torch.bool)
    sampled[::r2, 1::r1] = True
    sampled[:, :3] = False
    middle = slice(n2 // 2 - 4, n2 // 2 + 4) if n2 > 1 else slice(0, 1)
    sampled[middle, n1 // 2 - 5 : n1 // 2 + 6] = True
    object_ = torch.randn(n2, n1, n0, dtype=torch.complex64, generator=torch.Generator().manual_seed(4))
    acs = to_kspace(maps * object_, (-3, -2, -1))[:, middle, n1 // 2 - 5 : n1 // 2 + 6]
    weights = grappa.calibrate(acs, acceleration, (3, 2, 2))

    noise = replicas(sampled, n_coils, n0)
    images = combine_with_maps(to_image(grappa.apply(weights, noise, sampled), (-3, -2, -1)), maps)
    deviation = grappa_deviation(weights, sampled, maps)
    check(deviation, images)
    # Lines for calibration alone: without them there would be more noise, and the test sees it.
    lattice = grappa.sources_and_filled(weights, sampled)[0]
    assert float((grappa_deviation(weights, lattice, maps) / deviation).mean()) > 1.03


def test_sense() -> None:
    n_coils, n1, n0 = 5, 36, 20
    maps = some_maps(n_coils, 1, n1, n0)
    maps[..., :3] = 0
    sampled = torch.zeros(1, n1, dtype=torch.bool)
    sampled[0, 1::3] = True
    sampled[0, 15:21] = True
    system = factorise(maps[:, 0], sampled[0], 0.02)
    adjoint = SenseOperator(maps, sampled).adjoint(replicas(sampled, n_coils, n0))
    deviation = sense_deviation(system)
    assert not deviation[..., :3].any()
    check(deviation[..., 3:], system.solve(adjoint[:, 0])[:, None, :, 3:])


def test_matched_filter() -> None:
    maps = some_maps(4, 1, 16, 12)
    sampled = torch.ones(1, 16, dtype=torch.bool)
    sampled[0, 12:] = False
    images = combine_with_maps(to_image(replicas(sampled, 4, 12), (-3, -2, -1)), maps)
    check(matched_deviation(maps, sampled), images)


def test_g_factor_is_1_without_undersampling() -> None:
    """In partial Fourier, too, and where no coil sees anything it is 0."""
    maps = some_maps(4, 6, 16, 12)
    maps[..., :2] = 0
    for last in (16, 11):
        sampled = torch.zeros(6, 16, dtype=torch.bool)
        sampled[1:5, :last] = True
        found = g_factor(matched_deviation(maps, sampled), maps, sampled)
        assert torch.allclose(found[..., 2:], torch.ones(()))
        assert not found[..., :2].any()


def test_what_does_not_fit_is_refused() -> None:
    maps = some_maps(4, 1, 16, 12)
    weights = grappa.calibrate(to_kspace(maps, (-2, -1)), (2, 1), (3, 2, 1))
    with pytest.raises(ShapeError, match="do not fit coil maps"):
        grappa_deviation(weights, torch.ones(1, 15, dtype=torch.bool), maps)
