"""Who is in training, validation and test: whole subjects, never single slices.

Neighbouring slices of one subject are nearly the same image; a network that has seen one has seen the other.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Discriminator, Field, Tag, model_validator

from scanside.errors import ConfigError
from scanside_training.data.settings import Probability, Settings
from scanside_training.data.strata import Facts, facts_of_table, strata_of

__all__ = [
    "PARTS",
    "LeaveOneOut",
    "Part",
    "SharedSubjects",
    "SubjectFolds",
    "SubjectFractions",
    "SubjectLists",
    "SubjectSplit",
    "fold_count",
    "subjects_of",
]

Part = Literal["train", "validation", "test"]
PARTS: tuple[Part, ...] = ("train", "validation", "test")


class SubjectLists(Settings):
    """Subjects by name. Those that are in no list are not used."""

    train: tuple[str, ...] = ()
    validation: tuple[str, ...] = ()
    test: tuple[str, ...] = ()

    def named(self, part: Part, names: Sequence[str]) -> tuple[str, Sequence[str]]:
        """The setting that says who is in a part, and who."""
        return part, getattr(self, part)

    @model_validator(mode="after")
    def _disjoint(self) -> SubjectLists:
        named = [*self.train, *self.validation, *self.test]
        twice = sorted({name for name in named if named.count(name) > 1})
        if twice:
            raise ValueError(
                f"subjects {', '.join(twice)} are named more than once in train, validation and test: "
                "a subject may be in one of them only"
            )
        return self


class _Stratified(Settings):
    """What a split by chance may keep alike in all of its parts."""

    stratify: tuple[str, ...] = ()
    """Columns, such as ``[site, vendor]``: every combination of their values (a stratum) is in each part by its
    share. A column of numbers with more values than `bins` counts by its quantiles. An empty cell is a value."""
    table: Path | None = None
    """CSV file with a column ``subject`` and those of `stratify`; by default what the source's own files say."""
    bins: int = Field(default=4, ge=2)
    """Quantile bins of columns of numbers, such as ages: with four, quarters of the subjects."""
    seed: int = Field(default=0, ge=0)
    """Of the shuffle. It is the split's own, whatever the run's."""

    @model_validator(mode="after")
    def _table_is_used(self) -> _Stratified:
        if self.table is not None and not self.stratify:
            raise ValueError(
                f"the table {self.table} is given, and no column of it: name some in 'stratify', or leave it out"
            )
        return self

    def strata(self, names: list[str], facts: Facts, source: str) -> list[list[str]]:
        """The subjects of each stratum, shuffled by the seed."""
        known = facts if self.table is None else facts_of_table(self.table, self.stratify)
        where = f"source {source}" if self.table is None else str(self.table)
        rng = np.random.default_rng(self.seed)
        return [
            _shuffled(one, rng)
            for one in strata_of(names, self.stratify, known, n_bins=self.bins, where=where)
        ]


class SubjectFractions(_Stratified):
    """Shares of the subjects, which are shuffled by a seed; training gets what validation and test leave.

    A share above 0 is one subject at least. The seed is the split's own, whatever the run's: who is in the test of
    one run is in training of none.
    """

    validation: Probability = 0.1
    test: Probability = 0.1

    @model_validator(mode="after")
    def _some_train(self) -> SubjectFractions:
        if self.validation + self.test > 1:
            raise ValueError(
                f"validation {self.validation} and test {self.test} together are more than all subjects"
            )
        return self


class SubjectFolds(_Stratified):
    """One of the folds of a cross-validation: the subjects are dealt out to `folds`, as evenly as they can be, one
    fold is the test, and the others are for training and validation.

    Over all folds every subject is in one test. With strata, folds have as many subjects of each, give or take one.
    """

    folds: int = Field(ge=2)
    fold: int = Field(default=0, ge=0)
    """The fold that is the test, from 0 on."""
    validation: Probability = 0.1
    """Share of the subjects outside the test that are in the validation; above 0 it is one at least."""

    @model_validator(mode="after")
    def _fold_is_there(self) -> SubjectFolds:
        if self.fold >= self.folds:
            raise ValueError(
                f"fold {self.fold} is none of {self.folds} folds: they are numbered 0 to {self.folds - 1}"
            )
        return self

    def n_folds(self, names: Sequence[str], source: str) -> int:
        """How many folds there are, each of one subject at least.

        Raises:
            ConfigError: there are more folds than subjects.
        """
        if self.folds > len(names):
            raise ConfigError(
                f"source {source}: {self.folds} folds of {len(names)} subjects would leave some empty: set "
                "split.folds to their number at most"
            )
        return self.folds


class LeaveOneOut(Settings):
    """As many folds as subjects: fold 0 is the first subject in the order of names, and so on.

    The test is one subject, the others are for training and validation.
    """

    leave_out: Literal["one"]
    fold: int = Field(default=0, ge=0)
    """The subject that is the test, from 0 on."""
    validation: Probability = 0.1
    """Share of the other subjects that are in the validation; above 0 it is one at least."""
    seed: int = Field(default=0, ge=0)
    """Of the validation's shuffle. It is the split's own, whatever the run's."""

    def n_folds(self, names: Sequence[str], source: str) -> int:
        """How many folds there are.

        Raises:
            ConfigError: `fold` is none of them.
        """
        if self.fold >= len(names):
            raise ConfigError(
                f"source {source}: split.fold is {self.fold}, and its {len(names)} subjects are numbered 0 to "
                f"{len(names) - 1}"
            )
        return len(names)


