"""How measures follow a number of the scan, such as its noise or its acceleration, with what subjects differ by."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator

from scanside_training.evaluation.paired import LEAST_SUBJECTS, paired_difference
from scanside_training.evaluation.scores import Score

__all__ = ["CONDITIONS", "DRAWN", "Point", "conditions_of", "curve_figure", "points"]

DRAWN = {"psnr": "PSNR, dB", "ssim": "SSIM"}
"""Measures that are drawn."""

CONDITIONS = {
    "snr": "SNR: bright tissue over noise",
    "acceleration": "acceleration: lines over acquired lines",
    "acs": "calibration lines",
    "n_coils": "coils",
    "lines": "lines of the matrix",
    "columns": "columns of the matrix",
    "te_ms": "echo time, ms",
}
"""Titles of axes."""

_FEWEST, _DISTINCT, _MOST_GROUPS = 3, 8, 6
"""Values that make a curve; up to how many of them each is a point; into how many groups more are put at most."""
_WIDE = 4
"""From this ratio of the largest to the smallest value on, the axis is logarithmic."""

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Point:
    """One candidate's measure where a number of the scan lies within some bounds.

    Attributes:
        candidate: whose.
        condition: which number.
        measure: which.
        first: smallest value of the number.
        last: its largest.
        at: its mean.
        mean: of the measure over the subjects.
        low: lower end of its 95 % interval (BCa bootstrap over subjects); None of fewer than six.
        high: upper end.
        n_subjects: subjects.
        n_images: their images.
    """

    candidate: str
    condition: str
    measure: str
    first: float
    last: float
    at: float
    mean: float
    low: float | None
    high: float | None
    n_subjects: int
    n_images: int


def conditions_of(scores: Iterable[Score]) -> list[str]:
    """Numbers of the scan with enough values to draw a curve over."""
    values: dict[str, set[float]] = {}
    for one in scores:
        for name, value in one.conditions.items():
            values.setdefault(name, set()).add(value)
    return [name for name, found in values.items() if len(found) >= _FEWEST]


def points(scores: Sequence[Score], conditions: Iterable[str]) -> list[Point]:
    """Points of all curves, in the order of conditions, measures, candidates and values.

    A condition of few values has a point for each, others are divided into groups of as many scans each.
    Images of unknown people are left out.
    """
    known = [one for one in scores if one.subject is not None]
    found = []
    for condition in conditions:
        having = [one for one in known if condition in one.conditions]
        bounds = _bounds(having, condition)
        for measure in DRAWN:
            for name in dict.fromkeys(one.candidate for one in having):
                own = [one for one in having if one.candidate == name and measure in one.values]
                for low, high in bounds:
                    within = [one for one in own if low <= one.conditions[condition] <= high]
                    if point := _point(within, condition, measure):
                        found.append(point)
    return found


def curve_figure(found: Sequence[Point], condition: str) -> Figure:
    """A panel for each measure; where there are intervals, bands."""
    figure = Figure(figsize=(9.6, 3.6), dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    own = [one for one in found if one.condition == condition]
    axes = figure.subplots(1, len(DRAWN))
    for axis, (measure, title) in zip(axes, DRAWN.items(), strict=True):
        for name in dict.fromkeys(one.candidate for one in own):
            line = [one for one in own if one.candidate == name and one.measure == measure]
            at = [one.at for one in line]
            (drawn,) = axis.plot(
                at, [one.mean for one in line], marker="o", markersize=3, linewidth=1.2, label=name
            )
            low, high = ([math.nan if end is None else end for end in ends] for ends in _ends(line))
            axis.fill_between(at, low, high, color=drawn.get_color(), alpha=0.15, linewidth=0)
        axis.set_ylabel(title)
        axis.set_xlabel(CONDITIONS.get(condition, condition))
        axis.grid(alpha=0.3)
        values = [one.at for one in own]
        if values and min(values) > 0 and max(values) > _WIDE * min(values):
            axis.set_xscale("log")
            # Powers of ten alone would leave most axes without a number.
            axis.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
            axis.xaxis.set_major_formatter("{x:g}")
            axis.xaxis.set_minor_formatter("")
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, fontsize=8, frameon=False, loc="outside upper center", ncols=4)
    return figure


def _ends(line: Sequence[Point]) -> tuple[list[float | None], list[float | None]]:
    return [one.low for one in line], [one.high for one in line]


def _bounds(scores: Sequence[Score], condition: str) -> list[tuple[float, float]]:
    """First and last value of each group: as many groups as leave each subjects enough for an interval."""
    by_case = {one.case: (one.conditions[condition], one.subject) for one in scores}
    values = np.sort(np.array([value for value, _ in by_case.values()], np.float64))
    distinct = np.unique(values)
    if len(distinct) <= _DISTINCT:
        return [(float(value), float(value)) for value in distinct]
    for n_groups in range(_MOST_GROUPS, _FEWEST, -1):
        bounds = _divided(values, distinct, n_groups)
        n_subjects = [
            len({subject for value, subject in by_case.values() if low <= value <= high})
            for low, high in bounds
        ]
        if min(n_subjects) >= LEAST_SUBJECTS:
            return bounds
    return _divided(values, distinct, _FEWEST)


def _divided(values: Floats, distinct: Floats, n_groups: int) -> list[tuple[float, float]]:
    """First and last value of groups of as many scans each; equal values are in one."""
    ends = np.unique([part[-1] for part in np.array_split(values, n_groups)])
    firsts = [distinct[0], *(distinct[np.searchsorted(distinct, end, side="right")] for end in ends[:-1])]
    return [(float(first), float(last)) for first, last in zip(firsts, ends, strict=True)]


def _point(scores: Sequence[Score], condition: str, measure: str) -> Point | None:
    by_subject: dict[str, list[float]] = {}
    for one in scores:
        if math.isfinite(one.values[measure]):
            by_subject.setdefault(str(one.subject), []).append(one.values[measure])
    if not by_subject:
        return None
    people = paired_difference(by_subject)
    values = [one.conditions[condition] for one in scores]
    return Point(
        scores[0].candidate,
        condition,
        measure,
        min(values),
        max(values),
        float(np.mean(values)),
        people.mean,
        people.low,
        people.high,
        people.n_subjects,
        people.n_images,
    )
