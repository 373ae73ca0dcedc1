"""Buckets, padding and cropping."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from scanside.engines.manifest import Shapes, TensorSpec
from scanside.engines.shapes import (
    Fit,
    check_frames,
    columns_specs,
    film_specs,
    fit,
    holds,
    largest,
    own_size,
    reflect,
    unrolled_specs,
)
from scanside.errors import ShapeError
from scanside.recon.consistency import film_sampling_inputs, sampling_inputs
from scanside.recon.fourier import to_image, to_kspace

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
    for lowering in ("none", "pmatrix", "dft_matmul"):
        assert fit(lowering, SHAPES, *size) == Fit(size, bucket)


LOWERINGS = ("none", "pmatrix", "dft_matmul")


@pytest.mark.parametrize("lowering", LOWERINGS)
@pytest.mark.parametrize("shipped", [((192, 192),), ((192, 192), (192, 256), (256, 256), (320, 320))])
@pytest.mark.parametrize("multiple_of", [8, 16])
@given(k1=st.integers(64, 640), k0=st.integers(64, 640))
def test_any_size_has_an_engine(
    lowering: Any, shipped: tuple[tuple[int, int], ...], multiple_of: int, k1: int, k0: int
) -> None:
    """It holds the image, the network can halve it, and it is not several times as large as it must be."""
    shapes = Shapes(multiple_of=multiple_of, buckets=shipped)
    own, place = own_size(lowering, shapes, k1, k0), fit(lowering, shapes, k1, k0)
    for shape in (own, place.bucket):
        assert shape[0] >= k1
        assert shape[1] >= k0
        assert holds(lowering, shapes, shape, (k1, k0))
        assert not any(n % multiple_of for n in shape)
    assert all(n - k < multiple_of for n, k in zip(own, (k1, k0), strict=True) if k >= 12 * multiple_of)
    assert math.prod(place.bucket) <= 4 * math.prod(own)
    assert place.bucket in (*shipped, own)


def test_small_images_get_room_around_them() -> None:
    """The network halves an image of 64 three times: 8 × 8 cells are too few for its norms."""
    shapes = Shapes(multiple_of=8, buckets=((192, 192),))
    assert own_size("pmatrix", shapes, 64, 100) == (96, 104)
    assert not holds("pmatrix", shapes, (256, 256), (64, 64))
    assert holds("pmatrix", shapes, (192, 192), (64, 64))
    assert not holds("pmatrix", shapes, (192, 192), (193, 64))
    assert not holds("pmatrix", shapes, (64, 104), (64, 100)), "an engine without room"
    listed = Shapes(multiple_of=8, buckets=((64, 104),))
    assert holds("pmatrix", listed, (64, 104), (64, 100)), "but whoever built the bundle may know better"


def test_too_large_image_is_refused_with_the_largest() -> None:
    assert fit("pmatrix", SHAPES, 321, 100) == Fit((321, 100), (336, 192))
    for size in ((641, 100), (100, 641)):
        with pytest.raises(ShapeError, match=rf"{size[0]}×{size[1]} fits into no engine.*up to 640×640"):
            fit("pmatrix", SHAPES, *size)
    larger = Shapes(multiple_of=16, buckets=((800, 256),))
    assert fit("pmatrix", larger, 790, 200).bucket == (800, 256)


def test_networks_with_fourier_transforms_inside_have_exact_sizes() -> None:
    assert fit("fft", UNROLLED, 272, 304) == Fit((272, 304), (272, 304))
    assert fit("fft", UNROLLED, 64, 496).bucket == (64, 496)
    assert not holds("fft", UNROLLED, (272, 320), (272, 304))
    with pytest.raises(ShapeError, match=r"multiples of 16.*'pmatrix', which takes all sizes"):
        fit("fft", UNROLLED, 270, 304)
    with pytest.raises(ShapeError, match="up to 640×640"):
        fit("fft", UNROLLED, 656, 304)


@pytest.mark.parametrize("lowering", ["none", "pmatrix", "fft"])
def test_networks_of_a_fixed_size_take_that_one(lowering: Any) -> None:
    fixed = Shapes(multiple_of=1, buckets=((24, 32),), fixed=True)
    assert fit(lowering, fixed, 24, 32) == Fit((24, 32), (24, 32))
    assert own_size(lowering, fixed, 24, 32) == largest(fixed) == (24, 32)
    assert holds(lowering, fixed, (24, 32), (24, 32))
    for k1, k0 in ((24, 31), (23, 32), (32, 24), (48, 64)):
        assert not holds(lowering, fixed, (24, 32), (k1, k0))
        with pytest.raises(
            ShapeError, match=rf"{k1}×{k0} fits into no engine.*takes images of 24×32 and no others"
        ):
            fit(lowering, fixed, k1, k0)


TWO_AXES = (
    *unrolled_specs("none"),
    TensorSpec(name="mask", axes=("batch", "k1", "k0")),
    TensorSpec(name="dft1", axes=(2, "k1", "k1")),
    TensorSpec(name="dft0", axes=(2, "k0", "k0")),
)


@pytest.mark.parametrize("size", [(13, 10), (12, 13), (16, 11), (7, 12)])
@pytest.mark.parametrize(
    ("lowering", "specs"),
    [
        ("pmatrix", unrolled_specs("pmatrix")),
        ("dft_matmul", unrolled_specs("dft_matmul")),
        ("dft_matmul", TWO_AXES),
    ],
)
def test_surrounded_by_zeros_the_operator_stays_that_of_the_scan(
    lowering: Any, specs: tuple[TensorSpec, ...], size: tuple[int, int]
) -> None:
    """``Aᴴ A`` of matrices in larger ones, against that of FFTs of the scan's own size."""
    generator = torch.Generator().manual_seed(0)
    image = torch.randn(1, 2, *size, generator=generator, dtype=torch.float64)
    maps = torch.randn(1, 3, 2, *size, generator=generator, dtype=torch.float64)
    mask = (torch.rand(1, size[0], size[1] if specs is TWO_AXES else 1, generator=generator) < 0.5).double()
    sampling = [one.double() for one in sampling_inputs(lowering, mask)]
    place = Fit(size, (16, 14))
    inputs = place.surround(specs, (image, maps, torch.full((1, 1, 1, 1), 0.1), *sampling))
    assert all(one.is_contiguous() for one in inputs)
    assert [tuple(one.shape) for one in inputs] == [spec.shape(16, 14, 3) for spec in specs]
    large, large_maps, noise, *large_sampling = inputs
    assert float(noise) == pytest.approx(0.1)
    result = plain_normal(lowering, large, large_maps, large_sampling)
    x, s = (torch.complex(*one.unbind(-3)) for one in (image, maps))
    expected = (s.conj() * to_image(mask[:, None] * to_kspace(s * x[:, None]))).sum(1)
    torch.testing.assert_close(place.crop(result), expected, rtol=1e-6, atol=1e-6)
    outside = result.clone()
    place.crop(outside).zero_()
    assert not outside.any(), "something reached the surroundings"


