"""Coil combination against NumPy, and its promise about noise."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from scanside.errors import ShapeError
from scanside.recon.combine import combine_with_maps, root_sum_of_squares
from scanside.testing.adjoint import assert_adjoint


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.complex64, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("other", [(), (3,), (2, 3)])
def test_root_sum_of_squares_is_the_norm_over_coils(other: tuple[int, ...]) -> None:
    images = random(*other, 5, 2, 4, 3)
    result = root_sum_of_squares(images)
    assert result.dtype == torch.float32
    np.testing.assert_allclose(result, np.linalg.norm(images.numpy(), axis=-4), rtol=1e-6)


def test_maps_give_back_the_object_with_its_phase() -> None:
    maps, objects = random(6, 2, 5, 4), random(3, 2, 5, 4, seed=1)
    images = maps * objects[:, None]
    torch.testing.assert_close(combine_with_maps(images, maps), objects, rtol=1e-5, atol=1e-5)
    per_frame = random(3, 6, 2, 5, 4, seed=2)
    combined = combine_with_maps(per_frame * objects[:, None], per_frame)
    torch.testing.assert_close(combined, objects, rtol=1e-5, atol=1e-5)


def test_voxels_without_sensitivity_become_zero() -> None:
    maps, images = random(4, 1, 3, 3), random(4, 1, 3, 3, seed=1)
    maps[:, :, 1] = 0
    combined = combine_with_maps(images, maps)
    assert torch.equal(combined[0, 1], torch.zeros(3, dtype=torch.complex64))
    assert combined[0, 0].abs().min() > 0
    assert not root_sum_of_squares(torch.zeros(4, 1, 3, 3, dtype=torch.complex64)).any()


def test_noise_of_the_matched_filter_is_the_least_possible() -> None:
    """Variance 1/Σ|map|², the Cramér–Rao bound for white noise of unit variance."""
    maps = random(4, 1, 1, 3)
    noise = random(20000, 4, 1, 1, 3, seed=1)
    variance = combine_with_maps(noise, maps).abs().square().mean(0)
    torch.testing.assert_close(variance, 1 / maps.abs().square().sum(0), rtol=0.05, atol=0)


def test_combination_has_the_adjoint_of_a_weighted_expansion() -> None:
    maps = random(4, 2, 5, 3)
    power = maps.abs().square().sum(0)
    assert_adjoint(
        lambda images: combine_with_maps(images, maps), lambda x: maps * x / power, (4, 2, 5, 3), (2, 5, 3)
    )


def test_shapes_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ShapeError, match="coil"):
        root_sum_of_squares(torch.zeros(2, 4, 3, dtype=torch.complex64))
    for shape in [(5, 1, 4, 4), (4, 1, 4, 1), (1, 4, 4)]:
        with pytest.raises(ShapeError, match="do not fit"):
            combine_with_maps(random(4, 1, 4, 4), random(*shape))
