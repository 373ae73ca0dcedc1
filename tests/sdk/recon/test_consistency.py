"""What networks for films need to know of the sampling, frame by frame what those for images do."""

from __future__ import annotations

import pytest
import torch

from scanside.errors import ShapeError
from scanside.recon.consistency import LOWERINGS, Lowering, film_sampling_inputs, sampling_inputs


@pytest.mark.parametrize("lowering", LOWERINGS)
def test_every_frame_has_what_an_image_has(lowering: Lowering) -> None:
    masks = (torch.rand(2, 3, 10, 1, generator=torch.Generator().manual_seed(1)) < 0.4).float()
    found = film_sampling_inputs(lowering, masks)
    for case in range(2):
        for frame in range(3):
            first, *rest = sampling_inputs(lowering, masks[case, frame][None])
            torch.testing.assert_close(found[0][case, frame], first[0])
            torch.testing.assert_close(list(found[1:]), rest)


def test_masks_of_images_are_none_of_films() -> None:
    with pytest.raises(
        ShapeError, match=r"masks \(batch, time, k1, 1\) were expected, got the shape \(3, 8, 1\)"
    ):
        film_sampling_inputs("fft", torch.ones(3, 8, 1))
