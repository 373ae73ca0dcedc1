"""The phase between directions from lines whose phase is known."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from scanside.recon.epi.entropy import phase_of_least_entropy
from scanside.recon.epi.navigators import places

pytestmark = pytest.mark.torch_free

NY, NX = 48, 64
X = places(NX)


def parts(phase: npt.NDArray[np.float64]) -> tuple[npt.NDArray[np.complex128], npt.NDArray[np.complex128]]:
    """Images of forward and of reversed lines of an object with some structure, two coils."""
    rng = np.random.default_rng(3)
    y = places(NY)[:, None]
    body = ((y / 0.32) ** 2 + (X / 0.28) ** 2 < 1) * (1 + 0.5 * np.cos(25 * X) * np.cos(18 * y))
    coils = np.stack([np.exp(1j * y - 2 * (X - 0.3) ** 2), np.exp(2j * X - 2 * (y + 0.3) ** 2)])
    kspace = np.fft.fft(body * coils, axis=1)
    kspace += 0.05 * (rng.standard_normal(kspace.shape) + 1j * rng.standard_normal(kspace.shape))
    odd = (np.arange(NY) % 2 == 1)[:, None]
    return np.fft.ifft(kspace * ~odd, axis=1), np.fft.ifft(kspace * np.exp(1j * phase) * odd, axis=1)


@pytest.mark.parametrize(("constant", "slope"), [(0.0, 0.0), (0.6, 0.0), (-1.1, 5.0), (0.3, -9.0)])
def test_constant_and_slope_are_found(constant: float, slope: float) -> None:
    phase = constant + slope * X
    found = phase_of_least_entropy(*parts(phase))
    assert np.abs(found - phase)[np.abs(X) < 0.28].max() < 0.03


def test_constant_alone() -> None:
    found = phase_of_least_entropy(*parts(np.full(NX, -0.8)), slope=False)
    np.testing.assert_allclose(found, -0.8, atol=0.02)
    assert np.ptp(found) == 0


def test_nothing_has_no_phase() -> None:
    nothing = np.zeros((2, NY, NX), np.complex64)
    assert not phase_of_least_entropy(nothing, nothing).any()


def test_half_a_turn_cannot_be_told() -> None:
    """Object and ghost change places: the smaller constant is taken."""
    found = phase_of_least_entropy(*parts(np.full(NX, np.pi - 0.3)))
    np.testing.assert_allclose(found[np.abs(X) < 0.28], -0.3, atol=0.03)
