"""What a study leaves in its folder.

::

    studies/<name>/
    ├── report.html       tables, layers, pictures, in one file
    ├── table.csv         a row for each variation
    ├── curves.png        loss and PSNR over the time of the trainings
    ├── differences.csv   who is better than whom, with the figures of every seed
    ├── similarity-*.csv  linear CKA of the teacher's layers with a student's
    ├── tables/           both tables as LaTeX
    ├── evaluation/       all images of all networks (see `scanside_training.evaluation.report`)
    └── runs/             the trainings
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from scanside.report.figures import save
from scanside.report.page import Messages, Page, Part, Picture, Rows, Section, Text
from scanside_training.evaluation.csv_files import write_csv
from scanside_training.evaluation.latex import latex_table
from scanside_training.evaluation.pictures import Shown, case_figure
from scanside_training.evaluation.provenance import provenance_line
from scanside_training.evaluation.report import write_evaluation
from scanside_training.similarity import similarity_figure
from scanside_training.study.curves import curves_figure
from scanside_training.study.run import Study
from scanside_training.study.tables import MEASURES, Difference, Row, differences, rows

__all__ = ["DIFFERENCE_COLUMNS", "columns", "difference_cells", "row_cells", "write_study"]

_TITLES = {
    "mse": "MSE",
    "nmse": "NMSE",
    "psnr": "PSNR, dB",
    "ssim": "SSIM",
    "psnr_inside": "PSNR inside, dB",
    "ssim_inside": "SSIM inside",
    "hfen": "HFEN",
    "haarpsi": "HaarPSI",
    "kept": "detail kept",
    "invented": "detail invented",
}
_FORMATS = {"mse": "{:.5f}", "nmse": "{:.5f}", "psnr": "{:.2f}", "psnr_inside": "{:.2f}"}

_GAINS = {"psnr": "gain, dB", "ssim": "gain, SSIM"}
"""Over zero-filled."""

DIFFERENCE_COLUMNS = (
    *("compared", "measure", "difference", "95 % over subjects", "p (Holm)", "95 % over subjects and seeds"),
    "better images",
    *("seeds", "seeds of the other", ""),
)


def columns(study: Study) -> list[str]:
    """Titles of the columns of the table: name, labels, measures, gain over zero-filled, size and time."""
    measures = [*(_TITLES[name] for name in MEASURES), *_GAINS.values()]
    return ["network", *_labels(study), "networks", *measures, *_sizes(study)]


def row_cells(study: Study, row: Row) -> list[str]:
    """A row as text, in the order of `columns`."""
    measures = [
        f"{_text(name, row.means[name])} ± {_text(name, row.spread[name])}" if name in row.means else "–"
        for name in MEASURES
    ]
    start = rows(study)[0].means
    measures += [f"{_text(name, row.means[name] - start[name])}" for name in _GAINS]
    values = {
        "parameters": f"{row.n_parameters:,}" if row.n_parameters else "–",
        "training, min": f"{row.seconds / 60:.1f}" if row.seconds is not None else "–",
        "epochs": f"{row.epochs:.1f}" if row.epochs is not None else "–",
        "s per epoch": f"{row.seconds / row.epochs:.0f}" if row.epochs and row.seconds is not None else "–",
        "memory, MB": f"{row.memory / 1e6:.0f}" if row.memory is not None else "–",
        "ms per image": f"{row.median_ms:.1f}" if row.median_ms is not None else "–",
    }
    reference = _reference(study)
    if reference is not None:
        smaller, faster = "–", "–"
        if row.n_parameters and reference.n_parameters:
            smaller = f"{reference.n_parameters / row.n_parameters:.1f}"
        if row.median_ms and reference.median_ms:
            faster = f"{reference.median_ms / row.median_ms:.1f}"
        values |= {"times smaller": smaller, "times faster": faster}
    labels = [row.labels.get(name, "") for name in _labels(study)]
    n_networks = "–"
    if row.n_parameters:
        n_networks = "one seed" if row.n_seeds == 1 else f"{row.n_seeds} seeds"
        n_networks += f" of {study.n_folds} folds" if study.n_folds else ""
    return [row.variation, *labels, n_networks, *measures, *(values[name] for name in _sizes(study))]


def difference_cells(one: Difference) -> list[str]:
    """A comparison as text, in the order of `DIFFERENCE_COLUMNS`."""
    form = _FORMATS.get(one.measure, "{:.4f}")
    signed = form.replace("{:", "{:+")
    return [
        f"{one.variation} against {one.against}",
        _TITLES[one.measure],
        f"{signed.format(one.mean)} ± {form.format(one.spread)}",
        _interval(one, signed),
        "–" if one.p is None else f"{one.p:.2g}",
        _over_both(one, signed),
        f"{100 * one.images:.0f} %",
        ", ".join(form.format(value) for value in one.first),
        ", ".join(form.format(value) for value in one.second),
        one.verdict,
    ]


def _interval(one: Difference, form: str) -> str:
    people = one.people
    if people is None:
        return "–"
    if people.low is None or people.high is None:
        return f"– ({people.n_subjects} subjects)"
    return f"{form.format(people.low)} to {form.format(people.high)} ({people.n_subjects} subjects)"


def _over_both(one: Difference, form: str) -> str:
    if min(len(one.first), len(one.second)) < 2:
        return "– (one seed)"
    if one.both is None:
        return "–"
    return f"{form.format(one.both.low)} to {form.format(one.both.high)}"


def _both(one: Difference) -> list[float | str]:
    """Interval and p over subjects and seeds, for a table's row."""
    return ["", "", ""] if one.both is None else [one.both.low, one.both.high, one.both.p]


