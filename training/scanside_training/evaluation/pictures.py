"""Images side by side with what is wrong with them, on common scales."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from scanside.metrics import Real, fitted, psnr, ssim
from scanside_training.evaluation.case import Case

__all__ = ["Shown", "as_reference", "case_figure", "worst_figure"]

_PER_ROW = 5
_FILMS_PER_ROW = 2
_PANEL = 2.1
"""Width of a picture in inches."""
_FRAME_WIDTH = 4
"""Pixels of a frame in the course of a column along time."""


@dataclass(frozen=True, eq=False)
class Shown:
    """A case with the images that were made of it.

    Attributes:
        case: with the references.
        images: ``(y, x)`` or ``(time, y, x)`` of each candidate, real or complex.
    """

    case: Case
    images: Mapping[str, torch.Tensor]


def case_figure(shown: Shown) -> Figure:
    """The reference and all images in one window, each fitted to the reference; below, their errors in one scale.

    Of films, two frames are shown half a film apart, and beside them the course of their middle column along time.

    Args:
        shown: a case with at least one image.
    """
    truth = shown.case.whole
    white = float(np.percentile(truth, 99.8)) or 1.0
    peak = float(truth.max()) or 1.0
    images = {name: as_reference(image.numpy(), truth) for name, image in shown.images.items()}
    figures = {name: _figures(image, truth) for name, image in images.items()}
    if shown.case.is_film:
        images = {name: _laid_out(film) for name, film in images.items()}
        truth = _laid_out(truth)
    errors = {name: 100 * np.abs(image - truth) / peak for name, image in images.items()}
    # The worst leaves the scale where it is far worse than the best, or nothing would show of the best's.
    ends = [float(np.percentile(error, 99.8)) for error in errors.values()]
    end = max(2 * min(ends), 0.5 * max(ends)) or 1.0

    names = list(images)
    per_row = _FILMS_PER_ROW if shown.case.is_film else _PER_ROW
    groups = [names[i : i + per_row] for i in range(0, len(names), per_row)]
    columns = max(len(group) for group in groups) + 1
    panel = 2 * _PANEL if shown.case.is_film else _PANEL
    height = panel * truth.shape[0] / truth.shape[1]
    figure = Figure(
        figsize=(panel * columns + 0.6, len(groups) * (2 * height + 0.45)), dpi=110, layout="constrained"
    )
    FigureCanvasAgg(figure)
    axes = figure.subplots(2 * len(groups), columns, squeeze=False)
    for axis in axes.flat:
        axis.set_axis_off()
    scale: Any = None
    for number, group in enumerate(groups):
        upper, lower = axes[2 * number], axes[2 * number + 1]
        _show(upper[0], truth, white, "reference")
        for axis, below, name in zip(upper[1:], lower[1:], group, strict=False):
            _show(axis, images[name], white, f"{name}\n{figures[name]}")
            scale = below.imshow(errors[name], cmap="inferno", vmin=0, vmax=end, interpolation="nearest")
    beyond = "max" if max(float(error.max()) for error in errors.values()) > end else "neither"
    bar = figure.colorbar(scale, ax=axes[:, 1:], shrink=0.6, pad=0.01, aspect=30, extend=beyond)
    bar.set_label("error, % of the reference's maximum", fontsize=8)
    bar.ax.tick_params(labelsize=8)
    return figure


def worst_figure(name: str, worst: Sequence[Shown]) -> Figure:
    """A candidate's worst cases side by side: reference, image and error, each in its own window and scale.

    Args:
        name: of the candidate.
        worst: at least one case, with its image.
    """
    columns = []
    for shown in worst:
        truth = shown.case.whole
        image = as_reference(shown.images[name].numpy(), truth)
        figures = _figures(image, truth)
        if shown.case.is_film:
            image, truth = _laid_out(image), _laid_out(truth)
        columns.append((shown.case.name, figures, truth, image))
    widest = max(truth.shape[0] / truth.shape[1] for *_, truth, _ in columns)
    width = _PANEL * (2 if worst[0].case.is_film else 1)
    figure = Figure(
        figsize=(max(width * len(columns), 2 * _PANEL), 3 * width * widest + 0.6),
        dpi=110,
        layout="constrained",
    )
    FigureCanvasAgg(figure)
    axes = figure.subplots(3, len(columns), squeeze=False)
    for axis in axes.flat:
        axis.set_axis_off()
    for column, (case, figures, truth, image) in zip(axes.T, columns, strict=True):
        white = float(np.percentile(truth, 99.8)) or 1.0
        error = np.abs(image - truth)
        end = float(np.percentile(error, 99.8)) or 1.0
        _show(column[0], truth, white, case)
        _show(column[1], image, white, figures)
        column[2].imshow(error, cmap="inferno", vmin=0, vmax=end, interpolation="nearest")
        column[2].set_title(f"error up to {100 * end / (float(truth.max()) or 1.0):.0f} %", fontsize=8, pad=3)
    return figure


def as_reference(image: npt.NDArray[Any], truth: Real) -> Real:
    """Magnitudes after the best scalar fit, of every frame its own."""
    if truth.ndim == 2:
        return fitted(image, truth)[0]
    return np.stack([fitted(frame, still)[0] for frame, still in zip(image, truth, strict=True)])


def _figures(image: Real, truth: Real) -> str:
    """PSNR and SSIM in words, means over the frames of a film."""
    pairs = list(zip(image, truth, strict=True)) if truth.ndim == 3 else [(image, truth)]
    mean_psnr, mean_ssim = (np.mean([measure(a, b) for a, b in pairs]) for measure in (psnr, ssim))
    return f"{mean_psnr:.2f} dB, SSIM {mean_ssim:.3f}"


def _laid_out(film: Real) -> Real:
    """``(time, y, x)``: the first frame, the one half a film later, and the course of the middle column."""
    course = np.repeat(film[:, :, film.shape[2] // 2].T, _FRAME_WIDTH, axis=1)
    return np.concatenate((film[0], film[len(film) // 2], course), axis=1)


def _show(axis: Any, pixels: Any, white: float, title: str) -> None:
    axis.imshow(pixels, cmap="gray", vmin=0, vmax=white, interpolation="nearest")
    axis.set_title(title, fontsize=8, pad=3)
