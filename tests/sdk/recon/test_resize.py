"""Cropping, padding, interpolation and removal of oversampling against closed forms."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.signal
import torch

from scanside.errors import ShapeError
from scanside.recon.fourier import to_image, to_kspace
from scanside.recon.resize import crop_or_pad, remove_oversampling, resample_fov
from scanside.testing.adjoint import assert_adjoint

SIZES = [(8, 6), (8, 5), (7, 6), (7, 5), (6, 9), (5, 9), (6, 10), (5, 8), (6, 6), (1, 4), (4, 1)]


@pytest.mark.parametrize(("old", "new"), SIZES)
def test_centre_stays_at_the_centre(old: int, new: int) -> None:
    data = torch.arange(1, old + 1)
    result = crop_or_pad(data[None, :, None], [new], [1])[0, :, 0]
    expected = torch.zeros(new, dtype=data.dtype)
    for i in range(old):
        if 0 <= i - old // 2 + new // 2 < new:
            expected[i - old // 2 + new // 2] = data[i]
    assert torch.equal(result, expected)


@pytest.mark.parametrize(("old", "new"), SIZES)
def test_cropping_and_padding_are_adjoint(old: int, new: int) -> None:
    assert_adjoint(
        lambda u: crop_or_pad(u, (new, 6), (-1, 0)),
        lambda v: crop_or_pad(v, (old, 5), (-1, 0)),
        (5, 2, old),
        (6, 2, new),
    )


def voxels(n: int, fov: float) -> np.ndarray:
    """World positions in mm of the voxels of an axis."""
    return (np.arange(n) - n // 2) * fov / n


@pytest.mark.parametrize(
    ("n", "fov", "m", "recon_fov"),
    [
        (32, 320.0, 64, 320.0),  # zero-filling
        (33, 330.0, 48, 330.0),
        (32, 320.0, 45, 320.0),
        (64, 320.0, 32, 320.0),  # larger voxels
        (63, 320.0, 40, 320.0),
        (64, 400.0, 48, 300.0),  # a crop
        (64, 400.0, 31, 31 * 6.25),
        (64, 400.0, 96, 250.0),  # a crop with smaller voxels, not a whole number of the old ones
        (50, 310.0, 77, 287.3),
    ],
)
def test_plane_waves_are_interpolated_exactly(n: int, fov: float, m: int, recon_fov: float) -> None:
    highest = int(min((n - 1) // 2, (m / recon_fov * fov - 1e-9) // 2))
    for cycles in (0, 1, -3, highest, -highest):
        image = torch.from_numpy(np.exp(2j * np.pi * cycles / fov * voxels(n, fov)))
        result = resample_fov(image, [fov], [recon_fov], [m], [0])
        expected = np.exp(2j * np.pi * cycles / fov * voxels(m, recon_fov))
        np.testing.assert_allclose(result.numpy(), expected, atol=1e-10)


def test_larger_voxels_lose_only_what_they_cannot_hold() -> None:
    too_fine = torch.from_numpy(np.exp(2j * np.pi * 14 / 320 * voxels(64, 320)))
    assert resample_fov(too_fine, [320], [320], [24], [0]).abs().max() < 1e-12


@pytest.mark.parametrize("matrix", [(48, 60), (31, 33), (80, 101)])
def test_a_blob_stays_at_its_place_in_two_dimensions(matrix: tuple[int, int]) -> None:
    def blob(shape: tuple[int, int], fov: tuple[float, float]) -> np.ndarray:
        y, x = voxels(shape[0], fov[0])[:, None], voxels(shape[1], fov[1])
        return np.exp(-((y - 21.3) ** 2 + (x + 34.1) ** 2) / (2 * 9.0**2)) * np.exp(
            1j * (0.02 * x - 0.05 * y)
        )

    encoded, recon = (300.0, 400.0), (240.0, 290.0)
    image = torch.from_numpy(blob((64, 80), encoded)).to(torch.complex64)
    result = resample_fov(image[None, None], encoded, recon, matrix)
    assert result.shape == (1, 1, *matrix)
    assert result.dtype == torch.complex64
    np.testing.assert_allclose(result[0, 0].numpy(), blob(matrix, recon), atol=3e-3)


@pytest.mark.parametrize(("n", "m"), [(24, 36), (25, 40), (24, 35)])
def test_smaller_voxels_over_the_same_field_of_view_are_zero_filling(n: int, m: int) -> None:
    image = torch.randn(3, n, dtype=torch.complex128, generator=torch.Generator().manual_seed(0))
    kspace = to_kspace(image, [-1])
    if n % 2 == 0:
        kspace[:, 0] = 0  # the highest frequency counts half on either side
    band_limited = to_image(kspace, [-1])
    filled = to_image(crop_or_pad(kspace, [m], [-1]), [-1]) * np.sqrt(m / n)
    torch.testing.assert_close(resample_fov(band_limited, [200], [200], [m], [-1]), filled)
    # SciPy's periodic resampling starts at the first sample, where ours keeps the middle one.
    if n % 2 == 0 and m % 2 == 0:
        theirs = scipy.signal.resample(image.real.numpy(), m, axis=-1)
        np.testing.assert_allclose(
            resample_fov(image.real, [200], [200], [m], [-1]).numpy(), theirs, atol=1e-12
        )


def test_outside_of_the_encoded_field_of_view_is_nothing() -> None:
    image = torch.ones(16)
    for matrix in (32, 48):
        result = resample_fov(image, [160], [320], [matrix], [0])
        # The encoded field of view reaches from −85 to 75 mm, half a voxel beyond the outermost centres.
        outside = np.abs(voxels(matrix, 320) + 5) > 80 + 160 / matrix - 1e-3
        assert not result[torch.from_numpy(outside)].any()
        np.testing.assert_allclose(result[torch.from_numpy(~outside)], 1, atol=1e-6)


def test_nothing_to_do_is_nothing_done() -> None:
    image = torch.randn(2, 1, 9, 12)
    same = resample_fov(image, [180.0, 240.0], [180.00001, 240.0], [9, 12])
    assert torch.equal(same, image)


def oversampled(n: int, m: int, n_readouts: int = 3) -> tuple[np.ndarray, np.ndarray]:
    """Readouts of ``n`` samples whose object fills only the middle ``m`` voxels, and that part's own k-space."""
    generator = torch.Generator().manual_seed(n)
    part = torch.randn(n_readouts, 2, m, dtype=torch.complex64, generator=generator)
    return to_kspace(crop_or_pad(part, [n], [-1]), [-1]).numpy(), to_kspace(part, [-1]).numpy()