def plain_normal(
    lowering: str, image: torch.Tensor, maps: torch.Tensor, sampling: list[torch.Tensor]
) -> torch.Tensor:
    """``Aᴴ A`` as the formulas say it, in complex numbers."""
    x, s = (torch.complex(*one.unbind(-3)) for one in (image, maps))
    coils = s * x[:, None]
    if lowering == "pmatrix":
        coils = torch.complex(*sampling[0].unbind(1))[:, None] @ coils
    else:
        mask, *transforms = sampling
        f = [torch.complex(*one.unbind(0)) for one in transforms]
        f0 = f[1] if len(f) > 1 else torch.eye(x.shape[-1], dtype=x.dtype)
        coils = f[0].mH @ (mask[:, None] * (f[0] @ coils @ f0.T)) @ f0.conj()
    return (s.conj() * coils).sum(1)


def test_images_of_the_exact_form_are_continued_by_reflection() -> None:
    """Nothing of what is around them is kept, so that the solution inside is that of the scan."""
    generator = torch.Generator().manual_seed(0)
    size, place = (13, 10), Fit((13, 10), (16, 14))
    image, fitted = torch.randn(2, 1, 2, *size, generator=generator)
    kept = torch.randn(1, 2, size[1], size[0], size[0], generator=generator)
    support = torch.ones(1, 1, *size)
    large = place.surround(columns_specs(), (image, fitted, kept, support))
    assert [tuple(one.shape) for one in large] == [spec.shape(16, 14) for spec in columns_specs()]
    assert torch.equal(large[0], place.pad(image))
    assert torch.equal(large[1], place.pad(fitted))

    def solved(fitted: torch.Tensor, kept: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
        matrices = torch.complex(*kept[0])
        z, x = (torch.complex(*one[0]) for one in (wanted, fitted))
        return x + (matrices @ z.T[..., None])[..., 0].T

    wanted = torch.randn(1, 2, 16, 14, generator=generator)
    result = solved(large[1], large[2], wanted)
    torch.testing.assert_close(place.crop(result), solved(fitted, kept, place.crop(wanted)))
    around = torch.complex(*large[1][0]).clone()
    place.crop(around).copy_(place.crop(result))
    assert torch.equal(result, around), "something reached the surroundings"
    assert float(large[3].sum()) == size[0] * size[1]


def test_inputs_that_were_not_announced_are_refused() -> None:
    place, specs = Fit((8, 8), (16, 16)), unrolled_specs("pmatrix")
    inputs = [torch.zeros(spec.shape(8, 8, 3)) for spec in specs]
    with pytest.raises(ShapeError, match=r"expected 4 inputs \(image .*got 3"):
        place.surround(specs, inputs[:3])
    inputs[-1] = torch.zeros(1, 2, 16, 16)
    with pytest.raises(
        ShapeError, match=r"input p \(.*\) was announced for images of 8×8, got \(1, 2, 16, 16\)"
    ):
        place.surround(specs, inputs)


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


FILM = Shapes(multiple_of=2, buckets=((16, 14),), frames=5)


@pytest.mark.parametrize("lowering", ["pmatrix", "dft_matmul"])
def test_surrounded_frames_are_those_of_a_film_one_by_one(lowering: Any) -> None:
    generator = torch.Generator().manual_seed(0)
    size, place = (13, 10), Fit((13, 10), (16, 14))
    image = torch.randn(1, 2, 5, *size, generator=generator)
    maps, noise = torch.randn(1, 3, 2, *size, generator=generator), torch.full((1, 1, 1, 1), 0.1)
    mask = (torch.rand(1, 5, 13, 1, generator=generator) < 0.5).float()
    film = place.surround(film_specs(lowering), (image, maps, noise, *film_sampling_inputs(lowering, mask)))
    assert [tuple(one.shape) for one in film] == [
        spec.shape(16, 14, 3, n_frames=5) for spec in film_specs(lowering)
    ]
    for t in range(5):
        alone = (image[:, :, t], maps, noise, *sampling_inputs(lowering, mask[:, t]))
        single = place.surround(unrolled_specs(lowering), alone)
        of_film = [
            one.select(spec.axes.index("time"), t) if "time" in spec.axes else one
            for spec, one in zip(film_specs(lowering), film, strict=True)
        ]
        for one, other in zip(single, of_film, strict=True):
            torch.testing.assert_close(one, other)


def test_images_of_a_film_are_padded_in_space_alone() -> None:
    film = torch.randn(1, 2, 5, 13, 10)
    place = Fit((13, 10), (16, 14))
    padded = place.pad(film)
    assert padded.shape == (1, 2, 5, 16, 14)
    assert torch.equal(padded[:, :, 3], place.pad(film[:, :, 3]))
    assert torch.equal(place.crop(padded), film)


def test_windows_of_another_length_are_refused() -> None:
    check_frames(FILM, 5)
    with pytest.raises(ShapeError, match=r"windows of 5 frames .* this one has 4: set window.size to 5"):
        check_frames(FILM, 4)
    with pytest.raises(ShapeError, match="takes single frames, got a window of 4"):
        check_frames(SHAPES, 4)


def test_what_is_no_image_is_not_continued() -> None:
    place = Fit((5, 6), (9, 8))
    specs = (
        TensorSpec(name="image", axes=("batch", 2, "k1", "k0")),
        TensorSpec(name="parameters", axes=("batch", 3)),
    )
    image, told = torch.randn(1, 2, 5, 6), torch.randn(1, 3)
    larger, same = place.reflected(specs, (image, told))
    assert torch.equal(larger, place.pad(image))
    assert torch.equal(same, told)
    with pytest.raises(ShapeError, match=r"expected 2 inputs .*parameters.*, got 1"):
        place.reflected(specs, (image,))
    unrolled = (*unrolled_specs("pmatrix"), specs[1])
    inputs = (image, torch.ones(1, 4, 2, 5, 6), torch.ones(1, 1, 1, 1), torch.ones(1, 2, 5, 5), told)
    assert torch.equal(place.surround(unrolled, inputs)[-1], told)
