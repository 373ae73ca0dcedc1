"""Figures as PNG, drawn without any global state of Matplotlib."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.patches import Patch
from matplotlib.patheffects import withStroke
from matplotlib.ticker import MaxNLocator

from scanside.inspection.pattern import SamplingPattern
from scanside.inspection.survey import EncodingSurvey
from scanside.metrics import fill_holes
from scanside.report.views import View, Window, window_of
from scanside.sampling import Mask, Space, point_spread

__all__ = [
    "coil_maps_figure",
    "comparison_figure",
    "image_figure",
    "mask_figure",
    "methods_figure",
    "noise_figure",
    "png_of",
    "profile_figure",
    "sampling_figure",
    "save",
]

INK, FAINT, PAPER = "#1d2733", "#8a94a0", "#ffffff"
BLUE, ORANGE, MIST = "#2f6f9f", "#e08a2c", "#e3e8ed"
_STYLE: dict[Any, Any] = {
    "font.family": "DejaVu Sans",
    "font.size": 8.0,
    "axes.titlesize": 8.5,
    "axes.labelsize": 8.0,
    "axes.edgecolor": FAINT,
    "axes.labelcolor": INK,
    "axes.titlecolor": INK,
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "figure.facecolor": PAPER,
    "axes.facecolor": PAPER,
    "savefig.facecolor": PAPER,
}
_DPI = 160
_OUTLINE = [withStroke(linewidth=1.6, foreground="black")]
_WIDTH = 9.6
"""Width of a figure that spans the page, in inches."""


def png_of(figure: Figure) -> bytes:
    """The figure as a PNG file."""
    buffer = io.BytesIO()
    with rc_context(_STYLE):
        figure.savefig(buffer, format="png", dpi=_DPI)
    return buffer.getvalue()


def save(figure: Figure, path: Path) -> None:
    """Write the figure to a PNG file, making its folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(png_of(figure))


