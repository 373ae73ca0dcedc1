"""Three lowerings of the normal operator, against a plain complex reference in fp64, and the steps that use it."""

from __future__ import annotations

import pytest
import torch

from scanside.recon.consistency import LOWERINGS, Lowering, sampling_inputs
from scanside.recon.sense import SenseOperator
from scanside_training.models.consistency import (
    ColumnInverse,
    NormalOperator,
    ProximalSolver,
    conjugate_gradients,
    hermitian_sum,
)

N_COILS, K1, K0 = 3, 12, 9


def pairs(complex_data: torch.Tensor) -> torch.Tensor:
    """``(…, k1, k0)`` complex as ``(…, 2, k1, k0)`` real."""
    return torch.stack((complex_data.real, complex_data.imag), dim=-3)


@pytest.fixture
def generator() -> torch.Generator:
    return torch.Generator().manual_seed(3)


@pytest.fixture
def maps(generator: torch.Generator) -> torch.Tensor:
    maps = torch.randn(2, N_COILS, K1, K0, dtype=torch.complex128, generator=generator)
    return maps / maps.abs().square().sum(1, keepdim=True).sqrt()


@pytest.fixture
def image(generator: torch.Generator) -> torch.Tensor:
    return torch.randn(2, K1, K0, dtype=torch.complex128, generator=generator)


def mask_of(width: int, generator: torch.Generator) -> torch.Tensor:
    return (torch.rand(2, K1, width, generator=generator) < 0.5).double()


