"""Low rank plus sparse against closed forms, sigpy's operators and a plain proximal gradient method in NumPy."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import sigpy
import torch

from scanside.recon.low_rank_sparse import (
    low_rank_plus_sparse,
    shrink_singular_values,
    shrink_temporal_frequencies,
)

Array = npt.NDArray[np.complex128]


def random(*shape: int, seed: int = 0) -> Array:
    real, imag = np.random.default_rng(seed).standard_normal((2, *shape))
    return np.asarray(real + 1j * imag)


def svt(film: Array, threshold: float) -> Array:
    left, values, right = np.linalg.svd(film.reshape(len(film), -1), full_matrices=False)
    return np.asarray((left * sigpy.soft_thresh(threshold, values)) @ right).reshape(film.shape)


def shrink(film: Array, threshold: float) -> Array:
    spectrum = np.fft.fft(film, axis=0, norm="ortho")
    return np.asarray(np.fft.ifft(sigpy.soft_thresh(threshold, spectrum), axis=0, norm="ortho"))


@pytest.mark.parametrize("shape", [(6, 40), (9, 2, 3), (5, 1, 8, 8)])
def test_singular_values_shrink(shape: tuple[int, ...]) -> None:
    film = random(*shape)
    values = np.linalg.svd(film.reshape(len(film), -1), compute_uv=False)
    for threshold in (0.0, float(values[2]), float(values[0])):
        found, rank = shrink_singular_values(torch.from_numpy(film), threshold)
        np.testing.assert_allclose(found.numpy(), svt(film, threshold), atol=1e-6 * values[0])
        if threshold:  # rounding decides about singular values that are zero, or the threshold itself
            assert abs(rank - int((values > threshold).sum())) <= 1
    single, rank = shrink_singular_values(torch.from_numpy(film.astype(np.complex64)), float(values[2]))
    np.testing.assert_allclose(single.numpy(), svt(film, float(values[2])), atol=1e-4 * values[0])


def test_temporal_frequencies_shrink() -> None:
    film = random(7, 4, 5)
    film[:, 0] = 0
    found = shrink_temporal_frequencies(torch.from_numpy(film), 0.8)
    np.testing.assert_allclose(found.numpy(), shrink(film, 0.8), atol=1e-12)


def synthetic(n_frames: int = 24) -> tuple[Array, Array]:
    """A background that keeps still ``(time, y, x)``, and a few voxels that oscillate with single frequencies."""
    time = np.arange(n_frames)[:, None, None] / n_frames
    background = np.broadcast_to(random(1, 16, 16, seed=3), (n_frames, 16, 16))
    motion = np.zeros((n_frames, 16, 16), np.complex128)
    rng = np.random.default_rng(4)
    places = rng.choice(256, 12, replace=False)
    for place, cycles in zip(places, rng.integers(1, n_frames, 12), strict=True):
        motion[:, place // 16, place % 16] = 3 * np.exp(2j * np.pi * cycles * time[:, 0, 0])
    return np.asarray(background.copy()), motion


def test_a_synthetic_film_is_separated() -> None:
    """Nothing is undersampled, so the two parts alone are looked for."""
    background, motion = synthetic()
    film = torch.from_numpy(background + motion)
    result = low_rank_plus_sparse(
        lambda x: x, film, low_rank=0.3, sparse=0.1, tolerance=1e-7, max_iterations=3000
    )
    assert result.converged
    assert result.rank == 1
    # The thresholds are what is off: λ_L of the singular value, λ_S of every frequency.
    assert np.linalg.norm(result.low_rank.numpy() - background) < 0.03 * np.linalg.norm(background)
    assert np.linalg.norm(result.sparse.numpy() - motion) < 0.05 * np.linalg.norm(motion)
    # With the weights exchanged nothing is separated.
    other = low_rank_plus_sparse(
        lambda x: x, film, low_rank=0.1, sparse=10.0, tolerance=1e-7, max_iterations=300
    )
    assert np.linalg.norm(other.sparse.numpy()) < 0.1 * np.linalg.norm(motion)


def problem(seed: int = 5) -> tuple[Any, torch.Tensor, Array]:
    """Undersampled along y, other lines in each frame: normal operator, ``Aᴴ y`` and mask ``(time, y, 1)``."""
    background, motion = synthetic()
    mask = np.random.default_rng(seed).random((24, 16, 1)) < 0.5

    def normal(x: torch.Tensor) -> torch.Tensor:
        kspace = torch.fft.fft(x, dim=1, norm="ortho") * torch.from_numpy(mask)
        return torch.fft.ifft(kspace, dim=1, norm="ortho")

    return normal, normal(torch.from_numpy(background + motion)), mask


def objective(low: Array, sparse: Array, mask: Array, rhs: Array, weights: tuple[float, float]) -> float:
    """``½ |A x|² − Re⟨x, Aᴴ y⟩`` and the penalties: the minimised function without its constant."""
    film = low + sparse
    fit = 0.5 * np.linalg.norm(np.fft.fft(film, axis=1, norm="ortho") * mask) ** 2 - np.vdot(rhs, film).real
    values = np.linalg.svd(low.reshape(len(low), -1), compute_uv=False)
    spectrum = np.fft.fft(sparse, axis=0, norm="ortho")
    return float(fit + weights[0] * values.sum() + weights[1] * np.abs(spectrum).sum())


def test_same_minimum_as_plain_proximal_gradients() -> None:
    normal, rhs, mask = problem()
    weights = (0.3, 0.1)
    result = low_rank_plus_sparse(
        normal, rhs, low_rank=weights[0], sparse=weights[1], tolerance=1e-9, max_iterations=600
    )
    low, sparse = np.zeros(rhs.shape, np.complex128), np.zeros(rhs.shape, np.complex128)
    data = rhs.numpy()
    for _ in range(1200):
        gradient = np.fft.ifft(np.fft.fft(low + sparse, axis=1) * mask, axis=1) - data
        low, sparse = (
            svt(low - 0.5 * gradient, 0.5 * weights[0]),
            shrink(sparse - 0.5 * gradient, 0.5 * weights[1]),
        )
    expected = objective(low, sparse, mask, data, weights)
    found = objective(result.low_rank.numpy(), result.sparse.numpy(), mask, data, weights)
    assert found == pytest.approx(expected, rel=1e-4)
    film = low + sparse
    assert np.linalg.norm(result.film.numpy() - film) < 1e-2 * np.linalg.norm(film)
    # Another weight has another minimum.
    other = low_rank_plus_sparse(
        normal, rhs, low_rank=3.0, sparse=weights[1], tolerance=1e-9, max_iterations=300
    )
    assert objective(other.low_rank.numpy(), other.sparse.numpy(), mask, data, weights) > expected * (
        1 - 1e-6
    )


def test_undersampling_is_undone() -> None:
    normal, rhs, _ = problem()
    background, motion = synthetic()
    truth = background + motion
    result = low_rank_plus_sparse(normal, rhs, low_rank=0.3, sparse=0.03, tolerance=1e-5, max_iterations=2000)

    def error(film: Array) -> float:
        return float(np.linalg.norm(film - truth) / np.linalg.norm(truth))

    assert error(result.film.numpy()) < 0.05 < 0.4 < error(rhs.numpy())


def test_progress_is_told() -> None:
    normal, rhs, _ = problem()
    short = low_rank_plus_sparse(normal, rhs, low_rank=1.0, sparse=0.1, tolerance=1e-6, max_iterations=3)
    assert (short.iterations, short.converged) == (3, False)
    long = low_rank_plus_sparse(normal, rhs, low_rank=1.0, sparse=0.1, tolerance=1e-2, max_iterations=200)
    assert long.converged
    assert float(long.changes[-1]) <= 1e-2 < float(long.changes[-2])
    nothing = low_rank_plus_sparse(
        normal, torch.zeros_like(rhs), low_rank=1.0, sparse=0.1, tolerance=1e-2, max_iterations=5
    )
    assert nothing.converged
    assert not bool(nothing.film.any())
