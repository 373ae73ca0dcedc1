"""SENSE of spokes and spirals against BART's ``pics``, and against the truth."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch

from scanside.errors import CalibrationError, ShapeError
from scanside.recon.cg import conjugate_gradient
from scanside.recon.fourier import to_kspace
from scanside.recon.noncartesian.centre import centre_on_grid
from scanside.recon.noncartesian.density import interleaved_density
from scanside.recon.noncartesian.sense import NonCartesianSense
from scanside.testing.adjoint import assert_adjoint

N = 48


def spokes(n: int) -> torch.Tensor:
    """Points ``(spoke, sample, 2)`` along (y, x)."""
    angles = torch.arange(n) * (math.pi * (math.sqrt(5) - 1) / 2)
    radius = (torch.arange(2 * N) - N) / (2 * N)
    return torch.stack([torch.outer(angles.sin(), radius), torch.outer(angles.cos(), radius)], -1)


def brain() -> tuple[torch.Tensor, torch.Tensor]:
    """Something like a head ``(1, y, x)``, and smooth maps of six coils ``(coil, 1, y, x)``."""
    y, x = torch.meshgrid(*[torch.linspace(-1, 1, N)] * 2, indexing="ij")
    image = ((x / 0.7).square() + (y / 0.85).square() < 1) * (1 + 0.3 * torch.cos(9 * x) * torch.sin(7 * y))
    angles = torch.arange(6) * (math.pi / 3)
    away = (x - 1.2 * angles.cos()[:, None, None]).square() + (y - 1.2 * angles.sin()[:, None, None]).square()
    maps = torch.exp(-away) * torch.exp(1j * (angles[:, None, None] + 0.7 * x))
    maps = maps / maps.abs().square().sum(0, keepdim=True).sqrt()
    return (image * torch.exp(0.5j * (x + y)))[None].to(torch.complex64), maps[:, None].to(torch.complex64)


@pytest.mark.parametrize("weighted", [False, True])
def test_adjoint_and_normal_belong_to_the_operator(weighted: bool) -> None:
    points = spokes(11).reshape(-1, 2).double()
    _, maps = brain()
    weights = interleaved_density(spokes(11).double(), (N, N)).flatten() if weighted else None
    operator = NonCartesianSense(maps.to(torch.complex128), points, weights)
    if weights is None:
        assert_adjoint(operator.forward, operator.adjoint, (1, N, N), (6, len(points)))
    image = torch.randn(1, N, N, dtype=torch.complex128, generator=torch.Generator().manual_seed(1))
    expected = operator.adjoint(operator.forward(image))
    assert float((operator.normal(image) - expected).norm() / expected.norm()) <= 1e-6


def test_of_a_volume() -> None:
    generator = torch.Generator().manual_seed(2)
    maps = torch.randn(3, 6, 8, 10, dtype=torch.complex128, generator=generator)
    points = torch.rand(70, 3, dtype=torch.float64, generator=generator) - 0.5
    operator = NonCartesianSense(maps, points)
    assert_adjoint(operator.forward, operator.adjoint, (6, 8, 10), (3, 70))
    image = torch.randn(6, 8, 10, dtype=torch.complex128, generator=generator)
    torch.testing.assert_close(
        operator.normal(image), operator.adjoint(operator.forward(image)), rtol=1e-6, atol=1e-6
    )


def test_the_solution_is_barts(run_bart: Any) -> None:
    """Same maps, trajectory and weight, without density compensation, as ``pics`` has it."""
    image, maps = brain()
    points = spokes(30)
    flat = points.reshape(-1, 2)
    operator = NonCartesianSense(maps, flat)
    noise = torch.randn(6, len(flat), dtype=torch.complex64, generator=torch.Generator().manual_seed(4))
    samples = operator.forward(image) + 0.01 * noise
    steps = torch.stack([flat[:, 1] * N, flat[:, 0] * N, torch.zeros(len(flat))], -1)
    theirs = run_bart(
        *("pics", "-S", "-l2", "-r0.1", "-i200", "-w1", "-t"),
        # BART's arrays: (3, sample, 1) points, and (1, sample, 1, coil) samples.
        steps.to(torch.complex64).numpy()[None, None],
        samples.numpy()[:, None, :, None],
        maps.numpy(),
    )

    def distance(l2: float) -> float:
        ours = conjugate_gradient(
            lambda x: operator.normal(x) + l2 * x,
            operator.adjoint(samples),
            tolerance=1e-6,
            max_iterations=300,
        ).solution.numpy()
        return float(np.linalg.norm(ours - theirs.reshape(ours.shape)) / np.linalg.norm(theirs))

    assert distance(0.1) <= 1e-2
    assert distance(0.3) > 1e-2  # as a measure of that: another weight


def test_density_weights_lead_to_the_object_within_few_iterations() -> None:
    image, maps = brain()
    points = spokes(20)
    weights = interleaved_density(points, (N, N)).flatten()
    operator = NonCartesianSense(maps, points.reshape(-1, 2), weights)
    samples = operator.forward(image)
    result = conjugate_gradient(
        lambda x: operator.normal(x) + 1e-4 * x, operator.adjoint(samples), tolerance=1e-3, max_iterations=40
    )
    error = float((result.solution - image).norm() / image.norm())
    assert error <= 0.12  # what lies beyond the disc of k-space cannot be known
    gridded = operator.adjoint(samples)
    assert float((gridded - image).norm() / image.norm()) > 1.5 * error


def test_the_centre_on_a_grid_is_that_of_the_object() -> None:
    image, maps = brain()
    points = spokes(40).reshape(-1, 2)
    samples = NonCartesianSense(maps, points).forward(image)
    block = centre_on_grid(samples, points, (N, N), 16)
    middle = slice(N // 2 - 8, N // 2 + 8)
    expected = to_kspace(maps * image)[:, 0, middle, middle]
    assert block.shape == expected.shape
    assert float((block - expected).norm() / expected.norm()) <= 0.01


def test_a_centre_that_is_not_full() -> None:
    points = spokes(2).reshape(-1, 2)
    with pytest.raises(CalibrationError, match=r"take more readouts for each image"):
        centre_on_grid(torch.ones(3, len(points), dtype=torch.complex64), points, (N, N), 24)


def test_maps_of_a_volume_with_points_of_a_plane() -> None:
    with pytest.raises(ShapeError, match="of one slice"):
        NonCartesianSense(torch.ones(2, 3, 8, 8, dtype=torch.complex64), torch.zeros(5, 2))


def test_a_centre_with_wide_gaps() -> None:
    """Samples are many, but lie on few spokes."""
    points = spokes(6)
    dense = torch.nn.functional.interpolate(points.mT, scale_factor=4, mode="linear").mT.reshape(-1, 2)
    with pytest.raises(CalibrationError, match=r"fill \d+ % of it"):
        centre_on_grid(torch.ones(3, len(dense), dtype=torch.complex64), dense, (N, N), 24)
