"""Positions of samples against the integral of the gradient, and regridding against direct Fourier sums."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from scanside.errors import ShapeError
from scanside.recon.epi.trapezoid import Trapezoid, regridding

pytestmark = pytest.mark.torch_free

N = 64


@pytest.mark.parametrize("ramps", [(120.0, 120.0), (60.0, 150.0), (0.0, 200.0)])
def test_positions_are_the_integral_of_the_gradient(ramps: tuple[float, float]) -> None:
    trapezoid = Trapezoid(ramps[0], 400.0, ramps[1], 7.0, 80)
    total = ramps[0] + 400.0 + ramps[1]
    assert trapezoid.delay_us == pytest.approx((total - 560) / 2)
    fine = np.linspace(0, total, 400_001)
    gradient = np.interp(fine, [0, ramps[0], ramps[0] + 400.0, total], [float(not ramps[0]), 1, 1, 0])
    moment = np.concatenate([[0], np.cumsum((gradient[1:] + gradient[:-1]) / 2) * (fine[1] - fine[0])])
    at = trapezoid.delay_us + 7.0 * (np.arange(80) + 1)
    wanted = np.interp(at, fine, moment) - moment[-1] / 2
    ends = np.interp([trapezoid.delay_us, trapezoid.delay_us + 560], fine, moment)
    np.testing.assert_allclose(trapezoid.positions(N), wanted * N / np.ptp(ends), atol=1e-4)


def test_without_ramps_samples_lie_at_equal_distances() -> None:
    trapezoid = Trapezoid(0, 640, 0, 10, N)
    assert not trapezoid.has_ramps
    np.testing.assert_allclose(trapezoid.positions(N), np.arange(N) + 1 - N / 2)


def test_a_flat_top_of_nothing_and_samples_on_the_flat_top_alone_are_no_ramps() -> None:
    assert not Trapezoid(300, 0, 300, 5, N).has_ramps
    assert not Trapezoid(100, 700, 100, 10, N).has_ramps
    assert Trapezoid(100, 600, 100, 10, N).has_ramps


def line_of(k: npt.NDArray[np.float64], image: npt.NDArray[np.complex128]) -> npt.NDArray[np.complex128]:
    """The Fourier sum of an image ``(x)`` at positions in steps of its grid."""
    x = (np.arange(len(image)) - len(image) // 2) / len(image)
    return np.exp(-2j * np.pi * np.outer(k, x)) @ image


@pytest.mark.parametrize("n_samples", [N, 96])
@pytest.mark.parametrize("way", [1, -1])
def test_regridding_gives_what_the_grid_would_have_sampled(n_samples: int, way: int) -> None:
    rng = np.random.default_rng(0)
    image = np.zeros(N, np.complex128)
    inside = slice(N // 4 + 2, 3 * N // 4 - 2)  # with oversampling, as every readout has
    image[inside] = rng.standard_normal(N // 2 - 4) + 1j * rng.standard_normal(N // 2 - 4)
    trapezoid = Trapezoid(120, 760, 120, 960 / n_samples, n_samples)
    k = way * trapezoid.positions(N)
    samples, grid = line_of(k, image), np.arange(N) - N // 2
    wanted = line_of(grid.astype(float), image)
    found = regridding(k, N) @ samples
    got_image = np.fft.fftshift(np.fft.ifft(np.fft.ifftshift(found)))
    assert np.linalg.norm(got_image[inside] - image[inside]) < 0.03 * np.linalg.norm(image)
    low = slice(4, -4)  # the ends lack neighbours
    assert np.linalg.norm((found - wanted)[low]) < 0.05 * np.linalg.norm(wanted)
    naive = np.interp(np.linspace(0, 1, N), np.linspace(0, 1, n_samples), samples[::way])
    assert np.linalg.norm((naive - wanted)[low]) > 0.5 * np.linalg.norm(wanted)


@pytest.mark.parametrize(
    ("times", "text"),
    [
        ((-1, 400, 100, 5, N), "times cannot be negative"),
        ((100, 400, 100, 0, N), "there must be samples"),
        ((100, 400, 100, 5, 0), "there must be samples"),
        ((100, 400, 100, 10, N), "640 µs, longer than their gradient of 100 . 400 . 100 µs"),
    ],
)
def test_gradients_that_cannot_be(times: tuple[float, float, float, float, int], text: str) -> None:
    with pytest.raises(ShapeError, match=text):
        Trapezoid(*times)
