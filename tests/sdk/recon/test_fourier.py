"""Centred Fourier transforms against NumPy and against the sum that defines them."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from scanside.errors import ShapeError
from scanside.recon.fourier import spatial_dims, to_image, to_kspace
from scanside.testing.adjoint import assert_adjoint

SHAPES = [(3, 1, 8, 6), (2, 5, 7, 9), (2, 4, 6, 7), (1, 3, 1, 10), (2, 6, 10, 2)]


def random(*shape: int, dtype: torch.dtype = torch.complex128) -> torch.Tensor:
    return torch.randn(*shape, dtype=dtype, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("dims", [(-1,), (-2,), (-2, -1), (-3, -2, -1), (1, 3)])
def test_agrees_with_shifted_numpy_transforms(shape: tuple[int, ...], dims: tuple[int, ...]) -> None:
    data = random(*shape)
    unshifted = np.fft.ifftshift(data.numpy(), axes=dims)
    image = np.fft.fftshift(np.fft.ifftn(unshifted, axes=dims, norm="ortho"), axes=dims)
    kspace = np.fft.fftshift(np.fft.fftn(unshifted, axes=dims, norm="ortho"), axes=dims)
    np.testing.assert_allclose(to_image(data, dims).numpy(), image, atol=1e-13)
    np.testing.assert_allclose(to_kspace(data, dims).numpy(), kspace, atol=1e-13)


@pytest.mark.parametrize("n", [2, 5, 6, 8, 9])
def test_one_sample_of_kspace_is_a_plane_wave_with_positive_exponent(n: int) -> None:
    for k in range(n):
        kspace = torch.zeros(n, dtype=torch.complex128)
        kspace[k] = 1
        x = np.arange(n) - n // 2
        wave = np.exp(2j * np.pi * (k - n // 2) * x / n) / np.sqrt(n)
        np.testing.assert_allclose(to_image(kspace, (-1,)).numpy(), wave, atol=1e-14)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("dims", [(-1,), (-2, -1), (-3, -2, -1)])
def test_kspace_transform_is_inverse_and_adjoint(shape: tuple[int, ...], dims: tuple[int, ...]) -> None:
    data = random(*shape, dtype=torch.complex64)
    torch.testing.assert_close(to_kspace(to_image(data, dims), dims), data, rtol=1e-5, atol=1e-6)
    assert_adjoint(lambda k: to_image(k, dims), lambda x: to_kspace(x, dims), shape, shape)


def test_input_is_left_alone_and_precision_is_kept() -> None:
    for dtype in (torch.complex64, torch.complex128):
        data = random(2, 8, 7, dtype=dtype)
        before = data.clone()
        assert to_image(data).dtype == dtype
        assert torch.equal(data, before)
    for dims in [(-2, -1), ()]:
        ones = torch.ones(1, 1, dtype=torch.complex64)
        assert torch.equal(to_image(ones, dims), ones)


def test_real_images_transform_as_complex_ones() -> None:
    image = random(3, 6, 5).real.clone()
    torch.testing.assert_close(to_kspace(image), to_kspace(image.to(torch.complex128)))


def test_gradients_flow_through() -> None:
    data = random(2, 4, 6).requires_grad_()
    assert torch.autograd.gradcheck(to_image, (data,))


def test_strided_views_transform_like_copies() -> None:
    data = random(4, 8, 12, 6).permute(0, 3, 1, 2)[:, ::2]
    torch.testing.assert_close(to_image(data), to_image(data.contiguous()))


def test_spatial_dims_follow_the_partition_axis() -> None:
    assert spatial_dims(torch.zeros(4, 1, 8, 8)) == (-2, -1)
    assert spatial_dims(torch.zeros(4, 6, 8, 8)) == (-3, -2, -1)
    with pytest.raises(ShapeError, match="k2"):
        spatial_dims(torch.zeros(8, 8))


@pytest.mark.parametrize("dims", [(-1, 2), (3,), (-4,), (0, 0)])
def test_impossible_axes_are_refused(dims: tuple[int, ...]) -> None:
    with pytest.raises(ShapeError, match="each axis once"):
        to_image(torch.zeros(2, 3, 4, dtype=torch.complex64), dims)