def _people(one: Difference) -> list[float | str]:
    """Subjects, interval, p and effect, for a table's row."""
    people = one.people
    if people is None:
        return [""] * 5
    found = (people.n_subjects, people.low, people.high, one.p, people.effect)
    return ["" if value is None else value for value in found]


def write_study(study: Study, folder: Path) -> None:
    """Write tables, pictures and report."""
    folder.mkdir(parents=True, exist_ok=True)
    found, compared = rows(study), differences(study)
    labels = _labels(study)
    write_csv(
        folder / "table.csv",
        [
            "network",
            *labels,
            "networks",
            "images",
            *(title for name in MEASURES for title in (f"{name}_mean", f"{name}_spread")),
            "n_parameters",
            "training_seconds",
            "epochs",
            "memory_bytes",
            "median_ms",
        ],
        (
            [
                row.variation,
                *(row.labels.get(name, "") for name in labels),
                row.n_seeds * (study.n_folds or 1),
                row.n_images,
                *(
                    value
                    for name in MEASURES
                    for value in (row.means.get(name, ""), row.spread.get(name, ""))
                ),
                row.n_parameters,
                row.seconds,
                row.epochs,
                row.memory,
                row.median_ms,
            ]
            for row in found
        ),
    )
    write_csv(
        folder / "differences.csv",
        [
            "network",
            "against",
            "measure",
            "difference",
            "spread",
            "share_of_images",
            "subjects",
            "low_95",
            "high_95",
            "p_holm",
            "effect",
            "low_95_seeds",
            "high_95_seeds",
            "p_seeds",
            "seeds",
            "seeds_against",
        ],
        (
            [one.variation, one.against, one.measure, one.mean, one.spread, one.images]
            + _people(one)
            + _both(one)
            + [" ".join(map(str, side)) for side in (one.first, one.second)]
            for one in compared
        ),
    )
    for name, similarity in study.similarities.items():
        write_csv(
            folder / f"similarity-{name}.csv",
            ["teacher", *similarity.student_layers],
            (
                [layer, *values]
                for layer, values in zip(similarity.teacher_layers, similarity.values, strict=True)
            ),
        )
        save(similarity_figure(similarity), folder / f"similarity-{name}.png")
    save(curves_figure(study), folder / "curves.png")
    write_evaluation(study.evaluation, folder / "evaluation")
    _write_tables(study, found, compared, folder / "tables")
    _page(study, found, compared).write(folder / "report.html")


def _write_tables(study: Study, found: Sequence[Row], compared: Sequence[Difference], folder: Path) -> None:
    """Both tables as LaTeX."""
    folder.mkdir(exist_ok=True)
    titles, about = columns(study), f"{study.evaluation.config.data.title}, {study.config.samples} images"
    tables = {
        "networks": Rows(titles, [row_cells(study, row) for row in found], frozenset(titles[1:])),
        "differences": Rows(DIFFERENCE_COLUMNS, [difference_cells(one) for one in compared]),
    }
    foot = [f"{provenance_line(study.evaluation.provenance)}."]
    for name, table in tables.items():
        if table.rows:
            text = latex_table(table, f"Study {study.config.name}, {name}: {about}.", name, foot)
            (folder / f"{name}.tex").write_text(text, "utf-8")


