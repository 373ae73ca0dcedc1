"""Density compensation: an object keeps its intensities, and weights are areas of k-space."""

from __future__ import annotations

import math

import pytest
import torch

from scanside.errors import ShapeError
from scanside.recon.noncartesian.density import interleaved_density, pipe_menon, with_middle
from scanside.recon.noncartesian.nufft import Nufft

N = 64
GOLDEN = math.pi * (math.sqrt(5) - 1) / 2


def spokes(n: int, *, golden: bool = False, through: bool = True) -> torch.Tensor:
    """Points ``(spoke, sample, 2)``, 128 samples on a spoke."""
    number = torch.arange(n, dtype=torch.float64)
    angles = number * GOLDEN if golden else number * (math.pi if through else 2 * math.pi) / n
    along = torch.arange(128, dtype=torch.float64)
    radius = (along - 64) / 128 if through else along / 256
    return torch.stack([torch.outer(angles.sin(), radius), torch.outer(angles.cos(), radius)], -1)


def arms(n: int = 16) -> torch.Tensor:
    """An Archimedean spiral, sampled at equal lengths, turned ``n`` times."""
    edge = math.pi * N / n
    angle = torch.linspace(0, edge, 20_000, dtype=torch.float64)
    length = torch.cumulative_trapezoid((1 + angle.square()).sqrt(), angle)
    at = angle[1:][
        torch.searchsorted(length, torch.linspace(0, 0.9999, 400, dtype=torch.float64) * length[-1])
    ]
    arm = 0.5 * at / edge * torch.exp(1j * at)
    turned = torch.exp(2j * torch.pi * torch.arange(n, dtype=torch.float64) / n)[:, None] * arm
    return torch.stack([turned.imag, turned.real], -1)


def ellipse(scale: float = 1.0) -> torch.Tensor:
    y, x = torch.meshgrid(*[torch.arange(N) - N // 2] * 2, indexing="ij")
    return ((x / (20 * scale)).square() + (y / (25 * scale)).square() < 1).to(torch.complex128)


TRAJECTORIES = {
    "spokes": spokes(100),
    "few spokes": spokes(50),
    "golden angles": spokes(144, golden=True),
    "half spokes": spokes(200, through=False),
    "spiral": arms(),
}


@pytest.mark.parametrize("name", TRAJECTORIES)
@pytest.mark.parametrize("method", ["interleaved", "pipe-menon"])
def test_an_object_keeps_its_intensities(name: str, method: str) -> None:
    points = TRAJECTORIES[name]
    flat = points.reshape(-1, 2)
    weights = (
        interleaved_density(points, (N, N)).flatten() if method == "interleaved" else pipe_menon(flat, (N, N))
    )
    transform = Nufft(flat, (N, N))
    image = transform.adjoint(weights * transform.forward(ellipse()))
    inside = image[ellipse(0.8).real > 0]
    assert abs(complex(inside.mean()) - 1) <= 0.01
    assert float(inside.abs().std()) <= 0.04


@pytest.mark.parametrize("name", ["spokes", "golden angles", "half spokes", "spiral"])
def test_rings_and_sectors_add_up_to_the_disc(name: str) -> None:
    weights = interleaved_density(TRAJECTORIES[name], (N, N))
    assert float(weights.sum()) == pytest.approx(math.pi / 4 * N * N, rel=0.02)
    assert bool((weights > 0).all())


def test_away_from_ends_both_methods_agree() -> None:
    points = spokes(201)
    by_rings = interleaved_density(points, (N, N))
    by_iteration = pipe_menon(points.reshape(-1, 2), (N, N), iterations=30).reshape(by_rings.shape)
    inner = slice(20, -20)
    difference = (by_rings - by_iteration)[:, inner].norm() / by_rings[:, inner].norm()
    assert float(difference) <= 0.01


def test_a_spoke_that_comes_twice_counts_half() -> None:
    points = spokes(10)
    twice = interleaved_density(torch.cat([points, points[3:4]]), (N, N))
    once = interleaved_density(points, (N, N))
    torch.testing.assert_close(twice[3] + twice[10], once[3])
    torch.testing.assert_close(twice[5], once[5])


def test_a_volume_keeps_its_intensities() -> None:
    """Spokes through the centre of a ball, as many as fill it."""
    n, size = 1500, 24
    number = torch.arange(n, dtype=torch.float64)
    height, azimuth = (number + 0.5) / n, 2 * math.pi * (number * 0.6823278038280193)
    across = (1 - height.square()).sqrt()
    directions = torch.stack([height, across * azimuth.sin(), across * azimuth.cos()], -1)
    radius = (torch.arange(48, dtype=torch.float64) - 24) / 48
    points = (directions[:, None] * radius[:, None]).reshape(-1, 3)
    axis = torch.arange(size) - size // 2
    squares = torch.stack(torch.meshgrid(axis, axis, axis, indexing="ij")).square().sum(0)
    transform = Nufft(points, (size,) * 3)
    image = transform.adjoint(
        pipe_menon(points, (size,) * 3) * transform.forward((squares < 64).to(torch.complex128))
    )
    assert float(image[squares < 36].real.mean()) == pytest.approx(1, abs=0.03)


def test_what_are_no_spokes() -> None:
    with pytest.raises(ShapeError, match="must be"):
        interleaved_density(torch.zeros(4, 10, 3), (8, 8))


def test_spokes_that_miss_the_centre_keep_intensities_too() -> None:
    points = spokes(100)
    step = points[:, 1:2] - points[:, :1]
    lag = torch.tensor([[-1.0, 0.4], [0.4, 1.3]], dtype=torch.float64)
    moved = (points - step @ lag).clamp(-0.5, 0.5)
    plain = interleaved_density(moved, (N, N))
    mended = with_middle(plain, moved, (N, N))

    def error(weights: torch.Tensor) -> float:
        transform = Nufft(moved.reshape(-1, 2), (N, N))
        image = transform.adjoint(transform.forward(ellipse()) * weights.flatten())
        inside = ellipse().real > 0
        return float((image - ellipse())[inside].norm() / ellipse()[inside].norm())

    assert error(mended) <= 0.05
    assert error(plain) > 1.5 * error(mended)
    far = moved.norm(dim=-1) > 5 / N
    torch.testing.assert_close(mended[far], plain[far], rtol=0, atol=0)


def test_readouts_far_from_the_centre_have_no_middle() -> None:
    points = spokes(20)[:, 100:]
    weights = torch.ones(points.shape[:2], dtype=torch.float64)
    torch.testing.assert_close(with_middle(weights, points, (N, N)), weights)