def image_figure(views: Sequence[View], window: Window | None = None) -> Figure:
    """Pictures side by side in one window, titles above, the patient's directions at the edges.

    Args:
        views: pictures of one kind.
        window: grey values; None takes `window_of` all of them.
    """
    window = window or window_of(views)
    columns = _columns(len(views))
    rows = -(-len(views) // columns)
    height = max((view.size_mm[0] / view.size_mm[1] for view in views), default=1.0)
    panel = min(_WIDTH / columns, 4.6)
    with rc_context(_STYLE):
        figure = _new(panel * columns, rows * (panel * height + 0.22))
        axes = figure.subplots(rows, columns, squeeze=False)
        for axis, view in zip(axes.flat, views, strict=False):
            _show(axis, view, window)
        for axis in axes.flat[len(views) :]:
            axis.set_visible(False)
    return figure


def comparison_figure(
    rows: Sequence[tuple[str, Sequence[View]]],
    errors: Sequence[Sequence[View]],
    *,
    error_unit: str = "error, % of the truth's maximum",
) -> Figure:
    """Rows of pictures that show the same, and what is wrong with them in colour, with a scale.

    Args:
        rows: a label and the pictures, for every row; all in one window.
        errors: for every row the error of each picture, in the same unit; all in one scale, which leaves the
            last of them half of its range.
        error_unit: what the scale counts.
    """
    views = [view for _, group in rows for view in group]
    wrong = [view for group in errors for view in group]
    window = window_of(views)
    # Where one picture is far worse than the other, its errors leave the scale, or the other's would not show.
    high = max(2 * _scale_end([group[-1] for group in errors]), 0.4 * _scale_end(wrong))
    beyond = any(float(view.pixels.max()) > high for view in wrong)
    n_images, n_errors = len(rows[0][1]), len(errors[0])
    columns = n_images + n_errors
    height = max(view.size_mm[0] / view.size_mm[1] for view in views)
    panel = (_WIDTH - 0.9) / columns
    with rc_context(_STYLE):
        figure = _new(_WIDTH, len(rows) * (panel * height + 0.05) + 0.35)
        axes = figure.subplots(len(rows), columns, squeeze=False)
        mappable: Any = None
        for line, (label, group), mistakes in zip(axes, rows, errors, strict=True):
            for axis, view in zip(line[:n_images], group, strict=True):
                _show(axis, view, window)
            for axis, view in zip(line[n_images:], mistakes, strict=True):
                mappable = _show(axis, view, Window(0, high), colours="inferno")
            line[0].set_ylabel(label)
            line[0].yaxis.set_label_coords(-0.04, 0.5)
        for line in axes[1:]:
            for axis in line:
                axis.set_title("")
        bar = figure.colorbar(
            mappable, ax=axes[:, n_images:], shrink=0.7, pad=0.015, extend="max" if beyond else "neither"
        )
        bar.set_label(error_unit)
        bar.outline.set_edgecolor(FAINT)
    return figure


def methods_figure(
    images: Sequence[View],
    details: Sequence[View],
    errors: Sequence[View],
    *,
    error_unit: str = "error, % of the truth's maximum",
) -> Figure:
    """What several methods made of one slice: a column each, of the image, a detail of it, and its error.

    Args:
        images: in one window; the truth is the last.
        details: parts of the same images, in the same window.
        errors: of all images but the truth, in one unit and one scale, which gives the median method's errors its
            upper half.
        error_unit: what the scale counts.
    """
    window = window_of(images)
    ends = sorted(_scale_end([view]) for view in errors)
    high = ends[len(ends) // 2]
    columns = len(images)
    panel = _WIDTH / columns
    height = images[0].size_mm[0] / images[0].size_mm[1]
    with rc_context(_STYLE):
        figure = _new(_WIDTH, 3 * panel * height + 0.45)
        axes = figure.subplots(3, columns, squeeze=False)
        for line, views in zip(axes[:2], (images, details), strict=True):
            for axis, view in zip(line, views, strict=True):
                _show(axis, view, window)
        mappable: Any = None
        for axis, view in zip(axes[2, :-1], errors, strict=True):
            mappable = _show(axis, view, Window(0, high), colours="inferno")
        # Where the truth's error would be, the scale stands.
        axes[2, -1].set_axis_off()
        place = axes[2, -1].inset_axes((0.12, 0.08, 0.09, 0.84))
        bar = figure.colorbar(mappable, cax=place, extend="max" if ends[-1] > high else "neither")
        bar.set_label(error_unit)
        bar.outline.set_edgecolor(FAINT)
    return figure


def profile_figure(
    view: View, line: int, profile: npt.NDArray[np.float64], window: Window, unit: str
) -> Figure:
    """A picture with a line across it, and beside it what lies on that line as time goes on.

    Args:
        view: one frame.
        line: row of it.
        profile: ``(time, column)`` of that row.
        window: grey values of both.
        unit: of the axis of time.
    """
    height_mm, width_mm = view.size_mm
    with rc_context(_STYLE):
        figure = _new(_WIDTH, 3.6)
        left, right = figure.subplots(1, 2, width_ratios=(width_mm / height_mm, 2.2))
        _show(left, view, window)
        left.axhline(line, color=ORANGE, linewidth=0.9)
        right.imshow(
            profile.T, cmap="gray", vmin=window.low, vmax=window.high, interpolation="nearest", aspect="auto"
        )
        right.set(xlabel=unit, ylabel="x along the line", title="x–t")
        right.set_yticks([])
        right.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=10))
    return figure


