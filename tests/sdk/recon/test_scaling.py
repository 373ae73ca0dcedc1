"""The scales of images and films."""

from __future__ import annotations

import pytest
import torch

from scanside.errors import ShapeError
from scanside.recon.scaling import film_scale, image_scale


def test_a_film_has_the_scale_of_its_root_mean_square() -> None:
    still = torch.randn(20, 30, dtype=torch.complex64, generator=torch.Generator().manual_seed(1))
    film = torch.stack([still, 7 * still])
    assert float(film_scale(film)) == pytest.approx(5 * float(image_scale(still)), rel=1e-6)
    assert float(film_scale(3j * film[:1])) == pytest.approx(3 * float(image_scale(still)), rel=1e-6)
    assert film_scale(torch.stack([film, 0 * film])).tolist() == [float(film_scale(film)), 1.0]


def test_no_film() -> None:
    with pytest.raises(ShapeError, match=r"a film \(\*, time, y, x\) was asked for, got the shape \(4, 4\)"):
        film_scale(torch.ones(4, 4))
