"""Pictures of what readers said."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from scanside.report.figures import BLUE, FAINT, INK, ORANGE
from scanside_training.readers.results import Difference, Liking, Score

__all__ = ["answers_figure", "differences_figure", "likings_figure"]

_WIDTH = 9.0
_ROW = 0.42
"""Height of a bar with its surroundings, in inches."""

_SCALE = ("#9c3d2e", "#d98a5b", "#d9dde1", "#7fb0d3", "#2f6f9f")
"""From the worse end of a scale to the better one."""

_DARK = (_SCALE[0], _SCALE[-1])


def answers_figure(
    scores: Sequence[Score], labels: Sequence[str], *, ordered: bool, better: str = "high"
) -> Figure:
    """How often each answer was given, one bar for each method.

    Args:
        scores: of one question; at least one.
        labels: of the answers, in their order.
        ordered: whether they are steps of a scale, whose colours go from worse to better.
        better: the better end.
    """
    figure, axes = _new(len(scores), legend_rows=-(-len(labels) // 3))
    colours = _steps(len(labels)) if ordered else [f"C{i}" for i in range(len(labels))]
    if better == "low":
        colours = colours[::-1]
    for row, score in enumerate(scores):
        n = sum(score.counts.values()) or 1
        left = 0.0
        for number, count in enumerate(score.counts.values()):
            share = 100 * count / n
            axes.barh(
                row, share, left=left, color=colours[number], label=labels[number] if row == 0 else None
            )
            if share >= 5:
                _count(axes, left + share / 2, row, count, colours[number])
            left += share
    _rows(axes, [score.method for score in scores])
    axes.set_xlim(0, 100)
    axes.set_xlabel("% of the answers; numbers are answers")
    figure.legend(loc="outside upper center", ncols=min(3, len(labels)), fontsize=8, frameon=False)
    return figure


def differences_figure(differences: Sequence[Difference], unit: str) -> Figure:
    """Mean differences with 95 % intervals, and margins of non-inferiority.

    Args:
        differences: of one question; at least one.
        unit: of the differences.
    """
    figure, axes = _new(len(differences))
    for row, one in enumerate(differences):
        overall = one.overall
        colour = INK if one.noninferior is None else BLUE if one.noninferior else ORANGE
        if overall.low is not None and overall.high is not None:
            axes.plot([overall.low, overall.high], [row, row], color=colour, linewidth=2)
        axes.plot(overall.mean, row, "o", color=colour, markersize=6)
        if one.margin is not None:
            axes.plot([-one.margin] * 2, [row - 0.4, row + 0.4], color=ORANGE, linewidth=1.5, linestyle="--")
    axes.axvline(0, color=FAINT, linewidth=1)
    _rows(axes, [f"{one.first} − {one.second}" for one in differences])
    axes.set_xlabel(unit)
    return figure


def likings_figure(likings: Sequence[Liking]) -> Figure:
    """Votes of one preference: for the first, for neither, for the second.

    Args:
        likings: of one question; at least one.
    """
    figure, axes = _new(len(likings))
    for row, one in enumerate(likings):
        votes = (one.votes_first, one.votes_same, one.votes_second)
        left = 0.0
        for count, colour in zip(votes, (BLUE, _SCALE[2], ORANGE), strict=True):
            share = 100 * count / sum(votes)
            axes.barh(row, share, left=left, color=colour)
            if count:
                _count(axes, left + share / 2, row, count, colour)
            left += share
    _rows(axes, [f"{one.first} | {one.second}" for one in likings])
    axes.set_xlim(0, 100)
    axes.set_xlabel("% of the votes: for the first (blue), for neither (grey), for the second (orange)")
    return figure


def _new(n_rows: int, legend_rows: int = 0) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(_WIDTH, 0.9 + _ROW * n_rows + 0.25 * legend_rows), dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(left=False, labelsize=8)
    return figure, axes


def _count(axes: Axes, x: float, row: int, count: int, colour: str) -> None:
    """A number in a bar, so that it can be read on its colour."""
    ink = "white" if colour in _DARK else INK
    axes.text(x, row, str(count), ha="center", va="center", fontsize=8, color=ink)


def _rows(axes: Axes, names: Sequence[str]) -> None:
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.4, -0.6)


def _steps(n: int) -> list[str]:
    """Colours of a scale of n steps."""
    return [_SCALE[round(i * (len(_SCALE) - 1) / (n - 1))] for i in range(n)]
