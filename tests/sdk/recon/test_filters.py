"""k-space windows against SciPy's, and against what Gadgetron did to a real scan."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.signal
import torch

from scanside.errors import ConfigError, ShapeError
from scanside.recon.filters import apply_window, gaussian, hann, to_unit_noise, tukey
from scanside.recon.fourier import to_image, to_kspace


@pytest.mark.parametrize(("n", "reach"), [(16, 5), (17, 8), (24, 11), (9, 0)])
@pytest.mark.parametrize("taper", [0.0, 0.3, 1.0])
def test_tukey_and_hann_are_scipys_with_zeros_outside(n: int, reach: int, taper: float) -> None:
    center = n // 2
    window = tukey(n, center - reach, center + reach, taper=taper)
    expected = np.zeros(n)
    # SciPy's window has its zeros at both ends.
    expected[center - reach : center + reach + 1] = scipy.signal.windows.tukey(2 * reach + 3, taper)[1:-1]
    np.testing.assert_allclose(window, expected, atol=1e-14)
    if taper == 1:
        torch.testing.assert_close(hann(n, center - reach, center + reach), window)


@pytest.mark.parametrize(("n", "reach", "sigma"), [(16, 5, 1.0), (17, 8, 2.5), (24, 11, 0.0)])
def test_gaussian_is_scipys(n: int, reach: int, sigma: float) -> None:
    center = n // 2
    window = gaussian(n, center - reach, center + reach, sigma=sigma)
    std = reach / sigma if sigma else 1e9
    expected = scipy.signal.windows.gaussian(2 * reach + 1, std)
    np.testing.assert_allclose(window[center - reach : center + reach + 1], expected, atol=1e-14)
    assert window.count_nonzero() == 2 * reach + 1


RANGES = [(16, 0, 15), (15, 0, 14), (144, 18, 123), (32, 10, 31), (1, 0, 0)]


@pytest.mark.parametrize("make", [gaussian, hann, tukey])
@pytest.mark.parametrize(("n", "first", "last"), RANGES)
def test_windows_are_even_and_one_at_the_centre(make, n: int, first: int, last: int) -> None:
    window = make(n, first, last)
    center = n // 2
    assert window.dtype == torch.float64
    assert window[center] == 1
    assert (window[first : last + 1] > 0).all()
    assert not window[:first].any()
    assert not window[last + 1 :].any()
    for step in range(1, min(center - first, last - center) + 1):
        assert window[center - step] == window[center + step]


def test_filtering_neither_shifts_nor_changes_the_mean() -> None:
    image = torch.zeros(16, 12, dtype=torch.complex64)
    image[5, 7] = 2 + 1j
    kspace = to_kspace(image)
    filtered = apply_window(apply_window(kspace, gaussian(16, 1, 15), -2), hann(12, 1, 11), -1)
    blurred = to_image(filtered)
    torch.testing.assert_close(blurred.sum(), image.sum())
    assert blurred.abs().argmax() == image.abs().argmax()
    torch.testing.assert_close(blurred.angle()[5, 7], image.angle()[5, 7])
    assert filtered.dtype == torch.complex64


def test_noise_keeps_its_standard_deviation() -> None:
    window = to_unit_noise(gaussian(64, 10, 54, sigma=1.5))
    noise = torch.randn(4000, 64, dtype=torch.complex64, generator=torch.Generator().manual_seed(0))
    noise[:, :10] = noise[:, 55:] = 0
    kept = to_image(apply_window(noise, window, -1), (-1,)).abs().square().mean()
    torch.testing.assert_close(kept, noise.abs().square().mean(), rtol=0.01, atol=0)


def test_gadgetrons_filter_of_a_real_scan(recorded_array, gadgetron_image) -> None:
    """From the image array before the filter to the image after it, rounded to integers.

    Gadgetron keeps the noise level (`to_unit_noise`) and multiplies images in SNR units by ten. What is left
    comes from the outermost lines, which GRAPPA fills a little beyond the sampled range.
    """
    before = torch.from_numpy(
        recorded_array("grappa.image_array", (192, 144, 1, 1, 1, 1, 1)).squeeze().copy()
    )

    def error(sigma: float, *, scale: float | None = None) -> float:
        phase, read = gaussian(144, 18, 123, sigma=sigma), gaussian(192, 0, 191, sigma=sigma)
        if scale is not None:
            phase, read = to_unit_noise(phase), to_unit_noise(read)
        kspace = apply_window(apply_window(to_kspace(before), phase, -2), read, -1)
        after = to_image(kspace).abs().numpy().astype(float)
        best = (after * gadgetron_image).sum() / (after**2).sum() if scale is None else scale
        return float(np.linalg.norm(best * after - gadgetron_image) / np.linalg.norm(gadgetron_image))

    assert error(1.0) < 0.004
    assert error(0.0) > 0.02
    assert error(1.2) > 2 * error(1.0)
    assert error(0.8) > 2 * error(1.0)
    assert error(1.0, scale=10) < 0.006


def test_bad_settings_are_refused() -> None:
    with pytest.raises(ConfigError, match="sigma"):
        gaussian(16, 0, 15, sigma=-1)
    with pytest.raises(ConfigError, match="sigma"):
        gaussian(16, 0, 15, sigma=float("nan"))
    with pytest.raises(ConfigError, match="taper"):
        tukey(16, 0, 15, taper=1.5)
    for first, last in [(-1, 15), (0, 16), (9, 15), (0, 7)]:
        with pytest.raises(ShapeError, match="centre"):
            hann(16, first, last)
    with pytest.raises(ShapeError, match="zero throughout"):
        to_unit_noise(torch.zeros(4))
    for dim in (-2, 3):
        with pytest.raises(ShapeError, match="does not fit"):
            apply_window(torch.zeros(3, 8, 16, dtype=torch.complex64), hann(16, 0, 15), dim)
