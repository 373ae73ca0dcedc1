"""SSIM agrees with scikit-image and with the measures of the SDK, and leads an image to its target."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from skimage.metrics import structural_similarity

from scanside import metrics
from scanside.errors import ShapeError
from scanside_training.losses import LossConfig, build_loss, magnitude, ssim_map

LOSS = build_loss(LossConfig.model_validate({"terms": [{"kind": "ssim"}]}))


def images(dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
    """Two complex images on different scales, ``(2, 2, 40, 33)``, and noisy versions of them."""
    generator = torch.Generator().manual_seed(3)
    y, x = torch.meshgrid(torch.linspace(-1, 1, 40), torch.linspace(-1, 1, 33), indexing="ij")
    real = (torch.hypot(y, x) < 0.8) * (1 + 0.4 * torch.cos(7 * x) * torch.sin(5 * y))
    target = torch.stack((real, 0.3 * real * x))[None] * torch.tensor([1.0, 40.0]).view(2, 1, 1, 1)
    noise = torch.randn(target.shape, generator=generator) * target.amax((1, 2, 3), keepdim=True) * 0.1
    return (target + noise).to(dtype), target.to(dtype)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-10), (torch.float32, 2e-6)])
def test_as_scikit_image_has_it(dtype: torch.dtype, tolerance: float) -> None:
    output, target = images(dtype)
    expected, maps = [], []
    for a, b in zip(magnitude(output).double().numpy(), magnitude(target).double().numpy(), strict=True):
        mean, whole = structural_similarity(a[0], b[0], data_range=b.max(), full=True)
        expected.append(mean)
        maps.append(whole[3:-3, 3:-3])
    assert 0.3 < np.mean(expected) < 0.95
    total = LOSS(output, {"target": target})["total"]
    assert float(total) == pytest.approx(1 - np.mean(expected), abs=tolerance)
    peak = magnitude(target).amax((1, 2, 3))
    found = ssim_map(magnitude(output), magnitude(target), peak)[:, 0]
    np.testing.assert_allclose(found.numpy(), maps, atol=50 * tolerance)


def test_as_the_measures_have_it_after_their_fit() -> None:
    output, target = images(torch.float64)
    a, b = magnitude(output)[:1], magnitude(target)[:1]
    fitted, _ = metrics.fitted(a.numpy(), b.numpy())
    total = LOSS(torch.from_numpy(fitted), {"target": b})["total"]
    assert float(total) == pytest.approx(1 - metrics.ssim(a[0, 0].numpy(), b[0, 0].numpy()), abs=1e-10)


def test_equal_images_and_empty_ones() -> None:
    _, target = images(torch.float32)
    assert float(LOSS(target, {"target": target})["total"]) == pytest.approx(0, abs=1e-6)
    empty = torch.zeros(1, 1, 9, 9)
    assert float(LOSS(empty, {"target": empty})["total"]) == 0
    assert float(LOSS(torch.ones_like(empty), {"target": empty})["total"]) > 0.9


def test_gradient() -> None:
    output, target = images(torch.float64)
    output, target = output[:1, :, 12:21, 12:21].contiguous(), target[:1, :, 12:21, 12:21]
    assert torch.autograd.gradcheck(
        lambda image: LOSS(image, {"target": target})["total"], output.requires_grad_()
    )


def test_only_the_region_counts() -> None:
    output, target = images(torch.float64)
    roi = torch.zeros(2, 1, 40, 33)
    roi[:, :, 10:20, 2:12] = 1
    loss = build_loss(LossConfig.model_validate({"terms": [{"kind": "ssim", "within_roi": True}]}))
    similarity = ssim_map(magnitude(output), magnitude(target), magnitude(target).amax((1, 2, 3)))
    # The map starts three pixels from the edges, so its first column is the region's second.
    inside = similarity[:, :, 7:17, 0:9]
    losses = loss(output, {"target": target, "roi": roi})
    assert float(losses["total"]) == pytest.approx(1 - float(inside.mean()), abs=1e-12)


def test_images_must_hold_the_window() -> None:
    with pytest.raises(ShapeError, match=r"7 × 7, got \(6, 9\)"):
        LOSS(torch.ones(1, 1, 6, 9), {"target": torch.ones(1, 1, 6, 9)})
