"""What is known of subjects (site, vendor, age …), and the groups that are alike in it."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from scanside.errors import ConfigError
from scanside_training.data.tables import table_rows

__all__ = ["Facts", "facts_of_table", "joined_facts", "strata_of"]

Facts = Mapping[str, Mapping[str, str]]
"""Of every subject, values by column; names of columns are in small letters."""

_SUBJECT = "subject"


def facts_of_table(table: Path, columns: Sequence[str]) -> dict[str, dict[str, str]]:
    """Some columns of a table of subjects. A subject may stand there more than once, such as once for each file.

    Args:
        table: CSV file with a column ``subject``.
        columns: the columns; capital and small letters are the same.

    Raises:
        ConfigError: the table cannot be read, lacks a column or a subject's name, or contradicts itself.
    """
    rows = table_rows(table)
    there = list(rows[0]) if rows else []
    missing = [name for name in (_SUBJECT, *(one.lower() for one in columns)) if name not in there]
    if missing:
        raise ConfigError(
            f"{table} has no column {', '.join(map(repr, missing))}; it has {', '.join(map(repr, there)) or 'none'}. "
            "The first line names 'subject' and the columns to stratify by"
        )
    facts: dict[str, dict[str, str]] = {}
    for number, row in enumerate(rows, start=2):
        subject = row[_SUBJECT].strip()
        if not subject:
            raise ConfigError(
                f"{table}, line {number}: the subject has no name; give it one or drop the line"
            )
        values = {name.lower(): row[name.lower()].strip() for name in columns}
        before = facts.setdefault(subject, values)
        for name, value in values.items():
            if before[name] != value:
                raise ConfigError(
                    f"{table}, line {number}: subject '{subject}' has {name} '{value}', and '{before[name]}' in a "
                    "line before; all of a subject is on one side of a split, so give it one value"
                )
    return facts


def strata_of(
    names: Sequence[str], columns: Sequence[str], facts: Facts, *, n_bins: int, where: str
) -> list[list[str]]:
    """The subjects of each combination of values, combinations and names in order.

    A column of numbers with more than `n_bins` different ones is cut into quantile bins.

    Args:
        names: of the subjects, in order.
        columns: what subjects of one stratum have in common; without any all are in one.
        facts: of the subjects.
        n_bins: quantile bins of numbers.
        where: the facts come from, for errors.

    Raises:
        ConfigError: a subject or a column is not there, or a stratum has a single subject, who cannot be on both
            sides of a split.
    """
    if not columns:
        return [list(names)]
    unknown = [name for name in names if name not in facts]
    if unknown:
        raise ConfigError(
            f"{where} tells nothing of {_some(unknown)}, and split.stratify asks for {', '.join(columns)}: "
            "add the missing, or name a table of all subjects in split.table"
        )
    values = {name: _values(name, columns, facts[name], where) for name in names}
    told = [_binned([values[name][i] for name in names], n_bins) for i in range(len(columns))]
    strata: dict[tuple[str, ...], list[str]] = defaultdict(list)
    for name, key in zip(names, zip(*told, strict=True), strict=True):
        strata[key].append(name)
    alone = {key: one[0] for key, one in strata.items() if len(one) == 1}
    if alone:
        told_of = (", ".join(map(" ".join, zip(columns, key, strict=True))) for key in alone)
        shown = [f"{one} ({what})" for one, what in zip(alone.values(), told_of, strict=True)]
        raise ConfigError(
            f"{where}: nobody is like subject {_some(shown)}, and one subject cannot be in training and in test: "
            "stratify by fewer columns, take fewer bins, or give rare values one name"
        )
    return [strata[key] for key in sorted(strata)]


def _values(name: str, columns: Sequence[str], facts: Mapping[str, str], where: str) -> list[str]:
    missing = [column for column in columns if column.lower() not in facts]
    if missing:
        raise ConfigError(
            f"{where} does not tell {', '.join(missing)} of subject '{name}'; it tells "
            f"{', '.join(facts) or 'nothing'}. Name a table with such a column in split.table"
        )
    return [facts[column.lower()] for column in columns]


def _binned(values: Sequence[str], n_bins: int) -> list[str]:
    """The values, or the numbers of their quantile bins."""
    numbers = [_number(value) for value in values]
    known = {number for number, value in zip(numbers, values, strict=True) if value}
    if None in known or len(known) <= n_bins:
        return list(values)
    edges = np.quantile([number for number in numbers if number is not None], np.arange(1, n_bins) / n_bins)
    return [
        "" if number is None else f"quantile {int(np.searchsorted(edges, number)) + 1} of {n_bins}"
        for number in numbers
    ]


def _number(value: str) -> float | None:
    try:
        number = float(value)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def _some(names: Sequence[str]) -> str:
    return f"{', '.join(names[:5])}{f' and {len(names) - 5} more' if len(names) > 5 else ''}"


def joined_facts(files: Iterable[tuple[str, Mapping[str, str]]]) -> dict[str, dict[str, str]]:
    """What the subjects' files say of themselves, values of several files together: ``AXT1 + AXT2``.

    Args:
        files: the subject of each, and what it says.
    """
    told: dict[str, dict[str, set[str]]] = {}
    for subject, facts in files:
        of_subject = told.setdefault(subject, {})
        for name, value in facts.items():
            of_subject.setdefault(name.lower(), set()).add(value)
    return {
        subject: {name: " + ".join(sorted(values)) for name, values in facts.items()}
        for subject, facts in told.items()
    }
