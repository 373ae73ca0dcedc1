"""Measures of how like images look."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import ndimage

from scanside_training.perceived import perceived

Array = np.ndarray


@pytest.fixture(scope="module")
def truth() -> Array:
    blobs = ndimage.gaussian_filter(np.random.default_rng(0).random((96, 80)), 2)
    return 3 * (blobs - blobs.min())


def haarpsi_by_definition(image: Array, reference: Array) -> float:
    """As the paper writes it, pixel by pixel."""
    a, b = (255 / reference.max() * one for one in (image, reference))
    a, b = (one.reshape(one.shape[0] // 2, 2, one.shape[1] // 2, 2).mean((1, 3)) for one in (a, b))

    def coefficient(f: Array, scale: int, axis: int, y: int, x: int) -> float:
        n = 2**scale
        total = 0.0
        for i in range(n):
            for j in range(n):
                yy, xx = y + i - (n // 2 - 1), x + j - (n // 2 - 1)
                if 0 <= yy < f.shape[0] and 0 <= xx < f.shape[1]:
                    total += (1 if (i, j)[axis] < n // 2 else -1) * f[yy, xx]
        return total / n

    above = below = 0.0
    for y in range(a.shape[0]):
        for x in range(a.shape[1]):
            for axis in (0, 1):
                similar = 0.0
                for scale in (1, 2):
                    p, q = (abs(coefficient(f, scale, axis, y, x)) for f in (a, b))
                    similar += 0.5 * (2 * p * q + 30) / (p * p + q * q + 30)
                weight = max(abs(coefficient(f, 3, axis, y, x)) for f in (a, b))
                above += weight / (1 + math.exp(-4.2 * similar))
                below += weight
    share = above / below
    return (math.log(share / (1 - share)) / 4.2) ** 2


def test_haarpsi_by_its_definition() -> None:
    rng = np.random.default_rng(1)
    reference = ndimage.gaussian_filter(rng.random((44, 42)), 1)
    image = np.abs(reference + 0.05 * rng.standard_normal(reference.shape))
    assert perceived(image, reference)["haarpsi"] == pytest.approx(haarpsi_by_definition(image, reference))


def test_equal_images(truth: Array) -> None:
    found = perceived(truth, truth)
    assert found == {"hfen": 0, "vif": pytest.approx(1), "haarpsi": pytest.approx(1)}


def test_worse_images_are_worse(truth: Array) -> None:
    one, more = (perceived(ndimage.gaussian_filter(truth, sigma), truth) for sigma in (0.7, 2))
    assert 0 < one["hfen"] < more["hfen"]
    assert 1 > one["vif"] > more["vif"] > 0
    assert 1 > one["haarpsi"] > more["haarpsi"] > 0


def test_hfen_is_relative_to_the_reference(truth: Array) -> None:
    assert perceived(0 * truth, truth)["hfen"] == pytest.approx(1)
    doubled = perceived(2 * truth, 2 * truth + 0)
    assert doubled["hfen"] == pytest.approx(0)


def test_scale_does_not_matter(truth: Array) -> None:
    blurred = ndimage.gaussian_filter(truth, 1)
    assert perceived(1000 * blurred, 1000 * truth) == pytest.approx(perceived(blurred, truth))


def test_a_reference_without_structure() -> None:
    assert perceived(np.ones((48, 48)), np.ones((48, 48))) == {}
