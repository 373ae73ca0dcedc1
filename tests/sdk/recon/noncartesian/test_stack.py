"""Stacks of planes are transformed as one NUFFT of three dimensions would, and told from other volumes."""

from __future__ import annotations

import math

import pytest
import torch

from scanside.errors import NonFiniteError, ShapeError
from scanside.recon.cg import conjugate_gradient
from scanside.recon.noncartesian.density import in_planes, pipe_menon
from scanside.recon.noncartesian.nufft import Nufft
from scanside.recon.noncartesian.sense import NonCartesianSense
from scanside.recon.noncartesian.stack import StackNufft, normal_of, planes_of, transform_of
from scanside.testing.adjoint import assert_adjoint

SHAPE = (6, 16, 20)
GOLDEN = math.pi * (math.sqrt(5) - 1) / 2


def stack(*, turned: bool = False, missing: int = 0, n: int = 9) -> torch.Tensor:
    """Points ``(n, 3)`` along (z, y, x): spokes, plane by plane."""
    planes = []
    for plane in range(missing, SHAPE[0]):
        angles = torch.arange(n, dtype=torch.float64) * GOLDEN + (0.3 * plane if turned else 0.0)
        along = (torch.arange(32, dtype=torch.float64) - 16) / 32
        y, x = torch.outer(angles.sin(), along), torch.outer(angles.cos(), along)
        height = torch.full_like(x, (plane - SHAPE[0] // 2) / SHAPE[0])
        planes.append(torch.stack([height, y, x], -1).reshape(-1, 3))
    return torch.cat(planes)


def random(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.complex128, generator=torch.Generator().manual_seed(len(shape)))


@pytest.mark.parametrize("points", [stack(), stack(turned=True), stack(missing=2), stack().flip(0)])
def test_transforms_are_those_of_three_dimensions(points: torch.Tensor) -> None:
    ours, whole = transform_of(points, SHAPE), Nufft(points, SHAPE)
    assert isinstance(ours, StackNufft)
    image, samples = random(2, *SHAPE), random(2, len(points))
    torch.testing.assert_close(ours.forward(image), whole.forward(image), rtol=1e-8, atol=1e-8)
    torch.testing.assert_close(ours.adjoint(samples), whole.adjoint(samples), rtol=1e-8, atol=1e-8)
    weights = torch.rand(len(points), dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    normal = normal_of(ours, weights)(image)
    torch.testing.assert_close(normal, normal_of(whole, weights)(image), rtol=1e-6, atol=1e-6)
    assert_adjoint(ours.forward, ours.adjoint, SHAPE, (len(points),))


def test_a_solution_is_that_of_three_dimensions() -> None:
    points, maps = stack(n=7).float(), random(3, *SHAPE).to(torch.complex64)
    weights = pipe_menon(points, SHAPE)
    operator = NonCartesianSense(maps, points, weights)
    samples = operator.forward(random(*SHAPE).to(torch.complex64))
    whole = Nufft(points, SHAPE)
    normal = normal_of(whole, weights)

    def slowly(image: torch.Tensor) -> torch.Tensor:
        return (maps.conj() * normal(maps * image)).sum(0) + 0.01 * image

    right = (maps.conj() * whole.adjoint(samples * weights)).sum(0)
    settings = {"tolerance": 1e-9, "max_iterations": 15}
    expected = conjugate_gradient(slowly, right, **settings).solution
    found = conjugate_gradient(
        lambda image: operator.normal(image) + 0.01 * image, operator.adjoint(samples), **settings
    ).solution
    assert float((found - expected).norm() / expected.norm()) <= 1e-5


def test_other_volumes_are_told() -> None:
    between = stack()
    between[5, 0] += 0.02
    assert planes_of(between[:, 0], SHAPE[0]) is None
    assert isinstance(transform_of(between, SHAPE), Nufft)
    assert isinstance(transform_of(stack()[:, 1:], SHAPE[1:]), Nufft)


def test_both_edges_are_one_plane() -> None:
    planes = planes_of(torch.tensor([-0.5, 0.0, 0.5]), 4)
    assert planes is not None
    assert planes.tolist() == [0, 2, 0]


def test_points_that_are_no_numbers_or_too_far() -> None:
    broken, far = stack(), stack()
    broken[3] = torch.nan
    far[3, 1] = 0.7
    with pytest.raises(NonFiniteError, match="1 of"):
        transform_of(broken, SHAPE)
    with pytest.raises(ShapeError, match=r"reach 0\.7"):
        transform_of(far, SHAPE)


def test_weights_are_those_of_the_planes() -> None:
    points = stack(turned=True).float()
    weights = pipe_menon(points, SHAPE).reshape(SHAPE[0], -1)
    for plane, own in zip(points.reshape(SHAPE[0], -1, 3), weights, strict=True):
        torch.testing.assert_close(own, pipe_menon(plane[:, 1:], SHAPE[1:]))


def test_alike_planes_are_weighed_once() -> None:
    asked: list[int] = []

    def weigh(points: torch.Tensor) -> torch.Tensor:
        asked.append(len(points))
        return points[:, 0]

    points = torch.tensor([[1.0, 0], [2.0, 0], [1.0, 0], [2.0, 0], [5.0, 0]])
    found = in_planes(points, torch.tensor([0, 0, 1, 1, 2]), weigh)
    torch.testing.assert_close(found, points[:, 0])
    assert asked == [2, 1]