def _page(study: Study, found: Sequence[Row], compared: Sequence[Difference]) -> Page:
    titles = columns(study)
    text = (
        "Means over the images; ± is the standard deviation over the networks of different seeds, or over the images "
        "where there is one network. Measures of magnitudes after the best scalar fit; MSE of images that are "
        "normalised as the network sees them. Of films, measures are means over their frames; a frame is an image. "
        "Detail is what a Laplacian of Gaussian lets through: kept is what the reference explains, in windows of "
        "11 × 11, invented is the rest, noise and aliasing included, both over the energy of the reference's. "
        "Memory: what the tensors of one training step take at most, without weights and optimiser."
    )
    table = Rows(
        titles, [row_cells(study, row) for row in found], frozenset(titles[1 + len(_labels(study)) :])
    )
    warnings = [*study.evaluation.leaks, *study.cautions]
    warned: list[Part] = [Messages([("warning", one) for one in warnings])] if warnings else []
    sections = [Section("Networks", [*warned, table, Text(text)])]
    curves = curves_figure(study)
    about = "Loss in training, mean over a twentieth of the run, and PSNR of each validation. Losses differ in kind."
    sections.append(Section("Courses of the trainings", [Picture(curves, about, "Loss and PSNR over time")]))
    if compared:
        cells = [difference_cells(one) for one in compared]
        about = (
            "The difference of the means over all seeds; ± is its standard deviation, from the spread of the seeds. "
            "Better images: the share of images on which the mean over the seeds is better. Over subjects: BCa "
            "bootstrap of the subjects' mean differences, of six at least, and Wilcoxon's signed-rank test, "
            "corrected by Holm's method over the comparisons by the same measure. It tells what other subjects would "
            "show of these very networks, and nothing of other seeds: one seed is no conclusion. Over subjects and "
            "seeds: from the variance of both, crossed, with Satterthwaite's degrees of freedom; of two seeds at "
            "least on each side, and wide where there are few."
        )
        title = "Differences" if study.config.ablation is None else "What each part is worth"
        sections.append(Section(title, [Rows(DIFFERENCE_COLUMNS, cells), Text(about)]))
    layers: list[Part] = [
        Picture(
            similarity_figure(similarity),
            f"Linear CKA of the blocks of {name} with those of the teacher, on the images of the test: 1 where they "
            "tell the same of an image, up to rotation and scale.",
            f"CKA matrix of {name}",
        )
        for name, similarity in study.similarities.items()
    ]
    sections.append(Section("How alike the layers are", layers))
    sections.append(Section("Pictures", _pictures(study)))
    failures = [("warning", f"{name} was not trained: {reason}") for name, reason in study.failures.items()]
    failures += [("warning", f"{one.candidate}: {one.reason}") for one in study.evaluation.failures]
    sections.append(Section("What could not be done", [Messages(failures)] if failures else []))
    return Page(
        title=f"Study {study.config.name}",
        lead=f"{_lead(study)}. {provenance_line(study.evaluation.provenance)}.",
        sections=sections,
    )


def _lead(study: Study) -> str:
    title, n_samples = study.evaluation.config.data.title, study.config.samples
    if study.n_folds is None:
        return f"{title}, {n_samples} images"
    return (
        f"{title}, {study.n_folds} folds, {n_samples} images of each: every subject is measured by networks that "
        "were trained on other folds, and all folds are pooled. Times and pictures are those of fold 0"
    )


def _pictures(study: Study) -> list[Part]:
    """One network of each variation, beside what they begin with."""
    others = [one.name or one.label for one in study.config.candidates]
    first = {"zero-filled", *others, *(study.measured(one.name)[0] for one in study.config.variations)}
    parts: list[Part] = []
    for shown in study.evaluation.shown:
        images = {name: image for name, image in shown.images.items() if name in first}
        figure = case_figure(Shown(shown.case, images))
        caption = f"Image {shown.case.name}; below, the magnitude of the differences to the reference, in one scale."
        parts.append(Picture(figure, caption, f"Image {shown.case.name}"))
    return parts


def _labels(study: Study) -> list[str]:
    return list(dict.fromkeys(name for one in study.config.variations for name in one.labels))


def _sizes(study: Study) -> list[str]:
    timed = ["ms per image"] if study.evaluation.milliseconds else []
    related = ["times smaller", "times faster"] if _reference(study) else []
    training = ["epochs", "s per epoch", "training, min", "memory, MB"]
    return ["parameters", *training, *timed, *related]


def _reference(study: Study) -> Row | None:
    speed = study.config.speed
    return next((row for row in rows(study) if speed and row.variation == speed.reference), None)


def _text(measure: str, value: float) -> str:
    return _FORMATS.get(measure, "{:.4f}").format(value)
