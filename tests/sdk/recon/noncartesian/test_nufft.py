"""The NUFFT against the exact sum, the transform of a full grid, sigpy and BART."""

from __future__ import annotations

import math
import sys
from typing import Any

import numpy as np
import pytest
import torch

from scanside.errors import MissingExtra, NonFiniteError, ShapeError
from scanside.recon.fourier import to_kspace
from scanside.recon.noncartesian.nufft import Nufft
from scanside.recon.noncartesian.toeplitz import toeplitz_kernel, toeplitz_normal
from scanside.testing.adjoint import assert_adjoint

SHAPES = [(12, 10), (11, 8), (7, 9), (6, 7, 8)]


def random_complex(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.complex128, generator=torch.Generator().manual_seed(seed))


def random_points(n: int, n_dimensions: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(3)
    return torch.rand(n, n_dimensions, dtype=torch.float64, generator=generator) - 0.5


def exact(image: torch.Tensor, points: torch.Tensor) -> torch.Tensor:
    """The sum that the transform stands for, term by term."""
    shape = image.shape[-points.shape[1] :]
    axes = [torch.arange(n, dtype=torch.float64) - n // 2 for n in shape]
    voxels = torch.stack(torch.meshgrid(*axes, indexing="ij"), -1).reshape(-1, len(shape))
    phases = torch.exp(-2j * torch.pi * (points @ voxels.T))
    return image.reshape(-1, len(voxels)) @ phases.T / math.sqrt(len(voxels))


@pytest.mark.parametrize("shape", SHAPES)
def test_forward_is_the_exact_sum(shape: tuple[int, ...]) -> None:
    image, points = random_complex(3, *shape), random_points(50, len(shape))
    torch.testing.assert_close(
        Nufft(points, shape).forward(image), exact(image, points), rtol=1e-9, atol=1e-9
    )
    single = Nufft(points.float(), shape).forward(image.to(torch.complex64))
    assert single.dtype == torch.complex64
    error = (single - exact(image, points.float().double())).norm() / exact(image, points).norm()
    assert error <= 5e-6


@pytest.mark.parametrize("shape", SHAPES)
def test_on_a_full_grid_it_is_the_transform_of_the_grid(shape: tuple[int, ...]) -> None:
    axes = [(torch.arange(n, dtype=torch.float64) - n // 2) / n for n in shape]
    points = torch.stack(torch.meshgrid(*axes, indexing="ij"), -1).reshape(-1, len(shape))
    image = random_complex(2, *shape)
    expected = to_kspace(image, tuple(range(-len(shape), 0))).reshape(2, -1)
    torch.testing.assert_close(Nufft(points, shape).forward(image), expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("shape", SHAPES)
def test_adjoint_belongs_to_it(shape: tuple[int, ...]) -> None:
    transform = Nufft(random_points(40, len(shape)), shape)
    assert_adjoint(transform.forward, transform.adjoint, (2, *shape), (2, 40))


@pytest.mark.parametrize("shape", SHAPES)
def test_gradients(shape: tuple[int, ...]) -> None:
    transform = Nufft(random_points(9, len(shape)), shape)
    image = random_complex(*shape).requires_grad_()
    samples = random_complex(9).requires_grad_()
    assert torch.autograd.gradcheck(transform.forward, (image,), fast_mode=True)
    assert torch.autograd.gradcheck(transform.adjoint, (samples,), fast_mode=True)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("shape", SHAPES)
def test_toeplitz_product_is_adjoint_after_forward(shape: tuple[int, ...], weighted: bool) -> None:
    points, image = random_points(60, len(shape)), random_complex(2, *shape)
    weights = (
        torch.rand(60, dtype=torch.float64, generator=torch.Generator().manual_seed(5)) if weighted else None
    )
    transform = Nufft(points, shape)
    samples = transform.forward(image)
    expected = transform.adjoint(samples if weights is None else samples * weights)
    found = toeplitz_normal(image, toeplitz_kernel(points, shape, weights))
    assert (found - expected).norm() / expected.norm() <= 1e-6


def test_it_is_sigpys_within_the_error_of_its_gridding() -> None:
    sigpy = pytest.importorskip("sigpy", exc_type=ImportError)
    image, points = random_complex(24, 20), random_points(80, 2)
    theirs = sigpy.nufft(image.numpy(), points.numpy() * [24, 20], oversamp=2, width=6)
    ours = Nufft(points, (24, 20)).forward(image).numpy()
    assert np.linalg.norm(ours - theirs) / np.linalg.norm(theirs) <= 1e-4


def test_it_is_barts(run_bart: Any) -> None:
    """Its points are (x, y, z) in steps of the full grid; its exact sum (``-s``) is not scaled."""
    image, points = random_complex(24, 20).to(torch.complex64), random_points(80, 2).float()
    steps = torch.stack([points[:, 1] * 20, points[:, 0] * 24, torch.zeros(80)], -1).to(torch.complex64)
    arrays = steps.numpy()[None, None], image.numpy()[None, None]
    ours = Nufft(points, (24, 20)).forward(image).numpy()
    exactly = run_bart("nufft", "-s", *arrays).ravel() / math.sqrt(480)
    assert np.linalg.norm(ours - exactly) / np.linalg.norm(ours) <= 1e-5
    gridded = run_bart("nufft", "-P", *arrays).ravel()
    assert np.linalg.norm(ours - gridded) / np.linalg.norm(ours) <= 5e-3


def test_points_that_cannot_be() -> None:
    with pytest.raises(ShapeError, match="two or three axes"):
        Nufft(torch.zeros(5, 2), (4, 4, 4))
    with pytest.raises(NonFiniteError, match="1 of 5 points"):
        Nufft(torch.tensor([[0.0, 0.0]] * 4 + [[float("nan"), 0.0]]), (4, 4))
    with pytest.raises(ShapeError, match="reach 2 cycles per voxel"):
        Nufft(torch.tensor([[0.0, 2.0]]), (4, 4))
    with pytest.raises(ShapeError, match="got values of"):
        Nufft(torch.zeros(5, 2), (4, 4)).forward(torch.zeros(4, 5, dtype=torch.complex64))


def test_without_the_library_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "finufft", None)
    with pytest.raises(MissingExtra, match=r"scanside\[noncartesian\]"):
        Nufft(torch.zeros(5, 2), (4, 4)).forward(torch.zeros(4, 4, dtype=torch.complex64))
