"""Integers of a variable number of bytes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scanside.mrd.v2.varints import folded, read_varints, unfolded, varint, write_varints

pytestmark = pytest.mark.torch_free

numbers = st.lists(st.integers(0, 2**64 - 1) | st.integers(0, 300), max_size=40)


@pytest.mark.parametrize(
    ("value", "expected"),
    [(0, "00"), (127, "7f"), (128, "8001"), (300, "ac02"), (2**64 - 1, "ffffffffffffffffff01")],
)
def test_known_bytes(value: int, expected: str) -> None:
    assert varint(value).hex() == expected
    assert bytes(write_varints(np.array([value], np.uint64))).hex() == expected


@given(numbers)
def test_many_at_once_are_one_after_the_other(values: list[int]) -> None:
    written = write_varints(np.array(values, np.uint64))
    assert bytes(written) == b"".join(map(varint, values))
    found, used = read_varints(written, len(values))
    assert found.tolist() == values
    assert used == len(written)


@given(st.lists(st.integers(0, 2**40), min_size=1, max_size=20), st.data())
def test_a_number_that_is_cut_off_waits(values: list[int], data: st.DataObject) -> None:
    written = write_varints(np.array(values, np.uint64))
    n = data.draw(st.integers(0, len(written)))
    found, used = read_varints(written[:n], len(values))
    assert found.tolist() == values[: len(found)]
    assert used == len(b"".join(map(varint, values[: len(found)])))


@given(st.lists(st.integers(-(2**63), 2**63 - 1)))
def test_signs(values: list[int]) -> None:
    signed = np.array(values, np.int64)
    expected = [2 * value if value >= 0 else -2 * value - 1 for value in values]
    assert folded(signed).tolist() == expected
    assert unfolded(folded(signed)).tolist() == values


def test_numbers_that_go_on_for_ever_are_refused() -> None:
    with pytest.raises(ValueError, match="more than 64 bits"):
        read_varints(np.full(20, 0xFF, np.uint8), 1)
    with pytest.raises(ValueError, match="more than 64 bits"):
        read_varints(np.array([0x80] * 10 + [1], np.uint8), 1)
