"""Every kind of image has a series number of its own."""

from __future__ import annotations

import pytest

from scanside.series import SeriesNumbers, grid_of
from scanside.testing import small_image


def test_numbers() -> None:
    numbers = SeriesNumbers()
    assert [numbers.number(kind, 1) for kind in "abacb"] == [1, 2, 1, 3, 2]
    assert numbers.number("d", 2) == 4, "the next free one"
    assert numbers.number("e", 9) == 9
    assert numbers.number("f", 65535) == 65535
    assert numbers.number("g", 65535) == 0, "headers hold 16 bits"


@pytest.mark.parametrize(("changed", "same"), [(1e-6, True), (0.01, False)])
def test_field_of_view(changed: float, same: bool) -> None:
    """Headers round lengths: that makes no other series, but another voxel does."""
    one, other = small_image(), small_image()
    other.header["field_of_view"] *= 1 + changed
    assert (grid_of(one) == grid_of(other)) == same


def test_matrix() -> None:
    """The samples tell it: what a header says of it is corrected when an image is sent."""
    one = small_image()
    other = one.replace(data=one.data[..., :-1])
    assert grid_of(one) != grid_of(other)
