"""Objects lie in the field of view as asked."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from scanside.recon.resize import crop_or_pad
from scanside_training.data import PlacementConfig
from scanside_training.data.placement import random_pose, random_scan_of


def ellipse(shape: tuple[int, int], center: tuple[float, float], radii: tuple[float, float]) -> torch.Tensor:
    y, x = torch.arange(shape[0])[:, None] - center[0], torch.arange(shape[1]) - center[1]
    inside = ((y / radii[0]) ** 2 + (x / radii[1]) ** 2 < 1).float()
    return torch.complex(inside, torch.zeros_like(inside))


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("matrix", [(96, 128), (128, 96)])
def test_extent_along_k1_and_no_wrap(seed: int, matrix: tuple[int, int]) -> None:
    config = PlacementConfig(fill=(0.7, 0.7), aspect=(1, 1), rotation_deg=(-40, 40), transpose=0.5)
    image = ellipse((300, 260), (160, 120), (100, 60))
    scan = random_scan_of(config, image, matrix, np.random.default_rng(seed)).abs()
    rows = torch.nonzero((scan > 0.5).any(1)).flatten()
    extent = int(rows[-1] - rows[0]) + 1
    assert extent == pytest.approx(0.7 * matrix[0], abs=2.5)
    # It ends before the field of view does, and nothing of it comes back on the other side.
    assert rows[0] > 0
    assert rows[-1] < matrix[0] - 1
    assert scan[[0, -1]].max() < 0.2


def test_area_tells_that_pixels_have_the_aspect_that_was_asked_for() -> None:
    image = ellipse((300, 300), (150, 150), (120, 120))
    for aspect in (0.8, 1.0, 1.25):
        config = PlacementConfig(fill=(0.8, 0.8), aspect=(aspect, aspect), transpose=0)
        scan = random_scan_of(config, image, (100, 160), np.random.default_rng(1)).abs()
        assert float((scan > 0.5).sum()) == pytest.approx(math.pi * 40**2 / aspect, rel=0.04)


def test_flips_and_transposition_happen() -> None:
    image = ellipse((64, 64), (32, 32), (24, 24))
    image[20:28, 16:22] += 3  # off the middle on both axes, and nearer to one
    config = PlacementConfig(rotation_deg=(0, 0), aspect=(1, 1), transpose=0.5, flips=0.5)
    seen = set()
    for seed in range(60):
        scan = random_scan_of(config, image, (64, 64), np.random.default_rng(seed)).abs()
        spot, body = torch.nonzero(scan > 2).float().mean(0), torch.nonzero(scan > 0.5).float().mean(0)
        away = spot - body
        seen.add((bool(away[0] > 0), bool(away[1] > 0), bool(away[0].abs() > away[1].abs())))
    assert len(seen) == 8


def test_an_empty_slice_gives_an_empty_scan() -> None:
    scan = random_scan_of(
        PlacementConfig(), torch.zeros(40, 50, dtype=torch.complex64), (32, 48), np.random.default_rng(0)
    )
    assert scan.shape == (32, 48)
    assert not scan.any()


@pytest.mark.parametrize("matrix", [(72, 60), (48, 64)])
def test_native_slices_keep_their_pixels(matrix: tuple[int, int], rng: np.random.Generator) -> None:
    image = torch.from_numpy(rng.standard_normal((64, 60)) + 1j).to(torch.complex64)
    config = PlacementConfig(native=1, transpose=0, flips=0)
    scan = random_scan_of(config, image, matrix, rng)
    torch.testing.assert_close(scan, crop_or_pad(image, matrix))
    flipped = random_scan_of(config.model_copy(update={"flips": 1.0}), image, matrix, rng)
    torch.testing.assert_close(flipped, crop_or_pad(image.flip(0, 1), matrix))


@pytest.mark.parametrize("native", [0, 1])
@pytest.mark.parametrize("seed", range(4))
def test_a_region_goes_where_the_object_goes(native: float, seed: int) -> None:
    image = ellipse((96, 80), (50, 36), (34, 26))
    config = PlacementConfig(native=native, transpose=0.5, rotation_deg=(-40, 40))
    pose = random_pose(config, image, (72, 88), np.random.default_rng(seed))
    scan, region = pose.scan_of(image).abs() > 0.5, pose.region_of(image.real > 0)
    assert region.shape == (72, 88)
    assert (scan & region).sum() / (scan | region).sum() > 0.94
