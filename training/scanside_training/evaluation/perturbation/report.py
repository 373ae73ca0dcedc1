"""Perturbation analysis as parts of a report, and as files beside it.

::

    evaluations/<name>/
    ├── perturbation.csv    means by candidate, diameter and contrast
    ├── responses.csv       of every structure
    ├── worst-case.csv      of every candidate and case
    ├── perturbation.json   all of this; data sheets of bundles take it
    └── pictures/perturbation-*.png
"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

from scanside._version import __version__
from scanside.report.figures import save
from scanside.report.page import Part, Picture, Rows, Section, Text
from scanside_training.evaluation.csv_files import write_csv
from scanside_training.evaluation.perturbation.curves import curves_figure
from scanside_training.evaluation.perturbation.pictures import responses_figure, worst_figure
from scanside_training.evaluation.perturbation.run import Perturbed
from scanside_training.evaluation.perturbation.sheet import COLUMNS, figure_cells
from scanside_training.evaluation.perturbation.summary import FIGURES

__all__ = ["ATTACK_COLUMNS", "attack_cells", "perturbation_sections", "write_perturbation"]

ATTACK_COLUMNS = (
    "candidate",
    "case",
    "random",
    "worst",
    "CG-SENSE there",
    "CG-SENSE's worst",
    "worst over CG-SENSE's worst",
    "note",
)
"""Of the table of worst changes."""

_ABOUT = (
    "Discs are added to what was acquired, through the scan's own maps, phase and mask; noise is the same with "
    "and without them. Contrast kept: the response times the disc over the disc's square, relative to the gain of "
    "the image. Displacement of the response's centroid and blurring (its root-mean-square radius less the "
    "disc's), pixels, where at least a tenth was kept. Elsewhere: energy of the change away from the disc, over "
    "the disc's; folded: the part of it where regular lines fold the disc to. d′ and area under the ROC curve of "
    "the non-prewhitening matched filter, for a known disc in known anatomy, over realisations of noise that are "
    "added to that of the scan. Mean ± standard deviation over places and cases."
)
_ABOUT_WORST = (
    "Changes δ of the acquired samples whose norm is {epsilon:g} × that of the scan's noise. Amplification is ‖Δ‖ "
    "/ ‖δ‖ of the image inside {region}, relative to the gain of the image. Random: the largest of {restarts} "
    "random changes. Worst: the largest of as many starts of a gradient ascent with {steps} steps, for learned "
    "candidates on what they change beyond CG-SENSE. A longer search may find worse."
)


def perturbation_sections(result: Perturbed) -> list[Section]:
    """Tables and pictures."""
    made = []
    structures = result.config.structures
    if structures is not None and result.responses:
        columns = ("candidate", f"diameter, {structures.unit}", "contrast", "n", *COLUMNS)
        rows = [
            (one.candidate, f"{one.diameter:g}", f"{one.contrast:+g}", str(one.n), *figure_cells(asdict(one)))
            for one in result.rows
        ]
        parts: list[Part] = [Text(_ABOUT), Rows(columns, rows, frozenset(columns[1:]))]
        parts.append(
            Picture(curves_figure(result.rows, structures.unit), "Means over the diameter.", "figures")
        )
        for shown in result.shown:
            if shown.responses:
                caption = (
                    f"{shown.case}: what was added, and what of the change of each image is in phase with it. Rows: "
                    f"diameters in {structures.unit}."
                )
                parts.append(Picture(responses_figure(shown), caption, "responses"))
        made.append(Section("Small structures", parts))
    worst = result.config.worst_case
    if worst is not None and result.attacked:
        region = "the object" if worst.region is None else f"a disc at {worst.region}"
        about = _ABOUT_WORST.format(
            epsilon=worst.epsilon, region=region, restarts=worst.restarts, steps=worst.steps
        )
        parts = [Text(about), Rows(ATTACK_COLUMNS, attack_cells(result), frozenset(ATTACK_COLUMNS[2:-1]))]
        if result.shown_worst:
            parts.append(Picture(worst_figure(result.shown_worst), f"{result.cases[0]}.", "worst changes"))
        made.append(Section("Worst changes", parts))
    return made


def attack_cells(result: Perturbed) -> list[tuple[str, ...]]:
    """Rows of `ATTACK_COLUMNS`."""
    return [
        (
            one.candidate,
            one.case,
            f"{one.random:.3f}",
            "–" if one.worst is None else f"{one.worst:.3f}",
            f"{one.reference_there:.3f}",
            f"{one.reference_worst:.3f}",
            "–" if one.worst is None else f"{one.worst / one.reference_worst:.2f}",
            one.note,
        )
        for one in result.attacked
    ]


def write_perturbation(result: Perturbed, folder: Path, title: str) -> None:
    """Write the files.

    Args:
        result: of an analysis.
        folder: that is there.
        title: what the data are.
    """
    document = {"scanside": __version__, "notice": "Research use only", "data": title, **result.as_json()}
    (folder / "perturbation.json").write_text(
        json.dumps(document, indent=1, ensure_ascii=False) + "\n", "utf-8"
    )
    if result.responses:
        write_csv(
            folder / "perturbation.csv",
            [
                *("candidate", "diameter", "contrast", "n"),
                *(f"{name}_{part}" for name in FIGURES for part in ("mean", "std")),
            ],
            (
                [
                    *(one.candidate, one.diameter, one.contrast, one.n),
                    *(part.get(name, "") for name in FIGURES for part in (one.means, one.deviations)),
                ]
                for one in result.rows
            ),
        )
        names = ("candidate", "case", "diameter", "contrast", "y", "x", *FIGURES)
        rows = []
        for response in result.responses:
            flat = asdict(response)
            flat |= flat.pop("measured")
            rows.append(["" if flat[name] is None else flat[name] for name in names])
        write_csv(folder / "responses.csv", names, rows)
    if result.attacked:
        columns = ("candidate", "case", "random", "worst", "reference_there", "reference_worst", "note")
        write_csv(
            folder / "worst-case.csv",
            columns,
            (
                ["" if getattr(one, name) is None else getattr(one, name) for name in columns]
                for one in result.attacked
            ),
        )
    pictures = folder / "pictures"
    if result.responses and result.config.structures is not None:
        figure = curves_figure(result.rows, result.config.structures.unit)
        save(figure, pictures / "perturbation-curves.png")
    for shown in result.shown:
        if shown.responses:
            save(responses_figure(shown), pictures / "perturbation-responses.png")
    if result.shown_worst:
        save(worst_figure(result.shown_worst), pictures / "perturbation-worst.png")
