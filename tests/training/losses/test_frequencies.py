"""Errors of high frequencies against SciPy's filter, and in k-space against Parseval's theorem."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from scipy import ndimage

from scanside.errors import ShapeError
from scanside_training.losses import Loss, LossConfig, build_loss
from scanside_training.losses.frequencies import laplacian_of_gaussian


def loss(**term: object) -> Loss:
    return build_loss(LossConfig.model_validate({"terms": [term]}))


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def test_filter_as_scipy_has_it() -> None:
    image = random(1, 1, 30, 40)
    expected = ndimage.gaussian_laplace(image[0, 0].numpy(), 1.5, truncate=7 / 1.5)[7:-7, 7:-7]
    found = laplacian_of_gaussian(image)[0, 0].numpy()
    # SciPy makes the sampled filter's mean zero in its own way.
    assert np.abs(found - expected).max() < 2e-3 * np.abs(expected).max()


def test_a_blur_has_an_error_of_high_frequencies_and_an_offset_has_none() -> None:
    target = torch.zeros(1, 1, 32, 32)
    target[..., 16:] = 1
    blurred = torch.nn.functional.avg_pool2d(target, 3, stride=1, padding=1, count_include_pad=False)
    term = loss(kind="high-frequency")
    assert float(term(target + 0.5, {"target": target})["total"]) == pytest.approx(0, abs=1e-6)
    assert float(term(blurred, {"target": target})["total"]) > 0.005


def test_kspace_of_a_single_spot_is_flat() -> None:
    target = torch.zeros(1, 2, 8, 10)
    output = target.clone()
    output[0, 0, 3, 4] = 2.0
    assert float(loss(kind="kspace")(output, {"target": target})["total"]) == pytest.approx(2 / 80**0.5)


def test_radius_takes_the_mean_out() -> None:
    target = random(2, 1, 12, 14)
    term = loss(kind="kspace", radius_power=1)
    assert float(term(target + 3, {"target": target})["total"]) == pytest.approx(0, abs=1e-6)
    assert float(loss(kind="kspace")(target + 3, {"target": target})["total"]) > 0.1


@pytest.mark.parametrize("kind", ["kspace", "ms-ssim"])
def test_no_region_where_there_is_none(kind: str) -> None:
    with pytest.raises(ValidationError, match="within_roi"):
        LossConfig.model_validate({"terms": [{"kind": kind, "within_roi": True}]})


def test_images_must_hold_the_filters() -> None:
    with pytest.raises(ShapeError, match="15 × 15"):
        loss(kind="high-frequency")(torch.ones(1, 1, 9, 20), {"target": torch.ones(1, 1, 9, 20)})
    with pytest.raises(ShapeError, match=r"44 × 44.*lower its scales"):
        loss(kind="ms-ssim")(torch.ones(1, 1, 40, 60), {"target": torch.ones(1, 1, 40, 60)})


def test_ms_ssim_of_one_scale_is_ssim_and_of_more_forgives_noise() -> None:
    target = torch.nn.functional.avg_pool2d(random(1, 1, 64, 64).abs(), 5, stride=1, padding=2).float()
    noisy = target + 0.05 * random(1, 1, 64, 64, seed=1).float()
    one, three = (float(loss(kind="ms-ssim", scales=n)(noisy, {"target": target})["total"]) for n in (1, 3))
    assert 0 < three < one
    assert float(loss(kind="ms-ssim")(target, {"target": target})["total"]) == pytest.approx(0, abs=1e-5)


@pytest.mark.parametrize(
    ("scale", "expected"), [(1e-4, 0.5 * 1e-8 / 1e-3), (10.0, 10.0 - 1e-3)], ids=["square", "modulus"]
)
def test_charbonnier_is_square_below_and_modulus_above(scale: float, expected: float) -> None:
    target = torch.zeros(1, 2, 8, 8, dtype=torch.float64)
    output = target.clone()
    output[:, 0] = scale
    total = float(loss(kind="charbonnier", epsilon=1e-3)(output, {"target": target})["total"])
    assert total == pytest.approx(expected, rel=5e-3)
