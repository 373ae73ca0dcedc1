"""Noise covariance and whitening against made-up noise of known covariance and against a real scan."""

from __future__ import annotations

import logging

import numpy as np
import pytest

from scanside.errors import CalibrationError, NonFiniteError, ShapeError
from scanside.recon.noise import NoiseStatistics, dead_channels, noise_covariance, whiten, whitening_matrix


def mixing(n_coils: int, rng: np.random.Generator) -> np.ndarray:
    gains = 10.0 ** rng.uniform(-7, -4, size=n_coils)
    matrix = rng.normal(size=(n_coils, n_coils)) + 1j * rng.normal(size=(n_coils, n_coils))
    return gains[:, None] * (0.3 * matrix + 2 * np.eye(n_coils))


def white(shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    """Complex noise of unit variance per real and imaginary part."""
    return rng.normal(size=shape) + 1j * rng.normal(size=shape)


@pytest.mark.parametrize("n_coils", [1, 5, 16])
def test_whitened_noise_has_unit_variance_per_part(n_coils: int) -> None:
    rng = np.random.default_rng(n_coils)
    mix = mixing(n_coils, rng)
    noise_dwell, dwell, ratio = 20.0, 2.4, 0.793
    # The imaging scan samples faster, so it has more noise; its band's middle has 1/ratio of the mean power.
    noise = (mix @ white((40, n_coils, 256), rng)).astype(np.complex64)
    data = (mix @ white((40, n_coils, 257), rng) * np.sqrt(noise_dwell / dwell / ratio)).astype(np.complex64)
    matrix = whitening_matrix(
        noise_covariance(noise), noise_dwell_us=noise_dwell, dwell_us=dwell, receiver_bandwidth_ratio=ratio
    )
    result = whiten(data, matrix)
    assert result.dtype == np.complex64
    flat = result.transpose(1, 0, 2).reshape(n_coils, -1)
    parts = np.cov(np.concatenate([flat.real, flat.imag]))
    np.testing.assert_allclose(parts, np.eye(2 * n_coils), atol=0.06)


def test_covariance_is_that_of_numpy_however_it_is_added() -> None:
    rng = np.random.default_rng(0)
    blocks = [
        (mixing(4, rng) @ white((n, 4, s), rng)).astype(np.complex64) for n, s in [(3, 50), (1, 7), (9, 64)]
    ]
    statistics = NoiseStatistics()
    for block in blocks:
        statistics.add(block)
    flat = np.concatenate([b.transpose(1, 0, 2).reshape(4, -1) for b in blocks], axis=1).astype(complex)
    assert statistics.n_samples == flat.shape[1] == 3 * 50 + 7 + 9 * 64
    covariance = statistics.covariance()
    assert covariance.dtype == np.complex128
    np.testing.assert_allclose(covariance, flat @ flat.conj().T / flat.shape[1], rtol=1e-12)
    np.testing.assert_array_equal(covariance, covariance.conj().T)


def test_whitening_undoes_the_covariance() -> None:
    rng = np.random.default_rng(1)
    mix = mixing(6, rng)
    covariance = mix @ mix.conj().T
    matrix = whitening_matrix(covariance)
    np.testing.assert_allclose(matrix @ covariance @ matrix.conj().T, 2 * np.eye(6), atol=1e-9)
    np.testing.assert_array_equal(matrix, np.tril(matrix))


def test_unaligned_views_into_a_buffer_are_whitened_like_copies() -> None:
    rng = np.random.default_rng(2)
    n, n_coils, n_samples, header = 5, 3, 17, 342
    record = header + 8 * n_coils * n_samples
    buffer = np.zeros(2 + n * record, np.uint8)
    first = np.ndarray((1,), np.complex64, buffer, offset=header)
    view = np.lib.stride_tricks.as_strided(first, (n, n_coils, n_samples), (record, 8 * n_samples, 8))
    view[...] = white(view.shape, rng)
    assert not view.flags.aligned
    matrix = whitening_matrix(noise_covariance(view))
    np.testing.assert_allclose(whiten(view, matrix), matrix @ view.astype(complex), rtol=2e-5, atol=1e-5)


def test_dead_channels_are_named() -> None:
    noise = white((4, 6, 64), np.random.default_rng(3))
    noise[:, 2] = 0
    noise[:, 5] *= 1e-4
    with pytest.raises(CalibrationError, match=r"coils \[2, 5\] of 6"):
        whitening_matrix(noise_covariance(noise))
    assert dead_channels(noise_covariance(noise)) == [2, 5]
    assert dead_channels(noise_covariance(noise[:, [0, 1, 3, 4]])) == []
    with pytest.raises(CalibrationError, match=r"coils \[0, 1\] of 2"):
        whitening_matrix(np.zeros((2, 2), complex))


def test_weak_channels_are_neither_dead_nor_singular(caplog: pytest.LogCaptureFixture) -> None:
    noise = white((8, 3, 256), np.random.default_rng(4)) * np.array([1, 0.01, 1])[:, None]
    matrix = whitening_matrix(noise_covariance(noise))
    assert matrix[1, 1].real == pytest.approx(100, rel=0.05)
    assert not caplog.records


def test_singular_covariance_is_loaded_with_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    noise = white((1, 8, 5), np.random.default_rng(5))
    with caplog.at_level(logging.WARNING):
        matrix = whitening_matrix(noise_covariance(noise))
    assert "singular" in caplog.text
    assert np.isfinite(matrix).all()
    whitened = matrix @ noise_covariance(noise) @ matrix.conj().T
    assert np.linalg.eigvalsh(whitened)[-1] == pytest.approx(2, rel=1e-4)


def test_bad_input_is_refused() -> None:
    noise = white((2, 3, 40), np.random.default_rng(6))
    covariance = noise_covariance(noise)
    statistics = NoiseStatistics()
    with pytest.raises(CalibrationError, match="no noise samples"):
        statistics.covariance()
    with pytest.raises(CalibrationError, match="no noise samples"):
        noise_covariance(noise[:0])
    statistics.add(noise)
    with pytest.raises(ShapeError, match="2 coils follow others with 3"):
        statistics.add(noise[:, :2])
    with pytest.raises(ShapeError, match="sample"):
        noise_covariance(noise[0])
    poisoned = noise.copy()
    poisoned[0, 1, 5] = np.nan
    with pytest.raises(NonFiniteError, match=r"coils \[1\]"):
        statistics.add(poisoned)
    np.testing.assert_array_equal(statistics.covariance(), covariance)
    with pytest.raises(CalibrationError, match="noise_dwell_us is 0"):
        whitening_matrix(covariance, noise_dwell_us=0.0)
    with pytest.raises(NonFiniteError):
        whitening_matrix(covariance * np.nan)
    with pytest.raises(ShapeError, match="coil, coil"):
        whitening_matrix(covariance[:2])
    with pytest.raises(ShapeError, match="3 coils"):
        whiten(noise[:, :2].astype(np.complex64), whitening_matrix(covariance))


def test_real_noise_becomes_white(skyra) -> None:
    matrix = whitening_matrix(noise_covariance(skyra.noise))
    whitened = whiten(skyra.noise, matrix)
    np.testing.assert_allclose(noise_covariance(whitened), 2 * np.eye(14), atol=1e-4)
    assert whitened.real.var() == pytest.approx(1, rel=0.05)


def test_scale_of_a_real_scan_is_that_of_the_recorded_reconstruction(skyra, recorded_array) -> None:
    """Gadgetron's k-space of the scan, after whitening, removal of oversampling and coil compression.

    Compression to 11 of 14 virtual coils took a little energy from each line, most from the weak ones.
    """
    recorded = recorded_array("grappa.recon_data_with_reference", (192, 144, 1, 11, 1, 1, 1)).squeeze()
    ratios = []
    for line, row in zip(whiten(skyra.lines, skyra.whitening), skyra.rows, strict=True):
        there = np.linalg.norm(recorded[:, row])
        if there > 0:
            image = np.fft.fftshift(np.fft.ifft(line, norm="ortho"), axes=-1)
            ratios.append(np.linalg.norm(image[:, 96:288]) / there)
    assert len(ratios) == 36
    assert 1.0 < min(ratios) < 1.003
    assert max(ratios) < 1.011
