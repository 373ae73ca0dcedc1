"""The report of a check: pictures, verdicts, and the trend of each measure with its limits."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib import rc_context
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.dates import AutoDateLocator, ConciseDateFormatter
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.patches import Circle, Rectangle

from scanside.metrics import fitted
from scanside.qa.measures import ghosting_rois
from scanside.qa.result import QaResult
from scanside.qa.verdict import Verdict
from scanside.report.figures import BLUE, FAINT, INK, ORANGE
from scanside.report.page import Facts, Messages, Page, Part, Picture, Rows, Section

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from scanside.qa.check import Checked

__all__ = ["pictures_figure", "trend_figure", "write_report"]

_RED = "#c0392b"
_LINES = (BLUE, ORANGE, "#6b8e4e", "#8a6fa8")
_BAND = "#e5f1e8"
_STYLE: dict[Any, Any] = {"font.size": 8.0, "axes.titlesize": 8.5, "axes.edgecolor": FAINT, "text.color": INK}


def write_report(checked: Checked, earlier: Sequence[QaResult], path: Path) -> None:
    """Write a check as a page.

    Args:
        checked: the check.
        earlier: checks before it, the oldest first; those that can be compared make the trend.
        path: the page.
    """
    result = checked.result
    history = [*(one for one in earlier if one.comparable == result.comparable), result]
    failed = [verdict for verdict in result.verdicts if not verdict.passed]
    verdict = "within all limits" if result.passed else f"{len(failed)} out of limits"
    highlights = {"of all measures": verdict, "checks so far": str(len(history))}
    if result.snr is not None:
        highlights["signal-to-noise ratio"] = f"{result.snr:.1f}"
    page = Page(
        title=f"Phantom check, {result.time:%Y-%m-%d}",
        lead=f"{result.scan}, {result.protocol or 'no protocol name'}, pipeline {result.pipeline}"
        + (f" and {result.learned}" if result.learned else ""),
        highlights=highlights,
        sections=[
            Section("What to look at", _messages(result)),
            Section("Measures", [_table(result)]),
            Section("Images", [Picture(pictures_figure(checked), _CAPTION, "The phantom and its regions")]),
            Section("Trend", [Picture(trend_figure(history), _TREND, "Measures over time")]),
            Section("Scan", [Facts(_facts(result))]),
        ],
    )
    page.write(path)


_CAPTION = (
    "Blue: three quarters of the phantom's area, for signal, noise and uniformity. Orange: air for ghosting. "
    "Where there is a learned image, it and its difference from the classical one, after the best scalar fit."
)
_TREND = (
    "Checks of the same scan on the same system by the same pipeline. Green: limits of the last one; red: out of "
    "the limits that held."
)


def _messages(result: QaResult) -> list[Part]:
    messages = [("error", f"out of limits: {verdict}") for verdict in result.verdicts if not verdict.passed]
    messages += [("warning", note) for note in result.notes]
    return [Messages(messages or [("note", "Every measure lies within its limits.")])]


def _table(result: QaResult) -> Rows:
    def number(value: float | None) -> str:
        return "–" if value is None else f"{value:.4g}"

    rows = [
        (
            one.measure,
            number(one.value),
            number(one.low),
            number(one.high),
            "ok" if one.passed else "OUT OF LIMITS",
        )
        for one in result.verdicts
    ]
    columns = ("measure", "found", "least", "most", "verdict")
    return Rows(columns, rows, frozenset(columns[1:4]))


def _facts(result: QaResult) -> list[tuple[str, str]]:
    facts = {
        "time": f"{result.time:%Y-%m-%d %H:%M UTC}",
        "system": f"{result.system or 'unknown'}, {result.field_strength_t or '?'} T, {result.n_coils or '?'} coils",
        "slice": f"{result.slice}, {result.n_repetitions} repetitions",
        "noise from": result.snr_method or "–",
        "network": ", ".join(result.engine) or "–",
        "Scanside": result.version,
    }
    return list(facts.items())


def pictures_figure(checked: Checked) -> Figure:
    """The classical image with the regions that were measured, and the learned one beside it."""
    phantom = checked.phantom
    high = float(np.percentile(phantom.image, 99.8))
    with rc_context(_STYLE):
        n = 2 if checked.learned is None else 4
        figure = _new(2.9 * n, 3.0)
        axes = figure.subplots(1, n, squeeze=False)[0]
        _show(axes[0], phantom.image, "classical", high, phantom.pixel_mm)
        _show(axes[1], phantom.image, "classical, white at a tenth of that", 0.1 * high, phantom.pixel_mm)
        radius = np.sqrt(0.75) * phantom.radius_mm / phantom.pixel_mm[1]
        axes[0].add_patch(Circle(phantom.center[::-1], radius, fill=False, color=BLUE, linewidth=1.4))
        for roi in (ghosting_rois(phantom) or {}).values():
            y, x = np.nonzero(roi)
            corner = (x.min() - 0.5, y.min() - 0.5)
            size = (float(np.ptp(x)) + 1, float(np.ptp(y)) + 1)
            axes[1].add_patch(Rectangle(corner, *size, fill=False, color=ORANGE, linewidth=1.2))
        if checked.learned is not None:
            other, reference = fitted(checked.learned, phantom.image, phantom.mask)
            _show(axes[2], other, "learned", high, phantom.pixel_mm)
            percent = 100 * (other - reference) / (high or 1.0)
            end = float(np.percentile(np.abs(percent), 99.8)) or 1.0
            shown = axes[3].imshow(
                percent, cmap="RdBu_r", vmin=-end, vmax=end, aspect=phantom.pixel_mm[0] / phantom.pixel_mm[1]
            )
            axes[3].set_title("learned − classical, % of the signal")
            axes[3].set_axis_off()
            figure.colorbar(shown, ax=axes[3], shrink=0.8, pad=0.02).outline.set_edgecolor(FAINT)
    return figure


def trend_figure(history: Sequence[QaResult]) -> Figure:
    """Every measure over time, with the limits of the last check.

    Args:
        history: checks that can be compared, the oldest first.
    """
    measures: list[tuple[str, Callable[[QaResult], list[Verdict]]]] = [
        ("SNR", lambda one: _of(one, "SNR")),
        ("diameters, mm", lambda one: _of(one, "diameter")),
        ("ghosting", lambda one: _of(one, "ghosting")),
        ("uniformity (PIU), %", lambda one: _of(one, "uniformity")),
        ("learned against classical, NRMSE", lambda one: _of(one, "learned")),
    ]
    shown = [(title, pick) for title, pick in measures if any(v.value is not None for v in pick(history[-1]))]
    with rc_context(_STYLE):
        columns = 2
        rows = -(-len(shown) // columns)
        figure = _new(9.6, 1.9 * rows + 0.2)
        axes = figure.subplots(rows, columns, squeeze=False, sharex=True)
        for axis, (title, pick) in zip(axes.flat, shown, strict=False):
            _draw_trend(axis, title, [(one.time, pick(one)) for one in history])
        for axis in axes.flat[len(shown) :]:
            axis.set_visible(False)
        for axis in axes.flat[max(0, len(shown) - columns) : len(shown)]:
            axis.tick_params(labelbottom=True)  # the last one of its column, also above an empty place
    return figure


def _of(result: QaResult, name: str) -> list[Verdict]:
    return [verdict for verdict in result.verdicts if verdict.measure.startswith(name)]


def _draw_trend(axis: Axes, title: str, points: list[tuple[datetime, list[Verdict]]]) -> None:
    last = points[-1][1][0]
    values = [v.value for _, verdicts in points for v in verdicts if v.value is not None]
    edges = [edge for edge in (last.low, last.high) if edge is not None]
    low, high = min([*values, *edges]), max([*values, *edges])
    margin = 0.15 * (high - low) or 0.1 * abs(high) or 1.0
    axis.set_ylim(low - margin, high + margin)
    if edges:
        bottom = last.low if last.low is not None else low - margin
        top = last.high if last.high is not None else high + margin
        axis.axhspan(bottom, top, color=_BAND, zorder=0)
    for i in range(len(points[-1][1])):
        line = [
            (np.datetime64(time.replace(tzinfo=None)), verdicts[i])
            for time, verdicts in points
            if i < len(verdicts)
        ]
        known = [(day, verdict.value, verdict.passed) for day, verdict in line if verdict.value is not None]
        name = points[-1][1][i].measure.removeprefix("diameter ").removesuffix(", mm")
        days, found = [day for day, *_ in known], [value for _, value, _ in known]
        axis.plot(days, found, color=_LINES[i], linewidth=0.9, alpha=0.7, label=name)
        for day, value, passed in known:
            axis.plot(day, value, "o", markersize=3.6, color=_LINES[i] if passed else _RED)
    if len(points[-1][1]) > 1:
        axis.legend(ncols=4, frameon=False, fontsize=7, loc="upper left", borderaxespad=0.1)
    axis.set_title(title, loc="left")
    dates: Any = (AutoDateLocator, ConciseDateFormatter)  # Matplotlib has no types for them
    locator = dates[0](minticks=2, maxticks=6)
    axis.xaxis.set_major_locator(locator)
    axis.xaxis.set_major_formatter(dates[1](locator))
    for side in ("top", "right"):
        axis.spines[side].set_visible(False)


def _show(
    axis: Axes, image: np.ndarray[tuple[int, ...], np.dtype[np.float64]], title: str, high: float,
    pixel_mm: tuple[float, float],
) -> None:  # fmt: skip
    axis.imshow(image, cmap="gray", vmin=0, vmax=high, aspect=pixel_mm[0] / pixel_mm[1])
    axis.set_title(title)
    axis.set_axis_off()


def _new(width: float, height: float) -> Figure:
    figure = Figure(figsize=(width, height), layout=ConstrainedLayoutEngine(w_pad=0.03, h_pad=0.03))
    FigureCanvasAgg(figure)
    return figure
