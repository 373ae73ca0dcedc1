"""``Fᴴ W F`` as products of matrices, against the fast transforms and against the samples."""

from __future__ import annotations

import pytest
import torch

from scanside.recon.noncartesian.density import (
    acceleration_of,
    gridded_noise,
    interleaved_density,
    within_cells,
)
from scanside.recon.noncartesian.nufft import Nufft
from scanside.recon.noncartesian.toeplitz import doubled_dft, split_kernel, toeplitz_kernel, toeplitz_normal

SHAPE = (12, 16)


def spokes(n: int, size: int) -> torch.Tensor:
    """Points ``(spoke, sample, 2)``."""
    angles = torch.arange(n) * (torch.pi / n)
    radius = (torch.arange(2 * size) - size) / (2 * size)
    return torch.stack([torch.outer(angles.sin(), radius), torch.outer(angles.cos(), radius)], -1)


def random(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.complex64, generator=torch.Generator().manual_seed(len(shape)))


def test_products_of_matrices_are_the_operator() -> None:
    points = torch.rand(90, 2, generator=torch.Generator().manual_seed(1)) - 0.5
    weights = torch.rand(90, generator=torch.Generator().manual_seed(2))
    kernel = toeplitz_kernel(points, SHAPE, weights)
    image = random(*SHAPE)
    along1, along0 = (torch.complex(*doubled_dft(n)) for n in SHAPE)
    # (parity, parity, k1, k0): the spectrum on twice the grid, as the parts of the kernel are ordered.
    spectrum = torch.einsum("pij,jk,qlk->pqil", along1, image, along0)
    found = torch.einsum("pij,pqil,qlk->jk", along1.conj(), split_kernel(kernel) * spectrum, along0.conj())
    torch.testing.assert_close(found, toeplitz_normal(image, kernel), rtol=0, atol=2e-6)
    transform = Nufft(points, SHAPE)
    expected = transform.adjoint(weights * transform.forward(image))
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)


def test_the_doubled_transform_keeps_lengths() -> None:
    matrix = torch.complex(*doubled_dft(9)).flatten(0, 1)
    torch.testing.assert_close(matrix.mH @ matrix, torch.eye(9, dtype=torch.complex64), rtol=0, atol=1e-6)


def largest_eigenvalue(points: torch.Tensor, weights: torch.Tensor, size: int) -> float:
    kernel = toeplitz_kernel(points.flatten(0, 1), (size, size), weights.flatten())
    image = random(size, size)
    for _ in range(30):
        image = toeplitz_normal(image / image.norm(), kernel)
    return float(image.norm())


@pytest.mark.parametrize("n", [5, 10, 40])
def test_weights_of_cells_are_nearly_those_of_a_mask(n: int) -> None:
    """However many spokes are missing, no eigenvalue is much larger than 1; the density's grow with the gaps."""
    size = 24
    points = spokes(n, size)
    density = interleaved_density(points, (size, size))
    weights = within_cells(density, points, (size, size))
    assert bool((weights <= density).all())
    assert 0.9 <= largest_eigenvalue(points, weights, size) <= 1.7
    if n == 5:
        assert largest_eigenvalue(points, density, size) > 4


def test_acceleration_is_how_much_of_the_disc_was_sampled() -> None:
    size = 24
    found = []
    for n in (1, 40):
        points = spokes(n, size)
        weights = within_cells(interleaved_density(points, (size, size)), points, (size, size))
        found.append(acceleration_of(weights, (size, size)))
    # A spoke fills the cells along a diameter; 40 are more than π/2 · 24, which fill the disc.
    assert found[0] == pytest.approx(torch.pi / 4 * size, rel=0.05)
    assert found[1] == pytest.approx(1, rel=0.05)


def test_noise_of_voxels() -> None:
    size = 16
    points = spokes(8, size).flatten(0, 1)
    weights = torch.rand(len(points), generator=torch.Generator().manual_seed(3))
    noise = torch.view_as_complex(
        torch.randn(200, len(points), 2, generator=torch.Generator().manual_seed(4))
    )
    voxels = Nufft(points, (size, size)).adjoint(weights * noise)
    assert float(voxels.real.std()) == pytest.approx(gridded_noise(weights, (size, size)), rel=0.02)
