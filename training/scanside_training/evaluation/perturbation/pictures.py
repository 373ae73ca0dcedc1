"""Structures beside the responses to them, and worst changes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from scanside_training.evaluation.perturbation.run import ShownResponse, ShownWorst

__all__ = ["responses_figure", "worst_figure"]

_PANEL = 1.9
"""Width of a picture in inches."""
_AROUND = 12
"""Pixels around a structure that are shown."""


def responses_figure(shown: ShownResponse) -> Figure:
    """The added structures and the responses of all candidates: the largest in the whole image, below all from near.

    Each row is in units of the amplitude that was added, blue where the image lost and red where it gained.

    Args:
        shown: with a response of at least one candidate.
    """
    names = list(shown.responses)
    largest = max(shown.added)
    rows: list[tuple[str, float, bool]] = [(f"{largest:g}, all", largest, False)]
    rows += [(f"{diameter:g}", diameter, True) for diameter in sorted(shown.added)]
    n1, n0 = shown.added[largest].profile.shape
    figure = _new(_PANEL * (len(names) + 1) + 0.8, _PANEL * (n1 / n0 + len(rows) - 1) + 0.4)
    axes = figure.subplots(
        len(rows), len(names) + 1, squeeze=False, height_ratios=[n1 / n0, *[1.0] * (len(rows) - 1)]
    )
    for axis, name in zip(axes[0], ["added", *names], strict=True):
        axis.set_title(name, fontsize=8, pad=3)
    for (title, diameter, near), line in zip(rows, axes, strict=True):
        added = shown.added[diameter]
        truth = added.amplitude * added.profile
        images = [truth, *(shown.responses[name].get(diameter) for name in names)]
        for axis, image in zip(line, images, strict=True):
            _bare(axis)
            if image is None:
                continue
            scaled = image / abs(added.amplitude)
            if near:
                scaled = _around(scaled, (added.structure.y, added.structure.x), added.reach)
            scale = axis.imshow(scaled, cmap="RdBu_r", vmin=-1, vmax=1, interpolation="nearest")
        line[0].set_ylabel(title, fontsize=8)
    bar = figure.colorbar(scale, ax=axes, shrink=0.5, pad=0.01, aspect=30)
    bar.set_label("response over what was added", fontsize=8)
    bar.ax.tick_params(labelsize=8)
    return figure


def worst_figure(shown: Sequence[ShownWorst]) -> Figure:
    """Of each candidate the image with the worst change, what it changed there, and what it changes in CG-SENSE.

    Args:
        shown: of one case.
    """
    n1, n0 = shown[0].worst.change.shape
    figure = _new(3 * 2.4 + 0.9, len(shown) * (2.4 * n1 / n0 + 0.25))
    axes = figure.subplots(len(shown), 3, squeeze=False)
    end = max(float(np.percentile(abs(one.worst.change), 99.8)) for one in shown) or 1.0
    for line, one in zip(axes, shown, strict=True):
        pixels = one.worst.image.abs().numpy()
        line[0].imshow(pixels, cmap="gray", vmin=0, vmax=np.percentile(pixels, 99.8), interpolation="nearest")
        for axis, change in zip(line[1:], (one.worst.change, one.worst.reference_change), strict=True):
            scale = axis.imshow(abs(change), cmap="inferno", vmin=0, vmax=end, interpolation="nearest")
        line[0].set_ylabel(one.candidate, fontsize=8)
        kind = "worst" if one.worst.found else "random"
        titles = (f"image, {kind} change", "changed", "changed in CG-SENSE")
        for axis, title in zip(line, titles, strict=True):
            _bare(axis)
            axis.set_title(title, fontsize=8, pad=3)
    bar = figure.colorbar(scale, ax=axes, shrink=0.5, pad=0.01, aspect=30, extend="max")
    bar.set_label("magnitude of the change, scale of the reference", fontsize=8)
    bar.ax.tick_params(labelsize=8)
    return figure


def _around(image: Any, place: tuple[float, float], reach: float) -> Any:
    spans = []
    for at, n in zip(place, image.shape, strict=True):
        half = round(max(_AROUND, 1.5 * reach))
        first = min(max(0, round(at) - half), max(0, n - 2 * half - 1))
        spans.append(slice(first, first + 2 * half + 1))
    return image[tuple(spans)]


def _new(width: float, height: float) -> Figure:
    figure = Figure(figsize=(width, height), dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def _bare(axis: Any) -> None:
    axis.set_xticks([])
    axis.set_yticks([])
    for spine in axis.spines.values():
        spine.set_visible(False)
