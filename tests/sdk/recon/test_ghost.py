"""Ghosts of known strength."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from scanside.recon.ghost import ghost_level

pytestmark = pytest.mark.torch_free

N = 96


def disc(height: float = 0.35) -> npt.NDArray[np.float64]:
    y, x = np.mgrid[:N, :N] / N - 0.5
    return ((y / height) ** 2 + (x / 0.35) ** 2 < 1).astype(float)


@pytest.mark.parametrize("shift", [N // 2, N // 4, 3 * N // 4])
@pytest.mark.parametrize("strength", [0.0, 0.01, 0.1, 0.3])
def test_level_is_the_ghosts_share(shift: int, strength: float) -> None:
    image = disc()
    image += strength * np.roll(image, shift, axis=0)
    found = ghost_level(image)
    assert found is not None
    assert found == pytest.approx(
        strength, rel=0.25, abs=1e-3
    )  # the object brightens where it overlaps its ghost


@pytest.mark.parametrize("strength", [0.0, 0.1])
def test_floor_of_noise_is_no_ghost(strength: float) -> None:
    rng = np.random.default_rng(0)
    image = disc() + strength * np.roll(disc(), N // 2, axis=0)
    noisy = np.abs(image + 0.02 * (rng.standard_normal(image.shape) + 1j * rng.standard_normal(image.shape)))
    found = ghost_level(noisy)
    assert found is not None
    floor = noisy[:, :6].mean()
    assert floor > 0.024
    assert strength - floor < found < strength + 0.005


def test_dark_parts_within_the_object_are_no_background() -> None:
    image = disc()
    image[N // 2 - 10 : N // 2 + 10, N // 2 - 10 : N // 2 + 10] = 0.2
    assert ghost_level(image) == 0


@pytest.mark.parametrize("image", [np.zeros((N, N)), disc(5.0)])
def test_nothing_to_measure(image: npt.NDArray[np.float64]) -> None:
    assert ghost_level(image) is None
