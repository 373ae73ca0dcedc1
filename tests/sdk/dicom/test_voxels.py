from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from scanside.dicom.texts import decimal
from scanside.dicom.voxels import GreyScale, Stored
from scanside.errors import NonFiniteError


def back(stored: Stored) -> Any:
    """The values as a reader of the file finds them."""
    return stored.values.astype(np.float64) * stored.slope + stored.intercept


@given(
    hnp.arrays(np.float32, (2, 3), elements=st.floats(-1, 1, width=32)),
    st.sampled_from([1e-25, 1e-6, 1.0, 1e6, 1e25]),
)
def test_values_come_back(data: Any, size: float) -> None:
    data = data.astype(np.float64) * size
    stored = GreyScale().stored(data)
    # With headroom for a factor of 2, and a slope that is rounded up by 2.5 at most.
    worst = np.abs(data).max() * 2 * 2.5 / 32767 / 2
    np.testing.assert_allclose(back(stored), data, rtol=0, atol=worst * (1 + 1e-6))
    assert np.all(stored.values[data == 0] == 0)
    assert stored.intercept == 0
    assert (stored.range == (-32768, 32767)) == bool((data < 0).any())


def test_a_series_keeps_its_scale_while_it_can() -> None:
    scale = GreyScale()
    empty = scale.stored(np.zeros((4, 4)))
    assert empty.slope == 1
    assert not empty.values.any()
    first = scale.stored(np.full((4, 4), 700.0))
    assert scale.stored(np.full((4, 4), 0.5)).slope == first.slope
    assert scale.stored(np.full((4, 4), 1400.0)).slope == first.slope
    brighter = scale.stored(np.full((4, 4), 700.0 * 65536 / 13000))
    assert brighter.slope > first.slope
    assert scale.stored(np.full((4, 4), 700.0)).slope == brighter.slope
    np.testing.assert_allclose(back(brighter), 700.0 * 65536 / 13000, rtol=1e-4)


def test_a_series_stays_signed() -> None:
    for scale in (GreyScale(signed=True), GreyScale()):
        scale.stored(np.array([-1.0, 1.0]))
        assert scale.stored(np.array([0.0, 1.0])).values.dtype == np.int16


def test_slopes_are_written_without_rounding() -> None:
    for size in np.geomspace(1e-12, 1e12, 97):
        slope = GreyScale().stored(np.full((2, 2), size)).slope
        assert float(decimal(slope)) == slope
        assert decimal(slope).lstrip("0.")[0] in "125"


def test_phase() -> None:
    data = np.array([[-math.pi, -1.0, 0.0], [1e-3, 3.0, math.pi]])
    stored = GreyScale(phase=True).stored(data)
    np.testing.assert_allclose(back(stored), data, rtol=0, atol=1.01 * math.pi / 32768)
    assert back(stored)[0, 2] == 0
    assert stored.window == (0, 65536)
    assert GreyScale(phase=True).stored(data / 100).slope == stored.slope
    # Not an angle between -pi and pi: unwrapped, say.
    np.testing.assert_allclose(back(GreyScale(phase=True).stored(3 * data)), 3 * data, atol=1e-3)


def test_integers_stay_as_they_are() -> None:
    data = np.array([[0, 65535], [7, 8]], np.uint16)
    stored = GreyScale().stored(data, slope=0.25, intercept=-3)
    assert np.array_equal(stored.values, data)
    assert (stored.slope, stored.intercept) == (0.25, -3)
    np.testing.assert_array_equal(back(stored), data * 0.25 - 3)


@pytest.mark.parametrize("size", [1e-30, 1e-3, 1.0, 1e9])
def test_window_shows_what_is_there(size: float) -> None:
    data = np.zeros((100, 100))
    data[20:80, 20:80] = np.linspace(50, 100, 3600).reshape(60, 60)
    data[0, :10] = 1e3  # a few hot voxels
    stored = GreyScale().stored(data * size)
    centre, width = (value * stored.slope / size for value in stored.window)
    assert centre - width / 2 == pytest.approx(0, abs=1)
    assert centre + width / 2 == pytest.approx(100, rel=0.02)
    assert stored.window[1] > 900


def test_window_is_never_narrower_than_viewers_take() -> None:
    for data in (np.zeros((2, 2)), np.ones((2, 2), np.uint16), np.zeros((0, 2), np.uint16)):
        assert GreyScale().stored(data).window[1] >= 1


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_not_finite(value: float) -> None:
    with pytest.raises(NonFiniteError):
        GreyScale().stored(np.array([[1.0, value]]))