@pytest.mark.parametrize(
    ("n", "factor", "m"), [(32, 2, 16), (24, 1.5, 16), (30, 2, 15), (33, 2, 16), (35, 5, 7)]
)
def test_oversampling_is_removed_without_loss_of_what_is_inside(n: int, factor: float, m: int) -> None:
    samples, expected = oversampled(n, m)
    result = remove_oversampling(samples, factor)
    assert result.dtype == np.complex64
    np.testing.assert_allclose(result, expected, atol=2e-6)


def test_what_lies_outside_is_cut_off() -> None:
    position = np.arange(64) - 32
    for x in (-17, 16, 25):
        outside = np.exp(-2j * np.pi * x * position / 64).astype(np.complex64)
        assert np.abs(remove_oversampling(outside[None, None], 2)).max() < 1e-5
    inside = np.exp(-2j * np.pi * -16 * position / 64).astype(np.complex64)
    expected = np.exp(-2j * np.pi * -16 * (np.arange(32) - 16) / 32) * np.sqrt(2)
    np.testing.assert_allclose(remove_oversampling(inside[None, None], 2)[0, 0], expected, atol=1e-5)


def test_white_noise_keeps_its_variance() -> None:
    rng = np.random.default_rng(0)
    noise = (rng.normal(size=(500, 2, 64)) + 1j * rng.normal(size=(500, 2, 64))).astype(np.complex64)
    result = remove_oversampling(noise, 2)
    assert result.real.var() == pytest.approx(1, rel=0.02)
    correlation = np.mean(result[..., 1:] * result[..., :-1].conj())
    assert abs(correlation) < 0.02


