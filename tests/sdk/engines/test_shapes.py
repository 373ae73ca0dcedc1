"""Buckets, padding and cropping."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from scanside.engines.manifest import Shapes
from scanside.engines.shapes import Fit, fit, reflect
from scanside.errors import ShapeError

SHAPES = Shapes(multiple_of=16, buckets=((256, 256), (320, 320), (256, 320)))
UNROLLED = SHAPES.model_copy(update={"coils": (8,)})


@pytest.mark.parametrize(
    ("size", "bucket"),
    [
        ((256, 256), (256, 256)),
        ((200, 111), (256, 256)),
        ((256, 257), (256, 320)),
        ((257, 100), (320, 320)),
    ],
)
def test_smallest_bucket_that_holds_the_image(size: tuple[int, int], bucket: tuple[int, int]) -> None:
    assert fit("image", SHAPES, *size) == Fit(size, bucket)


def test_too_large_image_is_refused_with_the_list() -> None:
    with pytest.raises(ShapeError, match=r"321×100 fits into no engine.*256×256, 256×320, 320×320"):
        fit("image", SHAPES, 321, 100)


def test_unrolled_networks_have_exact_sizes() -> None:
    assert fit("unrolled", UNROLLED, 272, 304) == Fit((272, 304), (272, 304))
    with pytest.raises(ShapeError, match="in multiples of 16"):
        fit("unrolled", UNROLLED, 270, 304)
    with pytest.raises(ShapeError, match="takes 256×256 to 320×320"):
        fit("unrolled", UNROLLED, 240, 304)


@given(n=st.integers(2, 20), more=st.integers(0, 18))
def test_reflection_is_numpys(n: int, more: int) -> None:
    data = np.arange(n, dtype=np.float32)
    before = (n + more) // 2 - n // 2
    expected = np.pad(data, (before, more - before), mode="reflect")
    np.testing.assert_array_equal(reflect(torch.from_numpy(data), 0, n + more).numpy(), expected)


@given(k1=st.integers(1, 24), k0=st.integers(1, 24))
def test_cropping_undoes_padding(k1: int, k0: int) -> None:
    image = torch.randn(1, 2, k1, k0, generator=torch.Generator().manual_seed(0))
    place = Fit((k1, k0), (24, 26))
    padded = place.pad(image)
    assert padded.shape[-2:] == (24, 26)
    assert padded.is_contiguous()
    assert torch.equal(place.crop(padded), image)
    assert torch.equal(padded[..., 12, 13], image[..., k1 // 2, k0 // 2]), "centres do not fall together"


def test_another_size_than_announced_is_refused() -> None:
    with pytest.raises(ShapeError, match="8×8 was announced, got 8×9"):
        Fit((8, 8), (16, 16)).pad(torch.zeros(1, 2, 8, 9))
