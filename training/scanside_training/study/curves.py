"""How trainings went: loss and validation over time."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import numpy.typing as npt
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from scanside_training.study.run import Study

__all__ = ["course", "curves_figure"]

_POINTS = 20
"""To which the losses of a run are averaged."""

Points = npt.NDArray[np.float64]


def curves_figure(study: Study) -> Figure:
    """Loss in training on the left, PSNR of validations on the right, over minutes.

    Each variation that has been trained is shown by its first network.
    """
    figure = Figure(figsize=(9, 3.4), dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    losses, measures = figure.subplots(1, 2)
    for variation in study.config.variations:
        one = study.of(variation.name)[0]
        record = study.records.get(one.name)
        log = one.folder / "metrics.csv"
        if record is None or not record.steps or not log.is_file():
            continue
        minutes = record.seconds / 60 / record.steps
        for axis, name, mark in ((losses, "train/loss", ""), (measures, "validation/psnr", "o")):
            steps, values = course(log, name, _POINTS)
            axis.plot(steps * minutes, values, marker=mark, markersize=3, linewidth=1, label=variation.name)
    losses.set_yscale("log")
    losses.set_ylabel("loss in training")
    measures.set_ylabel("PSNR of validation, dB")
    for axis in (losses, measures):
        axis.set_xlabel("minutes")
        axis.grid(alpha=0.3)
    if measures.lines:
        measures.legend(fontsize=7)
    return figure


def course(log: Path, name: str, n_points: int) -> tuple[Points, Points]:
    """A figure of a run by step, averaged to some points where it was logged more often.

    Args:
        log: ``metrics.csv`` of the run.
        name: of the column.
        n_points: most points.

    Returns:
        Steps and values, ``(n,)`` each.
    """
    with log.open(newline="", encoding="utf-8") as file:
        found = [(float(row["step"]), float(row[name])) for row in csv.DictReader(file) if row.get(name)]
    groups = np.array_split(np.array(found).reshape(-1, 2), max(1, min(n_points, len(found))))
    means = np.array([group.mean(0) for group in groups if len(group)]).reshape(-1, 2)
    return means[:, 0], means[:, 1]
