"""The Sobel filters, against SciPy's."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import ndimage

from scanside.errors import ShapeError
from scanside_training.losses import LossConfig, build_loss
from scanside_training.losses.edges import sobel

LOSS = build_loss(LossConfig.model_validate({"terms": [{"kind": "edge"}]}))


def sobel_by_scipy(image: np.ndarray) -> np.ndarray:
    """``(k1, k0)`` to ``(2, k1 − 2, k0 − 2)``."""
    return np.stack([ndimage.sobel(image, axis=axis)[1:-1, 1:-1] / 8 for axis in (0, 1)])


def test_as_scipy_has_it() -> None:
    generator = torch.Generator().manual_seed(2)
    output, target = torch.randn(2, 3, 2, 9, 11, dtype=torch.float64, generator=generator)
    expected = []
    for a, b in zip(output.numpy(), target.numpy(), strict=True):
        difference = sobel_by_scipy(np.hypot(*a)) - sobel_by_scipy(np.hypot(*b))
        expected.append(np.hypot(*difference).mean())
    assert float(LOSS(output, {"target": target})["total"]) == pytest.approx(np.mean(expected))


def test_slope_of_a_ramp() -> None:
    k1, k0 = torch.meshgrid(torch.arange(5.0), torch.arange(6.0), indexing="ij")
    gradients = sobel((2 * k1 - 3 * k0)[None, None])
    assert torch.equal(gradients, torch.tensor([2.0, -3.0]).view(1, 2, 1, 1).expand(1, 2, 3, 4))


def test_offset_does_not_matter_and_blur_does() -> None:
    target = torch.zeros(1, 1, 16, 16)
    target[..., 8:] = 1
    blurred = torch.nn.functional.avg_pool2d(target, 3, stride=1, padding=1, count_include_pad=False)
    assert float(LOSS(target + 0.5, {"target": target})["total"]) == pytest.approx(0, abs=1e-7)
    assert float(LOSS(blurred, {"target": target})["total"]) > 0.02


def test_images_must_hold_the_filters() -> None:
    with pytest.raises(ShapeError, match="3 × 3"):
        LOSS(torch.ones(1, 1, 2, 9), {"target": torch.ones(1, 1, 2, 9)})
