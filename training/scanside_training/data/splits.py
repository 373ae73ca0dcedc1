"""Who is in training, validation and test: whole subjects, never single slices.

Neighbouring slices of one subject are nearly the same image; a network that has seen one has seen the other.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Literal

import numpy as np
from pydantic import Field, model_validator

from scanside.errors import ConfigError
from scanside_training.data.settings import Probability, Settings

__all__ = [
    "PARTS",
    "Part",
    "SharedSubjects",
    "SubjectFractions",
    "SubjectLists",
    "SubjectSplit",
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


class SubjectFractions(Settings):
    """Shares of the subjects, which are shuffled by a seed; training gets what validation and test leave.

    A share above 0 is one subject at least. The seed is the split's own, whatever the run's: who is in the test of
    one run is in training of none.
    """

    validation: Probability = 0.1
    test: Probability = 0.1
    seed: int = Field(default=0, ge=0)

    @model_validator(mode="after")
    def _some_train(self) -> SubjectFractions:
        if self.validation + self.test > 1:
            raise ValueError(
                f"validation {self.validation} and test {self.test} together are more than all subjects"
            )
        return self


class SharedSubjects(Settings):
    """Subjects that are in training and in validation both, for tasks that keep lines of every scan apart.

    A network that is tuned to one scan has no other that it could be judged by.
    """

    shared: Literal["all"] | tuple[str, ...]

    def named(self, part: Part, names: Sequence[str]) -> tuple[str, Sequence[str]]:
        """The setting that says who is in a part, and who."""
        both = names if self.shared == "all" else self.shared
        return "shared", both if part != "test" else ()


SubjectSplit = SubjectLists | SubjectFractions | SharedSubjects


def subjects_of(part: Part, split: SubjectSplit, available: Iterable[str], source: str) -> frozenset[str]:
    """Names of the subjects in one part.

    Args:
        part: ``train``, ``validation`` or ``test``.
        split: who is in which part.
        available: subjects that there are.
        source: kind of the source, for errors.

    Raises:
        ConfigError: a list names a subject that there is not.
    """
    names = sorted(set(available))
    if isinstance(split, SubjectFractions):
        return frozenset(_by_fractions(split, names)[part])
    setting, wanted = split.named(part, names)
    unknown = sorted(set(wanted) - set(names))
    if unknown:
        raise ConfigError(
            f"source {source}: split.{setting} names the subjects {', '.join(unknown)}, which it does not have; "
            f"it has {', '.join(names)}"
        )
    return frozenset(wanted)


def _by_fractions(split: SubjectFractions, names: list[str]) -> dict[Part, list[str]]:
    order = [names[i] for i in np.random.default_rng(split.seed).permutation(len(names))]
    # A share of few subjects is one of them at least; both together may then be more than there are.
    n_validation, n_test = (
        max(round(share * len(names)), share > 0) for share in (split.validation, split.test)
    )
    n_validation = min(n_validation, len(names))
    n_test = min(n_test, len(names) - n_validation)
    rest = n_validation + n_test
    return {"validation": order[:n_validation], "test": order[n_validation:rest], "train": order[rest:]}
