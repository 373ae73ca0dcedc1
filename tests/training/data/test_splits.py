"""Subjects lie in one part only, and every subject that is asked for exists."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from pydantic import ValidationError

from scanside.errors import ConfigError
from scanside_training.config import read_settings
from scanside_training.data import (
    LeaveOneOut,
    SubjectFolds,
    SubjectFractions,
    SubjectLists,
    SubjectSplit,
)
from scanside_training.data.settings import Settings
from scanside_training.data.splits import PARTS, subjects_of
from scanside_training.data.strata import Facts


class Holder(Settings):
    """What has a split."""

    split: SubjectSplit


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


def parted(split: Any, names: Iterable[str], facts: Facts | None = None) -> dict[str, frozenset[str]]:
    return {part: subjects_of(part, split, names, "kind", facts) for part in PARTS}


def test_shares_are_those_of_earlier_versions() -> None:
    """Who was in the test of weights that are shipped stays there."""
    names = sorted(str(n) for n in range(40))
    order = [names[i] for i in np.random.default_rng(3).permutation(40)]
    parts = parted(SubjectFractions(validation=0.1, test=0.2, seed=3), names)
    assert parts == {"validation": set(order[:4]), "test": set(order[4:12]), "train": set(order[12:])}


@given(
    n=st.integers(3, 40),
    n_folds=st.integers(2, 8),
    validation=st.floats(0, 0.4),
    seed=st.integers(0, 3),
)
def test_over_all_folds_everybody_is_in_one_test(n: int, n_folds: int, validation: float, seed: int) -> None:
    names = [f"{i:02d}" for i in range(n)]
    assume(n_folds <= n and n - -(-n // n_folds) > 1)  # one for training and one for validation
    tests: list[str] = []
    for fold in range(n_folds):
        parts = parted(SubjectFolds(folds=n_folds, fold=fold, validation=validation, seed=seed), names)
        assert sorted(name for members in parts.values() for name in members) == names
        assert len(parts["test"]) in (n // n_folds, -(-n // n_folds))
        outside = n - len(parts["test"])
        assert len(parts["validation"]) == max(round(validation * outside), validation > 0)
        assert parts["train"]
        tests += parts["test"]
    assert sorted(tests) == names


def test_leave_one_subject_out() -> None:
    names = ["c", "a", "b", "a"]
    parts = [parted(LeaveOneOut(leave_out="one", fold=fold, validation=0.5), names) for fold in range(3)]
    assert [sorted(one["test"]) for one in parts] == [["a"], ["b"], ["c"]]
    assert all(len(one["validation"]) == len(one["train"]) == 1 for one in parts)
    with pytest.raises(ConfigError, match=r"split\.fold is 3, and its 3 subjects are numbered 0 to 2"):
        parted(LeaveOneOut(leave_out="one", fold=3), names)


@given(
    seed=st.integers(0, 20),
    n_folds=st.integers(2, 6),
    sizes=st.lists(st.integers(2, 12), min_size=1, max_size=4),
)
def test_folds_have_of_every_stratum_their_share(seed: int, n_folds: int, sizes: list[int]) -> None:
    site = [chr(97 + i) for i, size in enumerate(sizes) for _ in range(size)]
    names = [f"{i:02d}" for i in range(len(site))]
    assume(n_folds < len(names) - 1)
    facts = {name: {"site": one} for name, one in zip(names, site, strict=True)}
    counts = []
    for fold in range(n_folds):
        split = SubjectFolds(folds=n_folds, fold=fold, seed=seed, stratify=("Site",))
        counts.append(Counter(facts[name]["site"] for name in parted(split, names, facts)["test"]))
    for one, size in zip(sorted(set(site)), sizes, strict=True):
        assert {count[one] for count in counts} <= {size // n_folds, -(-size // n_folds)}
    assert np.ptp([count.total() for count in counts]) <= 1


@pytest.mark.filterwarnings("ignore:The least populated class")
def test_strata_of_folds_are_as_scikit_learn_has_them() -> None:
    selection = pytest.importorskip("sklearn.model_selection")
    site = ["a"] * 11 + ["b"] * 7 + ["c"] * 3
    names = [f"{i:02d}" for i in range(len(site))]
    facts = {name: {"site": one} for name, one in zip(names, site, strict=True)}
    theirs = [Counter(site[i] for i in test) for _, test in selection.StratifiedKFold(5).split(names, site)]
    ours = [
        Counter(
            facts[name]["site"]
            for name in parted(SubjectFolds(folds=5, fold=fold, stratify=("site",)), names, facts)["test"]
        )
        for fold in range(5)
    ]
    assert ours == theirs


def test_shares_are_those_of_every_stratum() -> None:
    names = [f"{i:02d}" for i in range(30)]
    facts = {name: {"site": "large" if i < 20 else "small"} for i, name in enumerate(names)}
    parts = parted(SubjectFractions(validation=0.1, test=0.2, stratify=("site",)), names, facts)
    counts = {part: Counter(facts[name]["site"] for name in members) for part, members in parts.items()}
    assert counts["validation"] == {"large": 2, "small": 1}
    assert counts["test"] == {"large": 4, "small": 2}
    assert counts["train"] == {"large": 14, "small": 7}
    assert parts != parted(SubjectFractions(validation=0.1, test=0.2), names)


def test_a_table_beside(tmp_path: Path) -> None:
    table = tmp_path / "people.csv"
    rows = [f"{i:02d};{'GE' if i % 2 else 'Siemens'};{20 + i}" for i in range(16)]
    table.write_text("\n".join(["Subject;Vendor;Age", *rows, rows[3]]))
    names = [f"{i:02d}" for i in range(16)]
    split = SubjectFolds(folds=2, stratify=("vendor", "age"), table=table)
    test = parted(split, names)["test"]
    for quarter in range(4):
        of_age = {name for name in names if int(name) // 4 == quarter}
        assert len(test & of_age) == 2
        assert len({int(name) % 2 for name in test & of_age}) == 2


@pytest.mark.parametrize(
    ("split", "message"),
    [
        ({"folds": 3, "fold": 3}, r"split: fold 3 is none of 3 folds: they are numbered 0 to 2"),
        ({"folds": 1}, r"split\.folds = 1: .*greater than or equal to 2"),
        ({"folds": 3, "fodl": 1}, r"split has no setting 'fodl' \(did you mean 'fold'\?\); it has"),
        ({"leave_out": "two"}, r"split\.leave_out = 'two'"),
        ({"validation": 0.2, "tets": 0.2}, r"split has no setting 'tets' \(did you mean 'test'\?\)"),
        ("by hand", r"split = 'by hand': Input should be a valid dictionary"),
        ({"folds": 3, "table": "x.csv"}, "the table x.csv is given, and no column of it"),
    ],
)
def test_settings_that_cannot_be(split: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as error:
        read_settings(Holder, {"split": split}, "here", "a split")
    assert str(error.value).count(";") <= 1, "of one kind of split, not of all"


def test_more_folds_than_subjects() -> None:
    with pytest.raises(ConfigError, match="source kind: 4 folds of 3 subjects would leave some empty"):
        parted(SubjectFolds(folds=4), ["a", "b", "c"])


def test_nobody_is_left_for_training() -> None:
    with pytest.raises(
        ConfigError, match=r"beside fold 1 there are 1 subjects, 1 of them for validation, and nobody"
    ):
        parted(SubjectFolds(folds=2, fold=1), ["a", "b"])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("subject,site\na,x\nb,x\nc,y\nd,y", "tells nothing of e, and split.stratify asks for site"),
        ("subject,site\na,x\nb,x\nc,y\nd,y\ne,z", r"nobody is like subject e \(site z\)"),
        (
            "subject,site\na,x\nb,x\na,y\nc,y\ne,x",
            r"line 4: subject 'a' has site 'y', and 'x' in a line before",
        ),
        ("subject,place\na,x\n", r"has no column 'site'; it has 'subject', 'place'"),
        ("", "has no column 'subject', 'site'; it has none"),
        ("subject,site\n,x\n", "line 2: the subject has no name"),
    ],
)
def test_tables_that_cannot_be_used(tmp_path: Path, text: str, message: str) -> None:
    table = tmp_path / "subjects.csv"
    table.write_text(text)
    with pytest.raises(ConfigError, match=message):
        parted(SubjectFractions(stratify=("site",), table=table), "abcde")


def test_a_source_that_tells_nothing() -> None:
    with pytest.raises(
        ConfigError, match=r"source kind tells nothing of a, b, and split\.stratify asks for site"
    ):
        parted(SubjectFractions(stratify=("site",)), "ab")
    facts = {"a": {"acquisition": "x"}, "b": {"acquisition": "x"}}
    with pytest.raises(ConfigError, match="does not tell site of subject 'a'; it tells acquisition"):
        parted(SubjectFractions(stratify=("site",)), "ab", facts)


def test_a_table_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"gone\.csv cannot be read"):
        parted(SubjectFractions(stratify=("site",), table=tmp_path / "gone.csv"), "ab")