class SharedSubjects(Settings):
    """Subjects that are in training and in validation both, for tasks that keep lines of every scan apart.

    A network that is tuned to one scan has no other that it could be judged by.
    """

    shared: Literal["all"] | tuple[str, ...]

    def named(self, part: Part, names: Sequence[str]) -> tuple[str, Sequence[str]]:
        """The setting that says who is in a part, and who."""
        both = names if self.shared == "all" else self.shared
        return "shared", both if part != "test" else ()


def _which(settings: Any) -> str:
    """The kind of split that settings are of, so that errors are about that one alone."""
    if not isinstance(settings, Mapping):
        return type(settings).__name__ if isinstance(settings, Settings) else SubjectLists.__name__
    for setting, kind in (("folds", SubjectFolds), ("leave_out", LeaveOneOut), ("shared", SharedSubjects)):
        if setting in settings:
            return kind.__name__
    shares = any(isinstance(settings.get(part), int | float) for part in PARTS)
    of_shares = shares or bool(settings.keys() - set(PARTS))
    return SubjectFractions.__name__ if of_shares else SubjectLists.__name__


SubjectSplit = Annotated[
    Annotated[SubjectLists, Tag("SubjectLists")]
    | Annotated[SubjectFractions, Tag("SubjectFractions")]
    | Annotated[SubjectFolds, Tag("SubjectFolds")]
    | Annotated[LeaveOneOut, Tag("LeaveOneOut")]
    | Annotated[SharedSubjects, Tag("SharedSubjects")],
    Discriminator(_which),
]


def subjects_of(
    part: Part, split: SubjectSplit, available: Iterable[str], source: str, facts: Facts | None = None
) -> frozenset[str]:
    """Names of the subjects in one part.

    Args:
        part: ``train``, ``validation`` or ``test``.
        split: who is in which part.
        available: subjects that there are.
        source: kind of the source, for errors.
        facts: what the source's files say of its subjects, for strata without a table.

    Raises:
        ConfigError: a list names a subject that there is not, a fold is empty or not there, nobody is left for
            training beside folds, or the strata cannot be told or parted.
    """
    names = sorted(set(available))
    if isinstance(split, SubjectFractions):
        return frozenset(_by_fractions(split, split.strata(names, facts or {}, source))[part])
    if isinstance(split, SubjectFolds):
        split.n_folds(names, source)
        strata = split.strata(names, facts or {}, source)
        dealt = [name for stratum in strata for name in stratum]
        return _around(split, frozenset(dealt[split.fold :: split.folds]), strata, source)[part]
    if isinstance(split, LeaveOneOut):
        split.n_folds(names, source)
        return _around(split, frozenset({names[split.fold]}), [names], source)[part]
    setting, wanted = split.named(part, names)
    unknown = sorted(set(wanted) - set(names))
    if unknown:
        raise ConfigError(
            f"source {source}: split.{setting} names the subjects {', '.join(unknown)}, which it does not have; "
            f"it has {', '.join(names)}"
        )
    return frozenset(wanted)


def fold_count(split: SubjectSplit, available: Iterable[str], source: str) -> int | None:
    """How many folds a split has; None where it has none.

    Raises:
        ConfigError: as `subjects_of`.
    """
    if not isinstance(split, SubjectFolds | LeaveOneOut):
        return None
    return split.n_folds(sorted(set(available)), source)


def _by_fractions(split: SubjectFractions, strata: list[list[str]]) -> Mapping[Part, Sequence[str]]:
    total = sum(map(len, strata))
    # A share of few subjects is one of them at least; both together may then be more than there are.
    n_validation, n_test = (max(round(share * total), share > 0) for share in (split.validation, split.test))
    n_validation = min(n_validation, total)
    validation, strata = _taken(strata, n_validation)
    test, strata = _taken(strata, min(n_test, total - n_validation))
    return {"validation": validation, "test": test, "train": [name for one in strata for name in one]}


def _around(
    split: SubjectFolds | LeaveOneOut, test: frozenset[str], strata: list[list[str]], source: str
) -> Mapping[Part, frozenset[str]]:
    """The parts about a test: who is in the validation is drawn anew for every fold."""
    rng = np.random.default_rng([split.seed, split.fold])
    rest = [_shuffled([name for name in stratum if name not in test], rng) for stratum in strata]
    total = sum(map(len, rest))
    n_validation = max(round(split.validation * total), int(split.validation > 0))
    if n_validation >= total:
        raise ConfigError(
            f"source {source}: beside fold {split.fold} there are {total} subjects, {n_validation} of them for "
            "validation, and nobody is left for training: lower split.validation, or bring more subjects"
        )
    validation, left = _taken(rest, n_validation)
    return {
        "test": test,
        "validation": frozenset(validation),
        "train": frozenset(name for one in left for name in one),
    }


def _taken(strata: list[list[str]], n: int) -> tuple[list[str], list[list[str]]]:
    """So many subjects, of each stratum its share (by largest remainders), and those that are left."""
    total = sum(map(len, strata))
    if not total:
        return [], strata
    exact = np.array([n * len(one) / total for one in strata])
    counts = np.floor(exact + 1e-9).astype(int)
    for index in np.argsort(-(exact - counts), kind="stable")[: n - counts.sum()]:
        counts[index] += 1
    taken = [name for one, count in zip(strata, counts, strict=True) for name in one[:count]]
    return taken, [one[count:] for one, count in zip(strata, counts, strict=True)]


def _shuffled(names: list[str], rng: np.random.Generator) -> list[str]:
    return [names[i] for i in rng.permutation(len(names))]
