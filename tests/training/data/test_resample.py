"""Interpolation against closed forms and SciPy."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.ndimage import map_coordinates

from scanside_training.data.resample import Placement, band_limited, cubic, sample_at, smooth_field


def test_cubic_is_exact_for_planes_also_beyond_the_ends() -> None:
    y, x = torch.arange(6.0)[:, None], torch.arange(5.0)
    plane = (2 * y - 3 * x + 1)[None] * (1 + 2j)
    rows, columns = torch.linspace(-0.7, 5.9, 23), torch.linspace(-1, 4.5, 17)
    expected = (2 * rows[:, None] - 3 * columns + 1) * (1 + 2j)
    torch.testing.assert_close(
        cubic(plane, rows, columns)[0], expected.to(torch.complex64), atol=1e-5, rtol=1e-5
    )


def test_a_smooth_field_goes_through_its_values(rng: np.random.Generator) -> None:
    coarse = torch.from_numpy(rng.standard_normal((2, 4, 3), np.float32))
    field = smooth_field(coarse, (31, 21))
    torch.testing.assert_close(field[:, ::10, ::10], coarse)


def test_bilinear_as_scipy(rng: np.random.Generator) -> None:
    image = rng.standard_normal((9, 12)).astype(np.float32)
    points = rng.uniform(0, 8, (5, 6, 2)).astype(np.float32)
    expected = map_coordinates(image, [points[..., 0], points[..., 1]], order=1)
    sampled = sample_at(torch.from_numpy(image)[None], torch.from_numpy(points), mode="bilinear")
    np.testing.assert_allclose(sampled[0], expected, atol=1e-5)


def test_placement_that_changes_nothing(rng: np.random.Generator) -> None:
    image = torch.from_numpy(rng.standard_normal((11, 14), np.float32))
    same = sample_at(image[None], Placement(pixels=(1, 1), center=(5, 7)).points((11, 14)))
    torch.testing.assert_close(same[0], image, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("turns", [1, 2, 3])
def test_quarter_turns(turns: int, rng: np.random.Generator) -> None:
    image = torch.from_numpy(rng.standard_normal((9, 9), np.float32))
    placement = Placement(pixels=(1, 1), angle=turns * math.pi / 2, center=(4, 4))
    turned = sample_at(image[None], placement.points((9, 9)))[0]
    torch.testing.assert_close(turned, torch.rot90(image, turns), atol=1e-4, rtol=1e-3)


def test_offset_moves_the_object() -> None:
    image = torch.zeros(1, 16, 16)
    image[0, 8, 8] = 1
    moved = sample_at(image, Placement(pixels=(1, 1), center=(8, 8), offset=(3, -2)).points((16, 16)))
    assert divmod(int(moved.argmax()), 16) == (11, 6)


@pytest.mark.parametrize("shape", [(16, 24), (15, 20)])
def test_band_limit_keeps_waves_within_the_band_and_drops_the_others(shape: tuple[int, int]) -> None:
    fine = [(torch.arange(2 * n) - n) / (2 * n) for n in shape]
    coarse = [(torch.arange(n) - n // 2) / n for n in shape]

    def wave(grid: list[torch.Tensor], cycles: tuple[int, int]) -> torch.Tensor:
        return torch.exp(2j * math.pi * (cycles[0] * grid[0][:, None] + cycles[1] * grid[1]))

    kept = (shape[0] // 2 - 1, -(shape[1] // 2 - 1))
    torch.testing.assert_close(
        band_limited(wave(fine, kept), shape, 2), wave(coarse, kept), atol=1e-5, rtol=1e-5
    )
    assert band_limited(wave(fine, (shape[0] // 2 + 1, 0)), shape, 2).abs().max() < 1e-5
