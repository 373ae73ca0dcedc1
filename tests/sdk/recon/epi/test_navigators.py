"""Phases of navigators that are known."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from scanside.errors import ShapeError
from scanside.recon.epi.navigators import B0Model, PhaseModel, phases_of_navigators, places

pytestmark = pytest.mark.torch_free

N = 96
X = places(N)
INSIDE = np.abs(X) < 0.3


def navigators(
    n: int,
    odd_even: npt.ArrayLike,
    per_echo: npt.ArrayLike,
    *,
    first_backwards: bool = False,
    noise: float = 0,
) -> npt.NDArray[np.complex128]:
    """Echoes ``(n, coil, x)`` of an object within `INSIDE`, seen by three coils."""
    rng = np.random.default_rng(1)
    coils = np.exp(-((X - np.array([[-0.3], [0.0], [0.3]])) ** 2) / 0.1) * np.exp(
        1j * rng.uniform(0, 6, (3, 1))
    )
    profile = coils * INSIDE * (1 + 0.5 * np.cos(20 * X)) * np.exp(3j * X)
    echo = np.arange(n)[:, None]
    backwards = (echo % 2 == 1) != first_backwards
    phase = echo * np.asarray(per_echo) + backwards * np.asarray(odd_even)
    drawn = rng.standard_normal((2, n, 3, N))
    return profile * np.exp(1j * phase)[:, None] + noise * (drawn[0] + 1j * drawn[1])


@pytest.mark.parametrize("first_backwards", [False, True])
@pytest.mark.parametrize("n", [3, 4, 5])
@pytest.mark.parametrize(
    ("model", "phase"),
    [
        ("mean", np.full(N, 0.7)),
        ("linear", 2.5 + 9 * X),
        ("polynomial", 0.5 - 14 * X + 6 * X**2 - 5 * X**3 + 20 * X**4),
    ],
)
def test_phases_between_directions(
    model: PhaseModel, phase: npt.NDArray[np.float64], n: int, first_backwards: bool
) -> None:
    echoes = navigators(n, phase, 0.3, first_backwards=first_backwards)
    found = phases_of_navigators(echoes, first_backwards=first_backwards, odd_even=model)
    difference = np.angle(np.exp(1j * (found.odd_even - phase)))
    assert np.abs(difference[INSIDE]).max() < 0.02
    np.testing.assert_allclose(found.per_echo, 0.3, atol=1e-3)
    # With the sign of the wrong direction it would be off by twice the phase.
    wrong = phases_of_navigators(echoes, first_backwards=not first_backwards, odd_even=model)
    assert np.abs(np.angle(np.exp(1j * (wrong.odd_even - phase)))[INSIDE]).max() > 0.5


@pytest.mark.parametrize(("model", "phase"), [("mean", np.full(N, -0.6)), ("linear", 0.4 - 1.5 * X)])
def test_phases_from_echo_to_echo(model: B0Model, phase: npt.NDArray[np.float64]) -> None:
    found = phases_of_navigators(navigators(3, 0.5, phase), first_backwards=False, per_echo=model)
    np.testing.assert_allclose(found.per_echo[INSIDE], phase[INSIDE], atol=2e-3)
    np.testing.assert_allclose(found.odd_even[INSIDE], 0.5, atol=1e-2)


def test_correction_takes_both_phases_away() -> None:
    phase, per_echo = 0.8 + 3 * X, 0.2 + 0 * X
    echoes = navigators(8, phase, per_echo)
    found = phases_of_navigators(echoes[:3], first_backwards=False)
    corrected = echoes * found.correction(np.arange(8) % 2 == 1, np.arange(8))[:, None]
    error = np.abs(corrected - corrected[0]).max() / np.abs(corrected).max()
    assert error < 0.01 < np.abs(echoes - echoes[0]).max() / np.abs(echoes).max()


def test_noise_outside_the_object_counts_little() -> None:
    found = phases_of_navigators(navigators(3, 0.5 + 4 * X, 0, noise=0.02), first_backwards=False)
    assert np.abs((found.odd_even - 0.5 - 4 * X)[INSIDE]).max() < 0.05


def test_models_of_none() -> None:
    found = phases_of_navigators(
        navigators(3, 0.5, 0.3), first_backwards=False, odd_even="none", per_echo="none"
    )
    assert not found.odd_even.any()
    assert not found.per_echo.any()


def test_two_navigators_do_not_suffice() -> None:
    with pytest.raises(ShapeError, match="three navigators or more, got 2"):
        phases_of_navigators(navigators(2, 0, 0), first_backwards=False)
