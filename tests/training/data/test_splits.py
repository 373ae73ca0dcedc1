"""Subjects lie in one part only, and every subject that is asked for exists."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from scanside.errors import ConfigError
from scanside_training.data import SubjectFractions, SubjectLists
from scanside_training.data.splits import PARTS, subjects_of


@given(
    names=st.sets(st.text(min_size=1, max_size=3), min_size=1, max_size=40),
    validation=st.floats(0, 0.5),
    test=st.floats(0, 0.5),
    seed=st.integers(0, 5),
)
def test_shares_part_the_subjects(names: set[str], validation: float, test: float, seed: int) -> None:
    split = SubjectFractions(validation=validation, test=test, seed=seed)
    parts = {part: subjects_of(part, split, names, "kind") for part in PARTS}
    assert sorted(name for members in parts.values() for name in members) == sorted(names)
    if len(names) > 4:
        for part, share in (("validation", validation), ("test", test)):
            assert abs(len(parts[part]) - share * len(names)) <= 1
            assert bool(parts[part]) == (share > 0)


def test_the_seed_decides() -> None:
    names = [str(n) for n in range(30)]
    drawn = [subjects_of("validation", SubjectFractions(seed=seed), names, "kind") for seed in (0, 0, 1)]
    assert drawn[0] == drawn[1] != drawn[2]


def test_names_that_overlap() -> None:
    with pytest.raises(ValidationError, match="subjects 3, 5 are named more than once"):
        SubjectLists(train=("1", "3", "5"), validation=("3",), test=("4", "5"))


def test_a_name_that_is_not_there() -> None:
    with pytest.raises(ConfigError, match=r"source kind: split\.test names the subjects 9, .* it has 1, 2"):
        subjects_of("test", SubjectLists(train=("1",), test=("9",)), ["1", "2", "1"], "kind")


def test_more_than_everybody() -> None:
    with pytest.raises(ValidationError, match="more than all subjects"):
        SubjectFractions(validation=0.6, test=0.5)
