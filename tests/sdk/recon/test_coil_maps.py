"""Coil maps from images whose maps are known."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from scanside.errors import ShapeError
from scanside.recon.coil_maps import calibration_images, inati, virtual_coil, walsh, zero_phase_in
from scanside.recon.combine import combine_with_maps
from scanside.recon.fourier import to_image, to_kspace
from scanside.recon.resize import crop_or_pad

Method = Callable[[torch.Tensor], torch.Tensor]
METHODS = [inati, walsh]


def known_coils(shape: tuple[int, int, int], n_coils: int = 6) -> tuple[torch.Tensor, torch.Tensor]:
    """Coil images of a smooth object with a hole, and the smooth maps that made them, of length one."""
    generator = torch.Generator().manual_seed(5)
    few = torch.randn(n_coils, *(min(n, 3) for n in shape), dtype=torch.complex64, generator=generator)
    few[(slice(None), *(n // 2 for n in few.shape[1:]))] *= 3  # no zeros that all coils share
    maps = to_image(crop_or_pad(few, shape, (-3, -2, -1)), (-3, -2, -1))
    maps = maps / torch.linalg.vector_norm(maps, dim=0)
    axes = [(torch.arange(n) - n // 2) / n for n in shape]
    radius = sum(axis.square() for axis in torch.meshgrid(*axes, indexing="ij"))
    inside = (radius < 0.16) & (radius > 0.01)
    return maps * inside * torch.exp(3j * axes[2]), maps


def overlap(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    return (a.conj() * b).sum(-4).abs()


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(("shape", "kernel"), [((1, 64, 48), 5), ((24, 32, 28), 3)])
def test_maps_are_found(
    method: Callable[..., torch.Tensor], shape: tuple[int, int, int], kernel: int
) -> None:
    images, truth = known_coils(shape)
    maps = method(images, kernel)
    inside = images.abs().sum(0) > 0
    assert overlap(maps, truth)[inside].min() > 0.9
    assert overlap(maps, truth)[inside].mean() > 0.99
    length = maps.abs().square().sum(0)
    torch.testing.assert_close(length[inside], torch.ones_like(length[inside]))
    assert not maps.isnan().any()
    # Voxels whose whole neighbourhood is empty have no map.
    assert not maps[:, 0, 0, 0].any()


@pytest.mark.parametrize("method", METHODS)
def test_noise_does_not_hide_the_maps(method: Method) -> None:
    images, truth = known_coils((1, 64, 48))
    noise = torch.randn(images.shape, dtype=images.dtype, generator=torch.Generator().manual_seed(1))
    inside = images.abs().sum(0) > 0
    noisy = images + 0.1 * noise
    assert overlap(method(noisy), truth)[inside].mean() > 0.98
    single_voxel = noisy / torch.linalg.vector_norm(noisy, dim=0)
    assert overlap(single_voxel, truth)[inside].mean() < 0.98


@pytest.mark.parametrize("method", METHODS)
def test_combined_image_keeps_the_phase_of_the_object(method: Method) -> None:
    images, _ = known_coils((1, 64, 48))
    maps = method(images)
    seen = (virtual_coil(images).conj() * maps).sum(0)
    assert (seen.real >= 0).all()
    assert seen.imag.abs().max() < 1e-6
    # A phase that the object has in addition comes out in the combination; the maps do not take it away.
    smooth = torch.exp(1j * torch.linspace(-3, 3, 64))[:, None]
    with_phase = combine_with_maps(images * smooth, method(images * smooth))
    expected = combine_with_maps(images, maps) * smooth
    ratio = torch.vdot(expected.flatten(), with_phase.flatten()) / expected.abs().square().sum()
    assert abs(ratio) > 0.98


@pytest.mark.parametrize("method", METHODS)
def test_frames_are_independent_and_scale_does_not_matter(method: Method) -> None:
    images, _ = known_coils((1, 32, 24))
    frames = torch.stack([images, images.flip(0) * 1e-12])
    maps = method(frames)
    torch.testing.assert_close(maps[0], method(images))
    torch.testing.assert_close(maps[1], method(images.flip(0)), rtol=1e-3, atol=1e-3)


def test_walsh_is_the_strongest_eigenvector_of_the_local_covariance() -> None:
    generator = torch.Generator().manual_seed(4)
    images = torch.randn(4, 1, 12, 10, dtype=torch.complex128, generator=generator)
    maps = walsh(images, 5, iterations=200)
    for y, x in [(0, 0), (6, 5), (11, 2)]:
        rows, columns = torch.arange(y - 2, y + 3) % 12, torch.arange(x - 2, x + 3) % 10
        patch = images[:, 0, rows][:, :, columns].flatten(1)
        strongest = torch.linalg.eigh(patch @ patch.mH).eigenvectors[:, -1]
        assert abs(torch.vdot(strongest, maps[:, 0, y, x])) == pytest.approx(1, abs=1e-6)


def test_walsh_in_blocks_equals_walsh_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    images, _ = known_coils((16, 24, 20))
    at_once = walsh(images)
    monkeypatch.setattr("scanside.recon.coil_maps._COVARIANCE_BYTES", 1)
    torch.testing.assert_close(walsh(images), at_once)


def test_calibration_images_hold_the_region_only() -> None:
    images, truth = known_coils((1, 64, 48))
    kspace = to_kspace(images)
    region = (slice(0, 1), slice(24, 41))
    low = calibration_images(kspace, region)
    outside = to_kspace(low)
    outside[:, :, 24:41] = 0
    assert outside.abs().max() < 1e-5 * kspace.abs().max()
    inside = images.abs().sum(0) > 0
    assert overlap(inati(low), truth)[inside].mean() > 0.97
    with pytest.raises(ShapeError, match="centre"):
        calibration_images(kspace, (slice(0, 1), slice(0, 20)))


def test_zero_phase_in_a_virtual_coil() -> None:
    images, truth = known_coils((1, 16, 12))
    virtual = virtual_coil(images)
    assert torch.linalg.vector_norm(virtual) == pytest.approx(1)
    turned = zero_phase_in(virtual, truth)
    torch.testing.assert_close(overlap(turned, truth), torch.ones(1, 16, 12))
    assert (virtual.conj() * turned).sum(0).imag.abs().max() < 1e-6


@pytest.mark.parametrize("method", METHODS)
def test_what_does_not_fit_is_an_error(method: Callable[..., torch.Tensor]) -> None:
    images, _ = known_coils((1, 16, 12))
    with pytest.raises(ShapeError, match=r"odd; set coil-maps.kernel to 5"):
        method(images, 4)
    with pytest.raises(ShapeError, match="complex"):
        method(images.abs())
    with pytest.raises(ShapeError, match=r"\(16, 12\)"):
        method(images[0, 0])


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("shape", [(2, 32, 28), (3, 32, 28), (4, 32, 28), (1, 32, 3), (1, 2, 28)])
def test_axes_shorter_than_the_kernel(
    method: Callable[..., torch.Tensor], shape: tuple[int, int, int]
) -> None:
    """The few partitions of a thin slab: along them the neighbourhood is smaller, and maps still follow the coils."""
    images, maps = known_coils(shape)
    found = method(images)
    inside = images.abs().sum(0) > 0
    assert overlap(found, maps)[inside].median() > 0.98
    assert overlap(found.roll(max(shape) // 2, -3 + shape.index(max(shape))), maps)[inside].median() < 0.97
