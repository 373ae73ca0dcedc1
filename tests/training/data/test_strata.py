"""What is known of subjects becomes groups."""

from __future__ import annotations

import numpy as np
import pytest

from scanside_training.data.strata import strata_of


def binned(values: list[str], n_bins: int) -> list[list[str]]:
    names = [f"{i:02d}" for i in range(len(values))]
    facts = {name: {"age": value} for name, value in zip(names, values, strict=True)}
    return strata_of(names, ["age"], facts, n_bins=n_bins, where="here")


def test_numbers_are_cut_by_quantiles() -> None:
    ages = np.random.default_rng(0).permutation(40)
    found = binned([f"{age}.5" for age in ages], 4)
    assert [len(one) for one in found] == [10] * 4
    for number, one in enumerate(found):
        assert {ages[int(name)] // 10 for name in one} == {number}


def test_few_numbers_are_values() -> None:
    assert [len(one) for one in binned(["3"] * 3 + ["1.5"] * 5, 2)] == [5, 3]


def test_equal_numbers_are_in_one_bin() -> None:
    found = binned(["20"] * 6 + ["30", "31", "40", "41"], 2)
    assert found[0] == [f"{i:02d}" for i in range(6)]


@pytest.mark.parametrize(
    "values", [["1", "2", "3", "4", "x", "x"] * 2, ["", ""] + ["20", "30", "40", "50"] * 2]
)
def test_what_is_no_number_is_a_value(values: list[str]) -> None:
    n_bins = 2 if "" in values else 4
    found = binned(values, n_bins)
    of_values = [{values[int(name)] for name in one} for one in found]
    assert {"x"} in of_values or {""} in of_values
