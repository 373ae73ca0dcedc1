"""Lines of both directions made one k-space, against what forward echoes measured."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from scanside.errors import CalibrationError, ShapeError
from scanside.recon.epi.dual_polarity import DualPolarity

pytestmark = pytest.mark.torch_free

N, COILS = 48, 6
Array = npt.NDArray[Any]


def kspaces() -> tuple[Array, Array]:
    """A disc seen by coils, ``(k1, coil, k0)``, without and with a phase that changes along both axes."""
    x = (np.arange(N) - N // 2) / N
    disc = (np.hypot(x[:, None], x) < 0.35) * (1 + 0.5 * np.cos(9 * x[:, None] + 4 * x))
    angles = 2 * np.pi * np.arange(COILS) / COILS
    maps = [1 / (0.2 + (x[:, None] - 0.5 * np.sin(a)) ** 2 + (x - 0.5 * np.cos(a)) ** 2) for a in angles]
    images = disc * np.stack(maps)
    phase = 8 * x[:, None] * x + 6 * x[:, None] ** 2
    both = []
    for image in (images, images * np.exp(1j * phase)):
        k = np.fft.fftshift(np.fft.fft2(np.fft.ifftshift(image, axes=(1, 2))), axes=(1, 2))
        both.append(k.swapaxes(0, 1).astype(np.complex64))
    return both[0], both[1]


def by_place(kspace: Array, places: range) -> dict[int, Array]:
    return {k1: kspace[k1] for k1 in places}


@pytest.mark.parametrize("step", [1, 2])
def test_reversed_lines_become_forward_ones(step: int) -> None:
    forwards, backwards = kspaces()
    acs = range(8, 40)
    kernels = DualPolarity(by_place(forwards, acs), by_place(backwards, acs))
    k1 = np.arange(0, N, step)
    turned = np.arange(len(k1)) % 2 == 1
    lines = np.where(turned[:, None, None], backwards[k1], forwards[k1])
    made = kernels.corrected(lines, k1, turned)

    def off(which: Array) -> float:
        return float(np.linalg.norm(which - forwards[k1]) / np.linalg.norm(forwards[k1]))

    assert off(made) < 0.02 < 0.1 < off(lines)
    # The order in which lines come changes nothing.
    order = np.random.default_rng(0).permutation(len(k1))
    assert np.allclose(kernels.corrected(lines[order], k1[order], turned[order]), made[order])


def test_references_of_one_direction() -> None:
    forwards, backwards = kspaces()
    text = (
        "of 16 forward and 16 reversed calibration lines, 0 adjacent ones came in both directions; .* acquire"
    )
    with pytest.raises(CalibrationError, match=text):
        DualPolarity(by_place(forwards, range(8, 40, 2)), by_place(backwards, range(9, 40, 2)))


def test_lines_too_far_apart_for_the_references() -> None:
    forwards, backwards = kspaces()
    kernels = DualPolarity(by_place(forwards, range(20, 28)), by_place(backwards, range(20, 28)))
    with pytest.raises(
        CalibrationError, match=r"8 adjacent calibration lines .* lie 4 apart: .* needs 10 or more"
    ):
        kernels.corrected(forwards[::4], np.arange(0, N, 4), np.zeros(N // 4, bool))


def test_references_of_nothing() -> None:
    nothing = {k1: np.zeros((COILS, N), np.complex64) for k1 in range(16)}
    with pytest.raises(CalibrationError, match="they are zero"):
        DualPolarity(nothing, nothing).corrected(
            np.zeros((4, COILS, N), np.complex64), np.arange(4), np.arange(4) % 2 == 1
        )


def test_lines_that_do_not_fit() -> None:
    forwards, backwards = kspaces()
    kernels = DualPolarity(by_place(forwards, range(8, 40)), by_place(backwards, range(8, 40)))
    with pytest.raises(ShapeError, match="do not fit references of"):
        kernels.corrected(forwards[:, :3], np.arange(N), np.zeros(N, bool))
    with pytest.raises(ShapeError, match="2 lines lie in 1 places"):
        kernels.corrected(forwards[:2], [4, 4], [False, True])