def sampling_figure(encodings: Sequence[EncodingSurvey]) -> Figure:
    """Which lines were sampled, a picture for each Cartesian encoding space, beside it the lines of its frames."""
    shown = [space for space in encodings if space.sampling is not None and space.encoding is not None]
    with rc_context(_STYLE):
        if not shown:
            figure = _new(4.0, 1.0)
            figure.text(0.5, 0.5, "no Cartesian sampling", ha="center", va="center", color=FAINT)
            return figure
        moving = sum(space.sampling is not None and space.sampling.frames is not None for space in shown)
        figure = _new(min(_WIDTH, 4.4 * (len(shown) + moving) + 0.6), 4.2)
        axes = iter(figure.subplots(1, len(shown) + moving, squeeze=False)[0])
        for space in shown:
            assert space.sampling is not None
            axis = next(axes)
            _draw_sampling(axis, space.sampling, space)
            if len(shown) > 1:
                axis.set_title(f"encoding space {space.index}")
            if space.sampling.frames is not None:
                _draw_frames(next(axes), space.sampling, space.sampling.frames)
        entries = (("image", BLUE), ("image and calibration", ORANGE), ("calibration only", "#f3c98b"))
        handles = [Patch(facecolor=colour, label=label) for label, colour in entries]
        handles.append(Patch(facecolor=MIST, label="left out"))
        handles.append(Patch(facecolor=PAPER, edgecolor=FAINT, label="beyond the header's limits"))
        figure.legend(handles=handles, loc="outside lower center", ncols=3, frameon=False)
    return figure


