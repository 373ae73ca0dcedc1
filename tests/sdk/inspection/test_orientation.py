"""Letters and planes against cases that can be told by hand."""

from __future__ import annotations

import numpy as np
import pytest

from scanside.inspection.orientation import describe_orientation, direction_letters, opposite
from scanside.mrd.geometry import Geometry

pytestmark = pytest.mark.torch_free


@pytest.mark.parametrize(
    ("direction", "letters"),
    [
        ((1, 0, 0), "L"),
        ((-1, 0, 0), "R"),
        ((0, 1, 0), "P"),
        ((0, -2, 0), "A"),
        ((0, 0, 1), "H"),
        ((0, 0, -1), "F"),
        ((0, 0.97, 0.24), "PH"),
        ((0.05, 0.998, -0.03), "P"),
        ((-0.5, 0.6, -0.62), "FPR"),
        ((0, 0, 0), ""),
    ],
)
def test_letters(direction: tuple[float, ...], letters: str) -> None:
    assert direction_letters(direction) == letters
    assert opposite(direction_letters(direction)) == direction_letters(-np.array(direction))


def geometry(read: tuple[float, ...], phase: tuple[float, ...], slice_: tuple[float, ...]) -> Geometry:
    directions = [np.array(direction, np.float64) for direction in (read, phase, slice_)]
    return Geometry(np.zeros(3), *directions, (1, 1, 1), (4, 4, 1))


def test_planes() -> None:
    assert describe_orientation(geometry((1, 0, 0), (0, 1, 0), (0, 0, 1))) == "axial"
    assert describe_orientation(geometry((1, 0, 0), (0, 0, -1), (0, 1, 0))) == "coronal"
    assert describe_orientation(geometry((0, 1, 0), (0, 0, -1), (-1, 0, 0))) == "sagittal"
    c, s = np.cos(np.radians(20)), np.sin(np.radians(20))
    tilted = geometry((1, 0, 0), (0, c, s), (0, -s, c))
    assert describe_orientation(tilted) == "axial, its normal 20.0° from the head-foot axis"
    assert "assumed" in describe_orientation(geometry((0, 0, 0), (0, 0, 0), (0, 0, 0)))
