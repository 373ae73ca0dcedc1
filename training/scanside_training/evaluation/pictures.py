"""Images side by side with what is wrong with them, on common scales."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from scanside.metrics import fitted, psnr, ssim
from scanside_training.evaluation.case import Case

__all__ = ["Shown", "case_figure"]

_PER_ROW = 5
_PANEL = 2.1
"""Width of a picture in inches."""


@dataclass(frozen=True, eq=False)
class Shown:
    """A case with the images that were made of it.

    Attributes:
        case: with the references.
        images: ``(y, x)`` of each candidate, real or complex.
    """

    case: Case
    images: Mapping[str, torch.Tensor]


def case_figure(shown: Shown) -> Figure:
    """The reference and all images in one window, each fitted to the reference; below, their errors in one scale.

    Args:
        shown: a case with at least one image.
    """
    truth = shown.case.whole
    white = float(np.percentile(truth, 99.8)) or 1.0
    peak = float(truth.max()) or 1.0
    images = {name: fitted(image.numpy(), truth)[0] for name, image in shown.images.items()}
    errors = {name: 100 * np.abs(image - truth) / peak for name, image in images.items()}
    # The worst leaves the scale where it is far worse than the best, or nothing would show of the best's.
    ends = [float(np.percentile(error, 99.8)) for error in errors.values()]
    end = max(2 * min(ends), 0.5 * max(ends)) or 1.0

    names = list(images)
    groups = [names[i : i + _PER_ROW] for i in range(0, len(names), _PER_ROW)]
    columns = max(len(group) for group in groups) + 1
    height = _PANEL * truth.shape[0] / truth.shape[1]
    figure = Figure(
        figsize=(_PANEL * columns + 0.6, len(groups) * (2 * height + 0.45)), dpi=110, layout="constrained"
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
            figures = f"{psnr(images[name], truth):.2f} dB, SSIM {ssim(images[name], truth):.3f}"
            _show(axis, images[name], white, f"{name}\n{figures}")
            scale = below.imshow(errors[name], cmap="inferno", vmin=0, vmax=end, interpolation="nearest")
    beyond = "max" if max(float(error.max()) for error in errors.values()) > end else "neither"
    bar = figure.colorbar(scale, ax=axes[:, 1:], shrink=0.6, pad=0.01, aspect=30, extend=beyond)
    bar.set_label("error, % of the reference's maximum", fontsize=8)
    bar.ax.tick_params(labelsize=8)
    return figure


def _show(axis: Any, pixels: Any, white: float, title: str) -> None:
    axis.imshow(pixels, cmap="gray", vmin=0, vmax=white, interpolation="nearest")
    axis.set_title(title, fontsize=8, pad=3)
