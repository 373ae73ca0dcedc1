"""Means over places and cases."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

__all__ = ["FIGURES", "Row", "rows_of"]

FIGURES = ("kept", "displacement", "blurring", "elsewhere", "replicas", "detectability", "auc")
"""What is told of a response, in the order of tables."""


@dataclass(frozen=True)
class Row:
    """Responses of a candidate to structures of one diameter and contrast.

    Attributes:
        candidate: which.
        diameter: of the structures.
        contrast: of them.
        n: places in all cases.
        means: by figure; without those that no response has.
        deviations: standard deviations, likewise; 0 of a single one.
    """

    candidate: str
    diameter: float
    contrast: float
    n: int
    means: dict[str, float]
    deviations: dict[str, float]


def rows_of(responses: Iterable[tuple[str, float, float, Mapping[str, float | None]]]) -> list[Row]:
    """Rows from candidate, diameter, contrast and figures of every response, in the order of first appearance."""
    groups: dict[tuple[str, float, float], list[Mapping[str, float | None]]] = {}
    for candidate, diameter, contrast, figures in responses:
        groups.setdefault((candidate, diameter, contrast), []).append(figures)
    rows = []
    for (candidate, diameter, contrast), found in groups.items():
        values = {name: [one for figures in found if (one := figures[name]) is not None] for name in FIGURES}
        known = {name: numbers for name, numbers in values.items() if numbers}
        means = {name: float(np.mean(numbers)) for name, numbers in known.items()}
        spread = {
            name: float(np.std(numbers, ddof=1)) if len(numbers) > 1 else 0.0
            for name, numbers in known.items()
        }
        rows.append(Row(candidate, diameter, contrast, len(found), means, spread))
    return rows