def mask_figure(mask: Mask, space: Space) -> Figure:
    """A sampling mask and the image of a point, in decibels; of a series the frames and the first frame's image.

    Args:
        mask: ``(k1,)``, ``(k1, k2)`` or either with frames in front.
        space: which places may be acquired, and which ones make the fully sampled centre.
    """
    planes = len(space.shape) == 2
    series = mask.ndim > len(space.shape)
    first = mask[0] if series else mask
    shown = first if planes else mask.T if series else mask[:, None]
    region, block = (part if planes else part[:, None] for part in (space.region, space.block))
    kinds = np.where(shown & block, 3, np.where(shown, 2, np.where(region, 1, 0)))
    with rc_context(_STYLE):
        figure = _new(8.2, 4.3)
        left, right = figure.subplots(1, 2)
        colours = ListedColormap([PAPER, MIST, BLUE, ORANGE])
        left.imshow(
            kinds, cmap=colours, vmin=0, vmax=3, interpolation="nearest", aspect="equal" if planes else "auto"
        )
        left.set_title("mask of the first frame" if planes and series else "mask")
        left.set(ylabel="k1", xlabel="k2" if planes else "frame" if series else "")
        if not planes and not series:
            left.set_xticks([])
        decibels = 20 * np.log10(np.maximum(point_spread(first), 1e-4))
        if planes:
            mappable = right.imshow(decibels, cmap="magma", vmin=-60, vmax=0, interpolation="nearest")
            bar = figure.colorbar(mappable, ax=right, shrink=0.8, pad=0.02)
            bar.outline.set_edgecolor(FAINT)
            bar.set_label("dB")
            right.set(xlabel="z", ylabel="y")
        else:
            right.plot(np.arange(len(decibels)) - len(decibels) // 2, decibels, color=BLUE, linewidth=0.8)
            right.set(xlabel="y", ylabel="dB", ylim=(-60, 2))
        right.set_title("image of a point" + (", first frame" if series else ""))
        entries = (("acquired", BLUE), ("fully sampled centre", ORANGE), ("left out", MIST))
        handles = [Patch(facecolor=colour, label=label) for label, colour in entries]
        handles.append(Patch(facecolor=PAPER, edgecolor=FAINT, label="beyond the limits"))
        figure.legend(handles=handles, loc="outside lower center", ncols=4, frameon=False)
    return figure


def coil_maps_figure(maps: npt.NDArray[np.complex64], view: View | None = None, at_most: int = 16) -> Figure:
    """Magnitude and phase of coil sensitivity maps.

    Args:
        maps: ``(coil, y, x)``.
        view: a picture of the same slice, for proportions and directions.
        at_most: how many coils to show.
    """
    n = min(len(maps), at_most)
    columns = min(8, n)
    blocks = -(-n // columns)
    pixel_mm = view.pixel_mm if view is not None else (1.0, 1.0)
    height = maps.shape[1] * pixel_mm[0] / (maps.shape[2] * pixel_mm[1])
    high = float(np.percentile(np.abs(maps), 99.8)) or 1.0
    background = _background(maps, view)
    panel = (_WIDTH - 0.8) / 8
    with rc_context(_STYLE):
        figure = _new(panel * columns + 0.8, blocks * (2 * panel * height + 0.3) + 0.1)
        axes = figure.subplots(2 * blocks, columns, squeeze=False)
        for block in range(blocks):
            upper, lower = axes[2 * block], axes[2 * block + 1]
            upper[0].set_ylabel("magnitude")
            lower[0].set_ylabel("phase")
            magnitude: Any = None
            phase: Any = None
            for over, under, i in zip(
                upper, lower, range(block * columns, (block + 1) * columns), strict=True
            ):
                if i >= n:
                    over.set_visible(False)
                    under.set_visible(False)
                    continue
                size = np.ma.masked_where(background, np.abs(maps[i]).astype(np.float64))
                angle = np.ma.masked_where(background, np.angle(maps[i]))
                magnitude = _show(
                    over, View(size, f"coil {i}", pixel_mm=pixel_mm), Window(0, high), colours="viridis"
                )
                phase = _show(
                    under, View(angle, "", pixel_mm=pixel_mm), Window(-np.pi, np.pi), colours="twilight"
                )
            _side_bar(figure, magnitude, upper, None)
            _side_bar(figure, phase, lower, (-np.pi, 0, np.pi)).set_ticklabels(["−π", "0", "π"])
    return figure


def _background(maps: npt.NDArray[np.complex64], view: View | None) -> npt.NDArray[np.bool_]:
    """Where maps mean nothing: outside the object, or where there are no maps."""
    size = np.abs(maps).max(axis=0)
    empty: npt.NDArray[np.bool_] = size < 0.02 * size.max()
    if view is not None and view.pixels.shape == empty.shape:
        empty |= ~fill_holes(np.abs(view.pixels) > 0.05 * np.abs(view.pixels).max())
    return empty


def noise_figure(covariance: npt.NDArray[np.complex128]) -> Figure:
    """Noise correlation between the coils, and each coil's noise level.

    Args:
        covariance: ``(coil, coil)``.
    """
    std = np.sqrt(np.diag(covariance).real)
    safe = np.where(std > 0, std, 1)
    correlation = np.abs(covariance) / np.outer(safe, safe)
    n = len(std)
    with rc_context(_STYLE):
        figure = _new(8.2, 3.3)
        left, right = figure.subplots(1, 2, width_ratios=(1, 1.25))
        mappable = left.imshow(correlation, cmap="magma", vmin=0, vmax=1, interpolation="nearest")
        left.set(xlabel="coil", ylabel="coil", title="Correlation (magnitude)")
        bar = figure.colorbar(mappable, ax=left, shrink=0.86, pad=0.02)
        bar.outline.set_edgecolor(FAINT)
        right.bar(np.arange(n), std / np.median(std) if np.median(std) > 0 else std, color=BLUE, width=0.75)
        right.axhline(1, color=FAINT, linewidth=0.8)
        right.set(xlabel="coil", title="Noise level, relative to the median coil", xlim=(-0.6, n - 0.4))
        for side in ("top", "right"):
            right.spines[side].set_visible(False)
        for axis in (left.xaxis, left.yaxis, right.xaxis):
            axis.set_major_locator(MaxNLocator(integer=True, nbins=8))
    return figure


def _new(width: float, height: float) -> Figure:
    layout = ConstrainedLayoutEngine(w_pad=0.02, h_pad=0.02, wspace=0.01, hspace=0.01)
    figure = Figure(figsize=(width, height), layout=layout)
    FigureCanvasAgg(figure)
    return figure


def _columns(n: int) -> int:
    """How many pictures stand in a row: as many as fit, with few places left empty in the last row."""
    return max(n, 1) if n <= 3 else min((4, 3), key=lambda columns: -n % columns)


def _show(axis: Axes, view: View, window: Window, colours: str = "gray") -> Any:
    """One picture with its title and letters; no ticks."""
    shown = axis.imshow(
        view.pixels,
        cmap=colours if view.kind != "phase" else "twilight",
        vmin=window.low,
        vmax=window.high,
        aspect=view.pixel_mm[0] / view.pixel_mm[1],
    )
    axis.set_facecolor("black")
    axis.set_xticks([])
    axis.set_yticks([])
    for spine in axis.spines.values():
        spine.set_visible(False)
    axis.set_title(view.title, pad=3)
    edges = view.edges
    places = (
        (edges.left, 0.015, 0.5, "left", "center"),
        (edges.right, 0.985, 0.5, "right", "center"),
        (edges.top, 0.5, 0.985, "center", "top"),
        (edges.bottom, 0.5, 0.015, "center", "bottom"),
    )
    for letters, x, y, across, up in places:
        axis.text(
            x,
            y,
            letters,
            transform=axis.transAxes,
            ha=across,
            va=up,
            color="#ffd166",
            fontsize=7.5,
            path_effects=_OUTLINE,
        )
    return shown


def _draw_sampling(axis: Axes, pattern: SamplingPattern, space: EncodingSurvey) -> None:
    classes = _classes(pattern.imaging, pattern.calibration, pattern.within)
    colours = ListedColormap(_LINE_COLOURS)
    n2, n1 = len(classes), len(classes[0])
    if n2 > 1:
        axis.imshow(classes, cmap=colours, vmin=0, vmax=4, interpolation="nearest", aspect="auto")
        axis.set(xlabel="k1, phase encoding", ylabel="k2, partition encoding")
        axis.plot(n1 // 2, n2 // 2, "+", color=INK, markersize=9, markeredgewidth=1.2)
        return
    band = space.readout_band
    assert band is not None
    # A line of k-space is a row; along the readout only what was sampled is coloured.
    picture = np.zeros((n1, band.n), np.uint8)
    first, last = max(band.first, 0), min(band.last, band.n - 1)
    picture[:, first : last + 1] = classes[0][:, None]
    axis.imshow(picture, cmap=colours, vmin=0, vmax=4, interpolation="nearest", aspect="auto", origin="lower")
    axis.plot(band.n // 2, n1 // 2, "+", color=INK, markersize=9, markeredgewidth=1.2)
    axis.set(xlabel="k0, readout", ylabel="k1, phase encoding")


def _draw_frames(axis: Axes, pattern: SamplingPattern, frames: npt.NDArray[np.bool_]) -> None:
    """Lines upwards, time to the right."""
    classes = _classes(frames, pattern.calibration & frames, pattern.within).T
    axis.imshow(
        classes,
        cmap=ListedColormap(_LINE_COLOURS),
        vmin=0,
        vmax=4,
        interpolation="nearest",
        aspect="auto",
        origin="lower",
    )
    axis.axhline(len(classes) // 2, color=INK, linewidth=0.6)
    axis.set(xlabel="frame", ylabel="k1, phase encoding")
    axis.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=8))


_LINE_COLOURS = (PAPER, MIST, "#f3c98b", BLUE, ORANGE)
"""Beyond the limits, left out, calibration only, image, both."""


def _classes(
    imaging: npt.NDArray[np.bool_], calibration: npt.NDArray[np.bool_], within: npt.NDArray[np.bool_]
) -> npt.NDArray[np.uint8]:
    """Index into the colours of lines, for masks that broadcast to the first."""
    classes = np.zeros(imaging.shape, np.uint8)
    classes[np.broadcast_to(within, imaging.shape)] = 1
    classes[calibration] = 2
    classes[imaging] = 3
    classes[imaging & calibration] = 4
    return classes


def _scale_end(views: Sequence[View]) -> float:
    values = np.concatenate([view.pixels.ravel() for view in views])
    end = float(np.percentile(values, 99.8))
    return end if end > 0 else 1.0


def _side_bar(figure: Figure, mappable: Any, axes: Any, ticks: tuple[float, ...] | None) -> Any:
    bar = figure.colorbar(mappable, ax=axes, shrink=0.9, pad=0.01, aspect=14, ticks=ticks)
    bar.outline.set_edgecolor(FAINT)
    return bar