def reference(maps: torch.Tensor, mask: torch.Tensor, image: torch.Tensor) -> torch.Tensor:
    """``Aᴴ A x`` as the sum over k-space says it, without any FFT."""
    n1, n0 = (torch.arange(n, dtype=torch.float64) - n // 2 for n in (K1, K0))
    f1 = torch.exp(-2j * torch.pi * n1[:, None] * n1 / K1) / K1**0.5
    f0 = torch.exp(-2j * torch.pi * n0[:, None] * n0 / K0) / K0**0.5
    kspace = mask.unsqueeze(1) * (f1 @ (maps * image.unsqueeze(1)) @ f0)
    return (maps.conj() * (f1.conj() @ kspace @ f0.conj())).sum(1)


def operator(lowering: Lowering, maps: torch.Tensor, mask: torch.Tensor) -> NormalOperator:
    sampling = tuple(one.double() for one in sampling_inputs(lowering, mask))
    return NormalOperator(lowering, pairs(maps), sampling)


@pytest.mark.parametrize("width", [1, K0])
@pytest.mark.parametrize("lowering", LOWERINGS)
def test_lowerings_agree_with_the_definition(
    lowering: Lowering, width: int, maps: torch.Tensor, image: torch.Tensor, generator: torch.Generator
) -> None:
    if lowering == "pmatrix" and width > 1:
        pytest.skip("pmatrix holds for masks over k1 alone")
    mask = mask_of(width, generator)
    normal = operator(lowering, maps, mask)
    expected = pairs(reference(maps, mask, image))
    # The inputs of the matrix forms are made in float32.
    tolerance = 1e-12 if lowering == "fft" else 1e-6
    torch.testing.assert_close(normal(pairs(image)), expected, rtol=tolerance, atol=tolerance)
    in_planes = normal.plain(normal._in_planes(normal.aligned(pairs(image))))
    torch.testing.assert_close(in_planes, expected, rtol=tolerance, atol=tolerance)


def test_agrees_with_the_operator_of_the_classical_stages(
    maps: torch.Tensor, image: torch.Tensor, generator: torch.Generator
) -> None:
    mask = mask_of(1, generator)
    sense = SenseOperator(maps.unsqueeze(2), mask[..., 0].unsqueeze(1).bool())
    expected = sense.normal(image.unsqueeze(1)).squeeze(1)
    torch.testing.assert_close(operator("fft", maps, mask)(pairs(image)), pairs(expected))


@pytest.mark.parametrize("trained_maps", [False, True])
def test_conjugate_gradients_solve(
    trained_maps: bool, maps: torch.Tensor, image: torch.Tensor, generator: torch.Generator
) -> None:
    mask = mask_of(1, generator)
    normal = operator("fft", maps, mask)
    normal.maps.requires_grad_(trained_maps)
    weight = torch.full((1, 1, 1, 1), 0.3, dtype=torch.float64)
    solution = conjugate_gradients(normal, pairs(image), weight, 60)
    torch.testing.assert_close(normal(solution) + weight * solution, pairs(image), rtol=0, atol=1e-9)


@pytest.mark.parametrize("lowering", ["fft", "pmatrix", "dft_matmul"])
def test_columns_are_inverted(
    lowering: Lowering, maps: torch.Tensor, image: torch.Tensor, generator: torch.Generator
) -> None:
    normal = operator(lowering, maps, mask_of(1, generator))
    weight = torch.tensor([0.3, 0.2], dtype=torch.float64).view(-1, 1, 1, 1)
    solution = ColumnInverse(normal, weight)(pairs(image))
    torch.testing.assert_close(normal(solution) + weight * solution, pairs(image), rtol=0, atol=1e-6)


@pytest.mark.parametrize("width", [1, K0])
def test_training_solves_to_the_end(
    width: int, maps: torch.Tensor, image: torch.Tensor, generator: torch.Generator
) -> None:
    """By factorisation where columns are independent, else by the steps that use takes; gradients in both."""
    normal = operator("fft", maps, mask_of(width, generator))
    right = pairs(image).requires_grad_()
    weight = torch.tensor([3.0, 2.0], dtype=torch.float64).view(-1, 1, 1, 1).requires_grad_()
    few = ProximalSolver(normal, weight)(right, 2)
    many = conjugate_gradients(normal, pairs(image), weight.detach(), 25)
    assert torch.allclose(few, many, atol=1e-6) is (width == 1)
    assert torch.autograd.gradcheck(
        lambda r, w: ProximalSolver(normal, w)(r, 25), (right, weight), fast_mode=True
    )
    assert torch.autograd.gradcheck(normal, (right,), fast_mode=True)
    with torch.no_grad():
        used = ProximalSolver(normal, weight)(right, 2)
    torch.testing.assert_close(used, conjugate_gradients(normal, right.detach(), weight.detach(), 2))


def test_one_step_replaces_the_acquired_samples(image: torch.Tensor, generator: torch.Generator) -> None:
    """With one coil, ``x + Aᴴ y − Aᴴ A x`` is ``k = m k₀ + (1 − m) F x``."""
    ones = torch.ones(2, 1, K1, K0, dtype=torch.complex128)
    mask = mask_of(1, generator)
    normal = operator("fft", ones, mask)
    truth = torch.randn(2, K1, K0, dtype=torch.complex128, generator=generator)
    x = pairs(image)
    replaced = x + normal(pairs(truth)) - normal(x)

    shift = torch.fft.ifftshift
    m = shift(mask, dim=-2)
    k = m * torch.fft.fft(truth, dim=-2) + (1 - m) * torch.fft.fft(image, dim=-2)
    torch.testing.assert_close(replaced, pairs(torch.fft.ifft(k, dim=-2)))


def test_an_empty_image_stays_empty(maps: torch.Tensor) -> None:
    normal = operator("fft", maps, torch.ones(2, K1, 1))
    zeros = torch.zeros(2, 2, K1, K0, dtype=torch.float64)
    assert not conjugate_gradients(normal, zeros, torch.tensor(0.1), 5).any()


def test_hermitian_sum(maps: torch.Tensor, generator: torch.Generator) -> None:
    coils = torch.randn(2, N_COILS, K1, K0, dtype=torch.complex128, generator=generator)
    expected = pairs((maps.conj() * coils).sum(1))
    torch.testing.assert_close(hermitian_sum(pairs(maps), pairs(coils)), expected)
