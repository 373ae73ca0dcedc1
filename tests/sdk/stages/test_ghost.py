"""What the measure of ghosts writes into images."""

from __future__ import annotations

import numpy as np
import torch

from scanside import Image
from scanside.stages.ghost import MeasureGhosts
from scanside.testing import small_image, small_scan

N = 64


def measured(data: torch.Tensor, **settings: float) -> tuple[Image, Image, list[str]]:
    stage, scan = MeasureGhosts(**settings), small_scan()
    stage.open(scan)
    image = small_image().replace(data=data)
    (found,) = stage.process(image)
    assert bool(scan.warnings) == (scan.metrics["ghost.above_limit"] > 0)
    return image, found, scan.warnings


def square(strength: float) -> torch.Tensor:
    image = torch.zeros(1, 1, N, N, dtype=torch.complex64)
    image[..., N // 2 - 12 : N // 2 + 12, 20:44] = 1j
    return image + strength * image.roll(N // 2, -2)


def test_level_stands_in_the_image() -> None:
    image, found, warnings = measured(square(0.04))
    assert found.meta["ScansideGhost"] == ["0.0400"]
    assert "ScansideGhost" not in image.meta
    assert found.data is image.data
    assert not warnings


def test_strong_ghosts_are_told_and_counted() -> None:
    _, found, warnings = measured(square(0.08))
    assert found.meta["ScansideGhost"] == ["0.0800"]
    assert warnings[0].startswith("Nyquist ghosts reach 8.0 % of the signal in slice 0, more than 5 %")
    assert not measured(square(0.08), limit=0.1)[2]


def test_the_strongest_slice_of_a_volume_counts() -> None:
    volume = torch.cat([square(0.01), square(0.03), square(0.02)], dim=1)
    assert measured(volume)[1].meta["ScansideGhost"] == ["0.0300"]


def test_images_without_background_say_nothing() -> None:
    assert "ScansideGhost" not in measured(torch.zeros(1, 1, N, N))[1].meta


def test_maps_are_no_images() -> None:
    stage = MeasureGhosts()
    stage.open(small_scan())
    (found,) = stage.process(small_image().replace(data=square(0.3), what="uncertainty"))
    assert "ScansideGhost" not in found.meta
    assert np.asarray(found.data).any()
