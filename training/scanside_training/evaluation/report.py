"""What an evaluation leaves in its folder: tables as CSV and JSON, pictures, and an HTML page.

::

    evaluations/<name>/
    ├── report.html      everything to look at, in one file
    ├── table.csv        mean and standard deviation of each candidate, over all images and by stratum
    ├── images.csv       the measures of every image
    ├── results.json     all of this, with the configuration and the machine
    └── pictures/        reference, images and error maps of some cases, and of the worst

Of perturbed scans there are more files: see `scanside_training.evaluation.perturbation.report`.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from scanside.report.figures import save
from scanside.report.page import Facts, Messages, Page, Part, Picture, Rows, Section, Text
from scanside.storage import naming_disk
from scanside_training.evaluation.csv_files import write_csv
from scanside_training.evaluation.floor_report import floor_sections
from scanside_training.evaluation.perturbation.report import perturbation_sections, write_perturbation
from scanside_training.evaluation.pictures import case_figure
from scanside_training.evaluation.run import Evaluation
from scanside_training.evaluation.scores import ALL, MEASURES, Summary

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
)
_SHOWN = (
    *("psnr", "ssim", "psnr_inside", "ssim_inside", "nmse", "nmse_inside", "hfen", "vif", "haarpsi"),
    *("kept", "invented"),
)
_FORMATS = {"psnr": "{:.2f}", "psnr_inside": "{:.2f}", "nmse": "{:.5f}", "nmse_inside": "{:.5f}"}

_SEEN = "seen in training"
"""Column that is there only where a candidate was trained on what it is measured on."""

_CAPTION = (
    "The reference, and each image after the best scalar fit, in one window; below, the magnitude of the differences "
    "in one scale."
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
    rows = []
    for one in result.summaries:
        n = result.parameters.get(one.candidate, "")
        time = result.milliseconds.get(one.candidate, "")
        figures = [part.get(name, "") for name in MEASURES for part in (one.means, one.deviations)]
        rows.append([one.candidate, one.stratum, one.value, one.n, *figures, n, time])
        if result.learned:
            rows[-1].append(result.learned.get(one.candidate, 0))
    measures = [title for name in MEASURES for title in (f"{name}_mean", f"{name}_std")]
    write_csv(
        folder / "table.csv",
        [
            *("candidate", "stratum", "value", "n", *measures, "n_parameters", "median_ms"),
            *(["n_seen_in_training"] if result.learned else []),
        ],
        rows,
    )
    strata = list(dict.fromkeys(name for one in result.scores for name in one.strata))
    write_csv(
        folder / "images.csv",
        ["candidate", "case", *strata, *MEASURES],
        (
            [
                one.candidate,
                one.case,
                *(one.strata.get(name, "") for name in strata),
                *(one.values.get(name, "") for name in MEASURES),
            ]
            for one in result.scores
        ),
    )
    for shown in result.shown:
        if shown.images:
            save(case_figure(shown), folder / "pictures" / f"{shown.case.name}.png")
    for rank, shown in enumerate(result.worst, 1):
        save(case_figure(shown), folder / "pictures" / f"worst-{rank:02d}-{shown.case.name}.png")
    if result.perturbation is not None:
        write_perturbation(result.perturbation, folder, result.config.data.title)
    page = Page(
        title=f"Evaluation {result.config.name}",
        lead=f"{result.config.data.title}. Mean ± standard deviation over the images; measures of magnitudes after "
        "the best scalar fit, over the whole image and inside the object.",
        sections=sections(result),
    )
    page.write(folder / "report.html")


def sections(result: Evaluation) -> list[Section]:
    """Tables, pictures, what could not be done, and the circumstances."""
    floor = result.config.floor
    overall = [one for one in result.summaries if one.stratum == ALL]
    strata = list(dict.fromkeys(one.stratum for one in result.summaries if one.stratum != ALL))
    extra = speed_columns(result)
    columns = ("candidate", "images", *_COLUMNS, *extra)
    rows = [(one.candidate, str(one.n), *cells(one), *speed_cells(result, one.candidate)) for one in overall]
    warned: list[Part] = [Messages([("warning", leak) for leak in result.leaks])] if result.leaks else []
    made = [Section("All images", [*warned, Rows(columns, rows, frozenset(columns[1:]))])]
    made += floor_sections(result.scores, floor, result.worst) if floor is not None else []
    for stratum in strata:
        columns = (stratum, "candidate", "images", *_COLUMNS)
        rows = [
            (one.value, one.candidate, str(one.n), *cells(one))
            for one in result.summaries
            if one.stratum == stratum
        ]
        made.append(Section(f"By {stratum}", [Rows(columns, rows, frozenset(columns[2:]))]))
    pictures: list[Part] = []
    for shown in result.shown:
        if shown.images:
            figure = case_figure(shown)
            about = ", ".join(f"{name} {value}" for name, value in shown.case.strata.items())
            pictures.append(Picture(figure, f"{shown.case.name} ({about}). {_CAPTION}", shown.case.name))
    made.append(Section("Pictures", pictures))
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
    parts: list[Part] = [Facts(facts)]
    if result.milliseconds:
        parts.append(
            Text(
                "Times are those of one image whose inputs (coil maps, normalised images) are ready, candidates "
                "taking turns on one machine."
            )
        )
    return parts
