"""What a search leaves in its folder.

::

    studies/<name>/
    ├── report.html       trials and pictures, in one file
    ├── best.yaml         the best trial's training configuration, for ``scanside train``
    ├── trials.csv        a row for each trial, the best first
    ├── search.png        the metric over each setting
    └── runs/             the trainings
"""

from __future__ import annotations

import math
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from scanside.report.figures import BLUE, ORANGE, save
from scanside.report.page import Messages, Page, Picture, Rows, Section, Text
from scanside_training.checkpoint import config_text
from scanside_training.evaluation.csv_files import write_csv
from scanside_training.study.search import Search, Trial, shown

__all__ = ["BEST", "search_figure", "trial_cells", "trial_columns", "write_search"]

BEST = "best.yaml"
"""File with the best trial's training configuration."""


def trial_columns(search: Search) -> list[str]:
    """Titles of the columns of the table of trials."""
    return ["trial", *search.config.paths, "steps", search.config.metric, "min"]


def trial_cells(search: Search, trial: Trial) -> list[str]:
    """A trial as text, in the order of `trial_columns`."""
    settings = [str(trial.settings[path]) for path in search.config.paths]
    value = f"{trial.value:.5g}" if trial.values else "–"
    return [trial.name, *settings, str(trial.steps), value, f"{trial.seconds / 60:.1f}"]


def write_search(search: Search, folder: Path) -> None:
    """Write table, picture, report and the best configuration."""
    folder.mkdir(parents=True, exist_ok=True)
    write_csv(
        folder / "trials.csv",
        ["trial", *search.config.paths, "steps", search.config.metric, "seconds", "failure"],
        (
            [one.name, *one.settings.values(), one.steps, one.value, one.seconds, one.failure or ""]
            for one in search.trials
        ),
    )
    (folder / BEST).write_text(config_text(search.best), "utf-8")
    save(search_figure(search), folder / "search.png")
    _page(search).write(folder / "report.html")


def search_figure(search: Search) -> Figure:
    """The metric over each setting: trials that were trained as far as the best one are filled."""
    paths = search.config.paths
    n_columns = min(3, len(paths))
    n_rows = math.ceil(len(paths) / n_columns)
    figure = Figure(figsize=(3.2 * n_columns, 2.6 * n_rows), dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(n_rows, n_columns, squeeze=False).ravel()
    for axis, path in zip(axes, paths, strict=False):
        _scatter(axis, search, path)
    for axis in axes[len(paths) :]:
        axis.set_visible(False)
    return figure


def _scatter(axis: Axes, search: Search, path: str) -> None:
    there = [one for one in search.trials if one.values and math.isfinite(one.value)]
    values = [one.settings[path] for one in there]
    numbers = all(isinstance(value, int | float) and not isinstance(value, bool) for value in values)
    names = list(dict.fromkeys(map(str, values)))
    places = values if numbers else [names.index(str(value)) for value in values]
    longest = search.trials[0].steps
    for place, one in zip(places, there, strict=True):
        colour = ORANGE if one is search.trials[0] else BLUE
        whole = search.config.asha is None or one.steps == longest
        axis.plot(place, one.value, "o", color=colour, markerfacecolor=colour if whole else "none")
    if not numbers:
        axis.set_xticks(range(len(names)), names)
    elif all(isinstance(value, int) for value in values):
        axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    elif min(values) > 0 and max(values) >= 20 * min(values):
        axis.set_xscale("log")
    axis.set_xlabel(path)
    axis.set_ylabel(f"validation, {search.config.metric}")
    axis.grid(alpha=0.3)


def _page(search: Search) -> Page:
    config, best = search.config, search.trials[0]
    better = "lower" if config.lower_is_better else "higher"
    about = (
        f"{config.metric} of the last validation, {better} is better, after as many steps as stand beside it. The "
        "test was not looked at: measure the best network on it once, by scanside evaluate or a study. The best of "
        "many trials is a little worse than its validation says, as it was chosen by that. Each trial has one seed."
    )
    if config.asha is not None:
        rungs = ", ".join(map(str, config.asha.rungs))
        about += (
            f" Trials were stopped after {rungs} steps unless they were among the best of {config.asha.reduction} "
            "(asynchronous successive halving)."
        )
    columns = trial_columns(search)
    table = Rows(
        columns,
        [trial_cells(search, one) for one in search.trials],
        frozenset(columns[1 + len(config.paths) :]),
    )
    caption = (
        "The best trial in orange; hollow: stopped earlier than it." if config.asha else "The best in orange."
    )
    failures = [("warning", f"{one.name}: {one.failure}") for one in search.trials if one.failure]
    return Page(
        title=f"Search {search.study.name}",
        lead=f"{len(search.trials)} trials, the best {best.name}: {shown(best.settings)}. {BEST} has its training "
        "configuration",
        sections=[
            Section("Trials", [table, Text(about)]),
            Section(
                "Settings", [Picture(search_figure(search), caption, f"{config.metric} over each setting")]
            ),
            Section("What could not be done", [Messages(failures)] if failures else []),
        ],
    )
