"""Columns of the image, solved exactly."""

from __future__ import annotations

import math

import pytest
import torch

from scanside.errors import CalibrationError, NonFiniteError, ScanError, ShapeError
from scanside.recon.columns import (
    MAX_ROWS,
    ColumnSystem,
    factorise,
    normal_matrices,
    on_grid,
    point_spread,
    system_bytes,
)
from scanside.recon.sense import SenseOperator


def a_mask(n: int, kind: str) -> torch.Tensor:
    """``(k1,)``: every third line or a random third of them, and the middle."""
    mask = torch.zeros(n, dtype=torch.bool)
    if kind == "equispaced":
        mask[1::3] = True
    else:
        mask[torch.randperm(n, generator=torch.Generator().manual_seed(1))[: n // 3]] = True
    mask[n // 2 - 2 : n // 2 + 2] = True
    return mask


def some_maps(n_coils: int, n1: int, n0: int, *, margin: int = 0) -> torch.Tensor:
    """Smooth maps ``(coil, k1, k0)`` complex128 whose squares add up to 1, zero in a margin."""
    generator = torch.Generator().manual_seed(2)
    waves = torch.randn(n_coils, 3, 3, dtype=torch.complex128, generator=generator)
    y, x = (torch.linspace(-1, 1, n, dtype=torch.float64) for n in (n1, n0))
    powers = [torch.stack((torch.ones_like(t), t, t * t)).to(torch.complex128) for t in (y, x)]
    maps = torch.einsum("cab,ay,bx->cyx", waves, *powers)
    maps = maps / maps.abs().square().sum(0).sqrt()
    if margin:
        maps[:, :margin] = 0
        maps[:, n1 - margin - 1 :] = 0
        maps[:, :, : margin + 1] = 0
        maps[:, :, n0 - margin :] = 0
    return maps


def dense(maps: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """The whole normal operator ``(k1 k0, k1 k0)``, from centred transforms, one voxel after the other."""
    n1, n0 = maps.shape[1:]

    def centred(transform: object, kspace: torch.Tensor) -> torch.Tensor:
        moved = torch.fft.ifftshift(kspace, dim=(-2, -1))
        made: torch.Tensor = transform(moved, norm="ortho")  # type: ignore[operator]
        return torch.fft.fftshift(made, dim=(-2, -1))

    voxels = torch.eye(n1 * n0, dtype=maps.dtype).reshape(-1, 1, n1, n0)
    kspace = centred(torch.fft.fft2, maps * voxels) * mask[:, None]
    seen = (maps.conj() * centred(torch.fft.ifft2, kspace)).sum(1)
    return seen.reshape(n1 * n0, n1 * n0).T


def solved_by_dense(
    maps: torch.Tensor, mask: torch.Tensor, weight: float, right: torch.Tensor
) -> torch.Tensor:
    matrix = dense(maps, mask)
    matrix.diagonal().add_(weight)
    return torch.linalg.solve(matrix, right.flatten()).reshape(right.shape)


def an_image(*shape: int, dtype: torch.dtype = torch.complex128) -> torch.Tensor:
    return torch.randn(*shape, dtype=dtype, generator=torch.Generator().manual_seed(3))


@pytest.mark.parametrize("kind", ["equispaced", "random"])
@pytest.mark.parametrize("n_coils", [1, 2, 8, 16])
@pytest.mark.parametrize(("n1", "n0"), [(24, 10), (23, 9)])
@pytest.mark.parametrize("weight", [2e-3, 0.05, 1.0])
def test_equals_the_dense_solution(kind: str, n_coils: int, n1: int, n0: int, weight: float) -> None:
    maps, mask = some_maps(n_coils, n1, n0), a_mask(n1, kind)
    right = an_image(n1, n0)
    expected = solved_by_dense(maps, mask, weight, right)
    torch.testing.assert_close(factorise(maps, mask, weight).solve(right), expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("n1", [63, 64, 65, 100])
def test_halves_of_any_size(n1: int) -> None:
    maps, mask = some_maps(4, n1, 3, margin=0), a_mask(n1, "random")
    matrices = normal_matrices(maps, point_spread(mask, maps.dtype))
    matrices.diagonal(dim1=-2, dim2=-1).add_(0.01)
    expected = 0.01 * torch.linalg.inv(matrices)
    kept = factorise(maps, mask, 0.01).kept()
    torch.testing.assert_close(torch.complex(kept[0], kept[1]), expected, rtol=1e-9, atol=1e-11)


def test_normal_matrices_are_the_normal_operator() -> None:
    maps, mask = some_maps(3, 20, 7), a_mask(20, "random")
    image = an_image(20, 7)
    operator = SenseOperator(maps[:, None], mask[None])
    expected = operator.adjoint(operator.forward(image[None]))[0]
    matrices = normal_matrices(maps, point_spread(mask, maps.dtype))
    applied = (matrices @ image.T.unsqueeze(-1))[..., 0].T
    torch.testing.assert_close(
        applied, expected, rtol=1e-6, atol=1e-6
    )  # the operator's ramp is of fp32 accuracy


@pytest.mark.parametrize("margin", [2, 5])
def test_what_no_coil_sees(margin: int) -> None:
    maps, mask, weight = some_maps(4, 40, 16, margin=margin), a_mask(40, "equispaced"), 0.02
    right = an_image(2, 40, 16)
    system = factorise(maps, mask, weight)
    expected = torch.stack([solved_by_dense(maps, mask, weight, one) for one in right])
    torch.testing.assert_close(system.solve(right), expected, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(system.solve(right)[:, 0], right[:, 0] / weight)
    kept = torch.complex(*system.kept())
    image = (kept @ (right[0].T / weight).unsqueeze(-1))[..., 0].T
    torch.testing.assert_close(image, expected[0], rtol=1e-9, atol=1e-9)


def test_several_systems_at_once() -> None:
    maps = torch.stack((some_maps(3, 12, 5), some_maps(3, 12, 5).flip(-1)))
    masks = torch.stack((a_mask(12, "equispaced"), a_mask(12, "random")))
    weights = torch.tensor([0.1, 0.7], dtype=torch.float64)
    right = an_image(4, 2, 12, 5)
    system = ColumnSystem(maps, masks, weights)
    for i in range(2):
        alone = factorise(maps[i], masks[i], float(weights[i]))
        torch.testing.assert_close(system.solve(right)[:, i], alone.solve(right[:, i]))
        torch.testing.assert_close(system.kept()[i], alone.kept())


@pytest.mark.parametrize("weight", [2e-3, 0.05, 1.0])
def test_error_of_single_precision(weight: float) -> None:
    """The planes are as exact as fp32 can say, and solutions to what the condition 1 / λ leaves of it."""
    maps, mask = some_maps(8, 128, 16), a_mask(128, "equispaced")
    exact, single = factorise(maps, mask, weight), factorise(maps.to(torch.complex64), mask, weight)
    assert float((single.kept().double() - exact.kept()).abs().max()) < 2e-6
    image = an_image(128, 16)
    right = (normal_matrices(maps, point_spread(mask, maps.dtype)) @ image.T.unsqueeze(-1))[..., 0].T
    expected = exact.solve(right)
    found = single.solve(right.to(torch.complex64))
    assert float((found - expected).norm() / expected.norm()) < 4e-7 / math.sqrt(weight) + 1e-6


@pytest.mark.parametrize("second", [0.004, 0.01, 0.03])
@pytest.mark.parametrize("margin", [0, 5])
def test_another_weight_from_a_near_one(second: float, margin: int) -> None:
    maps, mask, first = some_maps(4, 40, 16, margin=margin), a_mask(40, "equispaced"), 0.01
    system = factorise(maps, mask, first)
    base, image = an_image(2, 40, 16)
    right = base + second * image
    known = (base, system.solve(base))
    expected = factorise(maps, mask, second).solve(right)
    found = system.solve_near(second, right, known)
    assert float((found - expected).norm() / expected.norm()) < 2e-4
    finer = system.solve_near(second, right, known, tolerance=1e-9)
    assert float((finer - expected).norm() / expected.norm()) < 1e-8
    if second != first:
        unmoved = system.solve_near(second, right, known, max_iterations=0)
        assert float((unmoved - expected).norm() / expected.norm()) > 1e-3
        torch.testing.assert_close(unmoved, known[1])


def test_bytes_are_what_is_stated() -> None:
    assert system_bytes(256, 256) == 134_217_728
    system = factorise(some_maps(2, 12, 5).to(torch.complex64), a_mask(12, "random"), 0.1)
    assert system.n_bytes == system_bytes(12, 5) == system.kept().nbytes


def test_grid_of_weights() -> None:
    for weight in (2e-3, 0.0137, 0.3, 1.0, 7.0):
        place = on_grid(weight)
        assert abs(math.log2(place / weight)) <= 1 / 16 + 1e-12
        assert on_grid(place) == place
        assert round(8 * math.log2(place), 9) % 1 == 0


@pytest.mark.parametrize("weight", [0.0, -0.1, math.nan, math.inf])
def test_weights_that_cannot_be(weight: float) -> None:
    with pytest.raises(ScanError, match="λ > 0"):
        factorise(some_maps(2, 12, 5), a_mask(12, "random"), weight)
    with pytest.raises(ScanError, match="λ > 0"):
        on_grid(weight)


def test_masks_over_two_axes() -> None:
    maps = some_maps(2, 12, 12)
    with pytest.raises(ShapeError, match=r"k1 alone.*solver 'cg'"):
        factorise(maps, torch.ones(12, 12, dtype=torch.bool), 0.1)


def test_large_matrices() -> None:
    maps = torch.ones(1, MAX_ROWS + 1, 2, dtype=torch.complex64)
    with pytest.raises(ShapeError, match=r"640 rows.*641.*7 MB.*solver 'cg'"):
        factorise(maps, torch.ones(MAX_ROWS + 1, dtype=torch.bool), 0.1)


def test_maps_that_cannot_be() -> None:
    maps, mask = some_maps(2, 12, 5), a_mask(12, "random")
    with pytest.raises(CalibrationError, match="zero everywhere"):
        factorise(torch.zeros_like(maps), mask, 0.1)
    for bad in (math.nan, math.inf):
        broken = maps.clone()
        broken[1, 3, 2] = bad
        with pytest.raises(NonFiniteError, match="coil maps"):
            factorise(broken, mask, 0.1)


def test_right_hand_sides_of_another_size() -> None:
    system = factorise(some_maps(2, 12, 5), a_mask(12, "random"), 0.1)
    with pytest.raises(ShapeError, match=r"\(12, 5\).*\(5, 12\)"):
        system.solve(an_image(5, 12))


def test_gradients_are_those_of_the_dense_solution() -> None:
    maps, mask = some_maps(2, 12, 5), a_mask(12, "random")
    system = factorise(maps, mask, 0.1)
    right, weights = an_image(12, 5).requires_grad_(), an_image(12, 5).flip(0)
    matrix = dense(maps, mask) + 0.1 * torch.eye(60)
    expected = torch.autograd.grad(
        (torch.linalg.solve(matrix, right.flatten()) * weights.flatten()).abs().sum(), right
    )
    found = torch.autograd.grad((system.solve(right) * weights).abs().sum(), right)
    torch.testing.assert_close(found, expected)
