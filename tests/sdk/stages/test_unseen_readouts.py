"""The check of learned images by spokes that were kept from them; and what is told of scans of another kind."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch

from scanside.items import Samples
from scanside.mrd.readouts import Readouts
from scanside.recon.noncartesian.nufft import Nufft
from scanside.stages._samples import cell_weights, flat_points, noise_of_samples
from scanside.stages._unseen_readouts import UnseenReadouts

N = 24
NOISE = 0.02


def samples_of(n: int, noise: float = NOISE) -> tuple[Samples, torch.Tensor]:
    """Spokes through a square with two coils, and its image ``(1, y, x)``."""
    angles = torch.arange(n) * (math.pi * (math.sqrt(5) - 1) / 2)
    radius = (torch.arange(2 * N) - N) / (2 * N)
    points = torch.stack([torch.outer(angles.cos(), radius), torch.outer(angles.sin(), radius)], -1)
    image = torch.zeros(1, N, N, dtype=torch.complex64)
    image[:, 6:17, 8:19] = 1
    maps = torch.full((2, 1, N, N), math.sqrt(0.5), dtype=torch.complex64)
    encoding: Any = None  # nothing here looks at it
    item = Samples(
        data=torch.zeros(2, n, 2 * N, dtype=torch.complex64),
        points=points,
        headers=Readouts.empty_headers(n)[None],
        encoding=encoding,
        matrix=(N, N, 1),
        field_of_view_mm=(240.0, 240.0, 5.0),
        coil_maps=maps,
    )
    data = Nufft(flat_points(item), (N, N)).forward((maps * image)[:, 0]).reshape(2, n, 2 * N)
    white = torch.view_as_complex(torch.randn(2, n, 2 * N, 2, generator=torch.Generator().manual_seed(n)))
    return item.replace(data=data + noise * white), image


def test_readouts_are_left_out_and_none_is_lost() -> None:
    item, _ = samples_of(34)
    unseen = UnseenReadouts.of(item)
    assert isinstance(unseen, UnseenReadouts)
    assert unseen.left_out.data.shape[1] == 4
    assert unseen.seen.data.shape[1] == unseen.seen.points.shape[0] == unseen.seen.headers.shape[1] == 30


def test_few_readouts_cannot_be_spared() -> None:
    assert "23 were acquired, and 24 are needed" in str(UnseenReadouts.of(samples_of(23)[0]))


@pytest.mark.parametrize(("blur", "word"), [(0.3, "worse"), (0.0, "undecided")])
def test_an_image_is_judged_by_what_it_says_of_them(blur: float, word: str) -> None:
    item, image = samples_of(48)
    unseen = UnseenReadouts.of(item)
    assert isinstance(unseen, UnseenReadouts)
    blurred = (1 - blur) * image + blur * image.roll(1, -1)
    assert unseen.judge(blurred, "noncartesian-sense", image, NOISE).word == word
    if blur:
        assert unseen.judge(image, "noncartesian-sense", blurred, NOISE).word == "better"


def test_noise_is_told_by_the_outermost_samples() -> None:
    assert noise_of_samples(samples_of(60, noise=0.5)[0]) == pytest.approx(0.5, rel=0.1)


def test_no_sample_counts_for_more_than_its_cell() -> None:
    weights = cell_weights(samples_of(6)[0], "auto")
    assert weights.shape == (6, 2 * N)
    assert float(weights.max()) <= 0.5 + 1e-5  # two samples for each step of the grid
    assert np.isclose(float(weights.max()), 0.5, rtol=1e-4)
