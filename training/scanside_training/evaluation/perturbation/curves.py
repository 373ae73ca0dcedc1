"""Figures on structures over the diameter."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from scanside_training.evaluation.perturbation.summary import Row

__all__ = ["curves_figure"]

_LINES = ("solid", "dashed", "dotted", "dashdot")
_TITLES = {
    "kept": "contrast kept",
    "blurring": "blurring, pixels",
    "elsewhere": "response elsewhere",
    "detectability": "detectability d′",
}


def curves_figure(rows: Sequence[Row], unit: str) -> Figure:
    """Means over the diameter; one colour for each candidate and one kind of line for each contrast.

    Args:
        rows: of all candidates.
        unit: of diameters.
    """
    figures = [name for name in _TITLES if any(name in row.means for row in rows)]
    figure = Figure(figsize=(2.5 * len(figures), 3.2), dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(1, len(figures), squeeze=False)[0]
    names = list(dict.fromkeys(row.candidate for row in rows))
    contrasts = list(dict.fromkeys(row.contrast for row in rows))
    for axis, measure in zip(axes, figures, strict=True):
        for colour, name in enumerate(names):
            for style, contrast in enumerate(contrasts):
                points = sorted(
                    (row.diameter, row.means[measure])
                    for row in rows
                    if (row.candidate, row.contrast) == (name, contrast) and measure in row.means
                )
                label = name if style == 0 else None
                axis.plot(
                    *zip(*points, strict=True) if points else ((), ()),
                    linestyle=_LINES[style % len(_LINES)],
                    color=f"C{colour}",
                    marker="o",
                    markersize=3,
                    linewidth=1,
                    label=label,
                )
        if measure == "detectability":
            axis.set_yscale("symlog", linthresh=1)
        axis.set_title(_TITLES[measure], fontsize=9)
        axis.set_xlabel(f"diameter, {unit}", fontsize=8)
        axis.set_xscale("log", base=2)
        axis.set_xticks(sorted({row.diameter for row in rows}))
        axis.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
        axis.tick_params(labelsize=8)
        axis.grid(alpha=0.3, linewidth=0.5)
    axes[0].legend(fontsize=7)
    said = ", ".join(
        f"{_LINES[style % len(_LINES)]} {contrast:+g}" for style, contrast in enumerate(contrasts)
    )
    figure.suptitle(f"contrast: {said}", fontsize=8)
    return figure
