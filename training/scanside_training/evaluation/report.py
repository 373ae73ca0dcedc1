"""What an evaluation leaves in its folder: tables as CSV and JSON, pictures, and an HTML page.

::

    evaluations/<name>/
    ├── report.html      everything to look at, in one file
    ├── table.csv        mean and standard deviation of each candidate, over all images and by stratum
    ├── images.csv       the measures of every image; volumes.csv those of volumes
    ├── differences.csv  each candidate against the reference, over subjects; non-inferiority.csv the verdicts
    ├── curves.csv       measures over numbers of the scan
    ├── results.json     all of this, with the configuration and the machine
    ├── provenance.json  what it hangs on: configuration, data, weights, versions
    ├── tables/          every table of the page as LaTeX
    └── pictures/        reference, images and error maps of some cases; the worst of each candidate; curves

Of perturbed scans there are more files: see `scanside_training.evaluation.perturbation.report`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

import torch
from matplotlib.figure import Figure

from scanside.report.figures import FAINT, save
from scanside.report.page import Facts, Messages, Page, Part, Picture, Rows, Section, Text
from scanside.storage import naming_disk
from scanside_training.evaluation.csv_files import write_csv
from scanside_training.evaluation.curves import curve_figure
from scanside_training.evaluation.floor_report import floor_sections
from scanside_training.evaluation.latex import latex_table
from scanside_training.evaluation.perturbation.report import perturbation_sections, write_perturbation
from scanside_training.evaluation.pictures import case_figure, worst_figure
from scanside_training.evaluation.provenance import provenance_line
from scanside_training.evaluation.run import Evaluation
from scanside_training.evaluation.scores import ALL, MEASURES, Score, Summary, region_measures
from scanside_training.evaluation.statistics_report import (
    curve_sections,
    difference_rows,
    point_rows,
    statistics_sections,
    verdict_rows,
)

__all__ = ["cells", "sections", "speed_cells", "speed_columns", "write_evaluation"]

_COLUMNS = (
    "PSNR, dB",
    "SSIM",
    "PSNR inside, dB",
    "SSIM inside",
    "NMSE",
    "NMSE inside",
    "HFEN",
    "VIF",
    "HaarPSI",
    "detail kept",
    "detail invented",
    "sharpness",
)
_SHOWN = (
    *("psnr", "ssim", "psnr_inside", "ssim_inside", "nmse", "nmse_inside", "hfen", "vif", "haarpsi"),
    *("kept", "invented", "sharpness"),
)
_FORMATS = {"psnr": "{:.2f}", "psnr_inside": "{:.2f}", "nmse": "{:.5f}", "nmse_inside": "{:.5f}"}

_SEEN = "seen in training"
"""Column that is there only where a candidate was trained on what it is measured on."""

_CAPTION = (
    "The reference, and each image after the best scalar fit, in one window; below, the magnitude of the differences "
    "in one scale."
)
_WORST = (
    "The cases of lowest PSNR over the whole image, worst first: reference, image after the best scalar fit, and the "
    "magnitude of the differences, each case in its own scale."
)


def cells(summary: Summary, measures: Sequence[str] = _SHOWN) -> list[str]:
    """The measures of a row as text, mean ± standard deviation."""
    texts = []
    for name in measures:
        form = _FORMATS.get(name, "{:.4f}")
        if name not in summary.means:
            texts.append("–")
        elif summary.n == 1:
            texts.append(form.format(summary.means[name]))
        else:
            texts.append(f"{form.format(summary.means[name])} ± {form.format(summary.deviations[name])}")
    return texts


def speed_columns(result: Evaluation) -> list[str]:
    """Titles of the columns on size and time, and on what was seen in training; none where nothing is known."""
    seen = [_SEEN] if result.learned else []
    if not result.parameters and not result.milliseconds:
        return seen
    columns = [*seen, "parameters", *(["ms per image"] if result.milliseconds else [])]
    if _reference(result):
        columns += ["times smaller", "times faster"]
    return columns


def speed_cells(result: Evaluation, candidate: str) -> list[str]:
    """Size and time of a candidate as text, in the order of `speed_columns`."""
    columns = speed_columns(result)
    n, time = result.parameters.get(candidate), result.milliseconds.get(candidate)
    texts = {
        _SEEN: str(result.learned.get(candidate, 0)),
        "parameters": "–" if n is None else f"{n:,}",
        "ms per image": "–" if time is None else f"{time:.1f}",
    }
    if reference := _reference(result):
        n_reference = result.parameters.get(reference)
        t_reference = result.milliseconds.get(reference)
        texts["times smaller"] = f"{n_reference / n:.1f}" if n and n_reference else "–"
        texts["times faster"] = f"{t_reference / time:.1f}" if time and t_reference else "–"
    return [texts[column] for column in columns]


def _reference(result: Evaluation) -> str | None:
    return result.config.speed.reference if result.config.speed else None


def write_evaluation(result: Evaluation, folder: Path) -> None:
    """Write everything into a folder, which is made where it is missing.

    Raises:
        RunError: it is full or must not be written.
    """
    with naming_disk(folder, f"the evaluation '{result.config.name}' was not written"):
        _write(result, folder)


def _write(result: Evaluation, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "results.json").write_text(result.as_json(), "utf-8")
    line = provenance_line(result.provenance)
    (folder / "provenance.json").write_text(
        json.dumps(result.provenance, indent=2, ensure_ascii=False) + "\n", "utf-8"
    )
    rows = []
    names = [*MEASURES, *region_measures(result.scores)]
    for one in result.summaries:
        n = result.parameters.get(one.candidate, "")
        time = result.milliseconds.get(one.candidate, "")
        figures = [part.get(name, "") for name in names for part in (one.means, one.deviations)]
        rows.append([one.candidate, one.stratum, one.value, one.n, *figures, n, time])
        if result.learned:
            rows[-1].append(result.learned.get(one.candidate, 0))
    measures = [title for name in names for title in (f"{name}_mean", f"{name}_std")]
    write_csv(
        folder / "table.csv",
        [
            *("candidate", "stratum", "value", "n", *measures, "n_parameters", "median_ms"),
            *(["n_seen_in_training"] if result.learned else []),
        ],
        rows,
    )
    _write_scores(folder / "images.csv", result.scores)
    if result.volumes:
        _write_scores(folder / "volumes.csv", result.volumes)
    _write_rows(folder / "differences.csv", difference_rows(result.comparisons))
    if result.perturbation is not None:
        write_perturbation(result.perturbation, folder, result.config.data.title)
    if result.config.non_inferiority is not None:
        _write_rows(folder / "non-inferiority.csv", verdict_rows(result))
    _write_rows(folder / "curves.csv", point_rows(result.points))
    _write_pictures(result, folder / "pictures", line)
    page = Page(
        title=f"Evaluation {result.config.name}",
        lead=f"{result.config.data.title}. Mean ± standard deviation over the images, over the whole image and "
        f"inside the object. {result.provenance['definition']}.",
        sections=sections(result),
    )
    page.write(folder / "report.html")
    (folder / "tables").mkdir(exist_ok=True)
    for section in page.sections:
        for table in section.parts:
            if isinstance(table, Rows) and table.rows:
                label = _file_name(section.title).lower()
                caption = f"{section.title}. Evaluation {result.config.name}: {result.config.data.title}."
                text = latex_table(table, caption, label, [f"{result.provenance['definition']}.", f"{line}."])
                (folder / "tables" / f"{label}.tex").write_text(text, "utf-8")


def _write_scores(path: Path, scores: Sequence[Score]) -> None:
    """A row for each image or volume."""
    strata = list(dict.fromkeys(name for one in scores for name in one.strata))
    conditions = list(dict.fromkeys(name for one in scores for name in one.conditions))
    names = [*MEASURES, *region_measures(scores)]
    write_csv(
        path,
        ["candidate", "case", *strata, *names, *(f"condition_{name}" for name in conditions)],
        (
            [
                one.candidate,
                one.case,
                *(one.strata.get(name, "") for name in strata),
                *(one.values.get(name, "") for name in names),
                *(one.conditions.get(name, "") for name in conditions),
            ]
            for one in scores
        ),
    )


def _write_rows(path: Path, rows: Iterable[Sequence[object]]) -> None:
    """A table whose first row names the columns."""
    columns, *others = rows
    write_csv(path, [str(name) for name in columns], others)


def _write_pictures(result: Evaluation, folder: Path, line: str) -> None:
    """Every picture, with what it hangs on at its foot."""
    for shown in result.shown:
        if shown.images:
            save(_footed(case_figure(shown), line), folder / f"{shown.case.name}.png")
    for rank, shown in enumerate(result.worst, 1):
        save(_footed(case_figure(shown), line), folder / f"worst-{rank:02d}-{shown.case.name}.png")
    for name, worst in result.worst_of.items():
        save(_footed(worst_figure(name, worst), line), folder / f"worst-of-{_file_name(name)}.png")
    for condition in dict.fromkeys(one.condition for one in result.points):
        save(_footed(curve_figure(result.points, condition), line), folder / f"curve-{condition}.png")


def _footed(figure: Figure, line: str) -> Figure:
    figure.supxlabel(line, fontsize=6, color=FAINT)
    return figure


def _file_name(title: str) -> str:
    return re.sub(r"[^A-Za-z0-9._]+", "-", title).strip("-")


def sections(result: Evaluation) -> list[Section]:
    """Tables, pictures, what could not be done, and the circumstances."""
    floor = result.config.floor
    overall = [one for one in result.summaries if one.stratum == ALL]
    strata = list(dict.fromkeys(one.stratum for one in result.summaries if one.stratum != ALL))
    extra = speed_columns(result)
    columns = ("candidate", "images", *_COLUMNS, *extra)
    rows = [(one.candidate, str(one.n), *cells(one), *speed_cells(result, one.candidate)) for one in overall]
    by_slice = "slice" in result.config.by
    warned: list[Part] = [Messages([("warning", leak) for leak in result.leaks])] if result.leaks else []
    if by_slice:
        made = [Section("All images", [*warned, Rows(columns, rows, frozenset(columns[1:]))])]
    else:
        columns = ("candidate", *extra)
        rows = [(one.candidate, *speed_cells(result, one.candidate)) for one in overall]
        sizes: list[Part] = [Rows(columns, rows, frozenset(extra))] if extra else []
        made = [Section("Size and time", [*warned, *sizes])]
    made += statistics_sections(result)
    made += floor_sections(result.scores, floor, result.worst) if floor is not None else []
    for stratum in strata if by_slice else ():
        columns = (stratum, "candidate", "images", *_COLUMNS)
        rows = [
            (one.value, one.candidate, str(one.n), *cells(one))
            for one in result.summaries
            if one.stratum == stratum
        ]
        made.append(Section(f"By {stratum}", [Rows(columns, rows, frozenset(columns[2:]))]))
    made += curve_sections(result)
    pictures: list[Part] = []
    for shown in result.shown:
        if shown.images:
            figure = case_figure(shown)
            about = ", ".join(f"{name} {value}" for name, value in shown.case.strata.items())
            pictures.append(Picture(figure, f"{shown.case.name} ({about}). {_CAPTION}", shown.case.name))
    made.append(Section("Pictures", pictures))
    worst: list[Part] = [
        Picture(worst_figure(name, shown), f"{name}. {_WORST}", f"Worst cases of {name}")
        for name, shown in result.worst_of.items()
    ]
    made.append(Section("Worst cases of each", worst))
    if result.perturbation is not None:
        made += perturbation_sections(result.perturbation)
    made.append(Section("What could not be done", _failures(result)))
    made.append(Section("Circumstances", _circumstances(result)))
    return made


def _failures(result: Evaluation) -> list[Part]:
    messages = []
    for one in result.failures:
        where = f", {len(one.cases)} image(s) ({one.cases[0]} …)" if one.cases else ""
        messages.append(("warning", f"{one.candidate}{where}: {one.reason}"))
    return [Messages(messages)] if messages else []


def _circumstances(result: Evaluation) -> list[Part]:
    facts = [(name, str(value)) for name, value in result.machine.items() if value is not None]
    facts.append(("torch threads", str(torch.get_num_threads())))
    for name, known in result.facts.items():
        if known:
            facts.append((name, ", ".join(f"{key} {value}" for key, value in known.items())))
    found = result.provenance
    facts += [
        ("configuration", found["configuration"]),
        ("data", f"{found['data']} ({found['n_cases']} cases)"),
    ]
    facts += [(f"weights of {name}", digest) for name, digest in found["weights"].items()]
    facts.append(("versions", ", ".join(f"{name} {number}" for name, number in found["versions"].items())))
    parts: list[Part] = [Facts(facts)]
    if result.milliseconds:
        parts.append(
            Text(
                "Times are those of one image whose inputs (coil maps, normalised images) are ready, candidates "
                "taking turns on one machine."
            )
        )
    return parts