@pytest.mark.parametrize(
    ("n_samples", "center", "grid"), [(20, 4, 32), (20, 16, 32), (21, 5, 32), (19, 3, 33)]
)
def test_asymmetric_echoes_are_put_on_their_grid(n_samples: int, center: int, grid: int) -> None:
    rng = np.random.default_rng(1)
    samples = rng.normal(size=(2, 3, n_samples)) + 1j * rng.normal(size=(2, 3, n_samples))
    samples = samples.astype(np.complex64)
    full = np.zeros((2, 3, grid), np.complex64)
    full[..., grid // 2 - center : grid // 2 - center + n_samples] = samples
    result = remove_oversampling(samples, 2, grid=grid, center_sample=center)
    np.testing.assert_allclose(result, remove_oversampling(full, 2), atol=1e-6)
    only_placed = remove_oversampling(samples, 1, grid=grid, center_sample=center)
    np.testing.assert_allclose(only_placed, full, atol=1e-6)


def test_views_into_a_receive_buffer_are_taken_and_left_alone() -> None:
    samples, expected = oversampled(16, 8)
    record = 342 + samples[0].nbytes
    buffer = np.zeros(2 + len(samples) * record, np.uint8)
    first = np.ndarray((1,), np.complex64, buffer, offset=342)
    view = np.lib.stride_tricks.as_strided(first, samples.shape, (record, 16 * 8, 8))
    view[...] = samples
    view.flags.writeable = False
    np.testing.assert_allclose(remove_oversampling(view, 2), expected, atol=2e-6)
    np.testing.assert_allclose(remove_oversampling(view[:1], 2), expected[:1], atol=2e-6)
    np.testing.assert_array_equal(view, samples)
    contiguous = samples.copy()
    remove_oversampling(contiguous, 2)
    np.testing.assert_array_equal(contiguous, samples)


def test_readouts_without_oversampling_pass() -> None:
    samples, _ = oversampled(16, 8)
    assert remove_oversampling(samples, 1) is samples


@pytest.mark.parametrize("n", [16, 15])
def test_removal_is_linear_with_the_padding_as_its_adjoint(n: int) -> None:
    def removed(readouts: torch.Tensor) -> torch.Tensor:
        return torch.from_numpy(remove_oversampling(readouts.numpy(), 2))

    def padded(readouts: torch.Tensor) -> torch.Tensor:
        return to_kspace(crop_or_pad(to_image(readouts, [-1]), [n], [-1]), [-1])

    assert_adjoint(removed, padded, (2, 3, n), (2, 3, 8))


def test_impossible_requests_are_refused() -> None:
    image = torch.zeros(4, 6)
    for sizes, dims in [((3,), (0, 1)), ((3, 3), (0, -2)), ((3,), (2,))]:
        with pytest.raises(ShapeError, match="each axis once"):
            crop_or_pad(image, sizes, dims)
    with pytest.raises(ShapeError, match="at least one"):
        crop_or_pad(image, (0, 3))
    with pytest.raises(ShapeError, match="as many"):
        resample_fov(image, [1], [1, 1], [4, 6])
    with pytest.raises(ShapeError, match="must be positive"):
        resample_fov(image, [0, 1], [1, 1], [4, 6])
    samples = np.zeros((1, 2, 16), np.complex64)
    with pytest.raises(ShapeError, match=r"factor is 0\.5"):
        remove_oversampling(samples, 0.5)
    with pytest.raises(ShapeError, match="do not fit"):
        remove_oversampling(samples, 2, grid=20, center_sample=12)
    with pytest.raises(ShapeError, match="do not fit"):
        remove_oversampling(samples, 2, grid=12)
    with pytest.raises(ShapeError, match="coil"):
        remove_oversampling(samples[0], 2)


@pytest.mark.parametrize("n", [1, 3])
def test_oversampling_of_views_into_a_receive_buffer(n: int) -> None:
    # The stride from readout to readout is no multiple of a sample, wherever the first one happens to lie.
    record = np.dtype([("head", "V342"), ("samples", np.complex64, (2, 16))])
    for offset in range(8):
        memory = np.zeros(record.itemsize * n + 8, np.uint8)
        records = np.ndarray((n,), record, memory.data, offset)
        records["samples"] = np.random.default_rng(0).standard_normal((n, 2, 16))
        view = records["samples"]
        np.testing.assert_array_equal(remove_oversampling(view, 2.0), remove_oversampling(view.copy(), 2.0))
