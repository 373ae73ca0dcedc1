"""What a reader study leaves: answers, tables, and an HTML page.

::

    results/
    ├── report.html      everything to look at, in one file
    ├── answers.csv      every answer of finished trials
    ├── scores.csv       answers by question and method
    └── results.json     agreement, scores, differences, preferences, with the form
"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

from scanside._version import __version__
from scanside.report.page import Messages, Page, Part, Picture, Rows, Section, Text
from scanside.storage import naming_disk
from scanside_training.evaluation.csv_files import write_csv
from scanside_training.readers.agreement import Estimate
from scanside_training.readers.figures import answers_figure, differences_figure, likings_figure
from scanside_training.readers.form import AnyQuestion, FreeText, Likert, Preference, Scored, YesNo
from scanside_training.readers.results import Agreement, Difference, Liking, ReaderResults

__all__ = [
    "AGREEMENT_COLUMNS",
    "DIFFERENCE_COLUMNS",
    "LIKING_COLUMNS",
    "agreement_cells",
    "difference_cells",
    "liking_cells",
    "write_results",
]

AGREEMENT_COLUMNS = ("question", "who", "ICC(2,1)", "ICC(2,k)", "kappa", "equal", "judged", "left out")
DIFFERENCE_COLUMNS = (
    *("question", "methods", "difference", "95 % interval", "bootstrap", "p (Wilcoxon, Holm)"),
    *("margin", "p (non-inferior, Holm)", "no worse", "subjects", "left out"),
)
LIKING_COLUMNS = (
    "question",
    "first",
    "second",
    "votes",
    "subjects",
    "share of the first",
    "p (sign test, Holm)",
)

_AGREEMENT = (
    "Between readers: intraclass correlation of scales (Shrout & Fleiss; absolute agreement of a single reader and "
    "of the mean of all) with intervals from the F distribution, which take images as independent, and Fleiss' "
    "kappa. Of a reader with itself, where something was shown twice: Cohen's kappa, on a scale weighted by squared "
    "distances. Intervals of kappas are bootstrapped over subjects."
)
_DIFFERENCES = (
    "Means over readers and subjects; above 0 the first method is better. The interval takes readers and subjects as "
    "drawn at random (of one reader, the subjects alone) and decides on non-inferiority: it is shown where p is at "
    "most 0.025. The bootstrap draws both anew and is too narrow for few readers. Wilcoxon's test is over subjects, "
    "of means over readers."
)
_LIKINGS = (
    "A subject is for the method that has more of its votes. The share is of subjects that are for one of the two, "
    "with Wilson's interval."
)


def write_results(result: ReaderResults, folder: Path) -> None:
    """Write everything into a folder, which is made where it is missing.

    Raises:
        RunError: it is full or must not be written.
    """
    with naming_disk(folder, "the results of the reader study were not written"):
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "results.json").write_text(_json(result), "utf-8")
        write_csv(
            folder / "answers.csv",
            ("reader", "trial", "again", "case", "subject", "shown", "method", "question", "answer"),
            (
                (
                    *(
                        one.reader,
                        one.trial + 1,
                        int(one.again),
                        one.case,
                        one.subject,
                        " | ".join(one.methods),
                    ),
                    *(one.method, one.question, one.value),
                )
                for one in result.answers
            ),
        )
        write_csv(
            folder / "scores.csv",
            ("question", "method", "answer", "n", "mean", "std", "subjects"),
            (
                (one.question, one.method, answer, n, *map(_plain, (one.mean, one.deviation)), one.n_subjects)
                for one in result.scores
                for answer, n in one.counts.items()
            ),
        )
        page = Page(
            title=f"Readers: {result.study.form.title}",
            lead=f"{len(result.study.methods)} methods on {len(result.study.document.cases)} cases, read blindly by "
            f"{len(result.standings)} reader(s).",
            highlights={one.reader: f"{one.finished} of {one.total}" for one in result.standings},
            sections=_sections(result),
        )
        page.write(folder / "report.html")


def _json(result: ReaderResults) -> str:
    document = {
        "scanside": __version__,
        "notice": "Research use only",
        "form": result.study.form.model_dump(mode="json"),
        "evaluation": result.study.document.evaluation,
        "methods": result.study.methods,
        "cases": {name: one.subject for name, one in result.study.document.cases.items()},
        "cautions": result.study.cautions,
        "n_open": result.n_open,
        **{
            name: [asdict(one) for one in getattr(result, name)]
            for name in ("standings", "scores", "agreements", "differences", "likings", "powers")
        },
    }
    return json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def _sections(result: ReaderResults) -> list[Section]:
    standings = [
        (one.reader, f"{one.finished} of {one.total}", "–" if one.seconds is None else f"{one.seconds:.1f}")
        for one in result.standings
    ]
    first: list[Part] = [
        Rows(("reader", "trials", "median seconds"), standings, frozenset(("trials", "median seconds")))
    ]
    if told := _told(result):
        first.insert(0, Messages(told))
    made = [Section("Readers", first)]
    made += [
        Section(f"{one.name}: {one.text}", _question(result, one)) for one in result.study.form.questions
    ]
    if result.agreements:
        rows = [agreement_cells(one) for one in result.agreements]
        numeric = frozenset(AGREEMENT_COLUMNS[2:])
        made.append(Section("Agreement", [Text(_AGREEMENT), Rows(AGREEMENT_COLUMNS, rows, numeric)]))
    if result.powers:
        made.append(Section("Estimated beforehand", [Text(one.text) for one in result.powers]))
    return made


def _told(result: ReaderResults) -> list[tuple[str, str]]:
    told = [("warning", text) for text in result.study.cautions]
    if unfinished := [one.reader for one in result.standings if one.finished < one.total]:
        told.append(("warning", f"not everything is read yet: {', '.join(unfinished)}"))
    if result.n_open:
        told.append(("note", f"{result.n_open} answer(s) of trials that are not finished do not count"))
    return told


def _question(result: ReaderResults, question: AnyQuestion) -> list[Part]:
    if isinstance(question, FreeText):
        texts = [one for one in result.answers if one.question == question.name and one.value]
        remarks = [
            (one.reader, one.case, one.method or " | ".join(one.methods), str(one.value)) for one in texts
        ]
        return [Rows(("reader", "case", "method", "remark"), remarks)] if remarks else []
    if isinstance(question, Preference):
        likings = [one for one in result.likings if one.question == question.name]
        if not likings:
            return []
        rows = [liking_cells(one)[1:] for one in likings]
        numeric = frozenset(LIKING_COLUMNS[3:])
        picture = Picture(likings_figure(likings), "Votes.", f"votes on {question.name}")
        return [picture, Text(_LIKINGS), Rows(LIKING_COLUMNS[1:], rows, numeric)]
    parts: list[Part] = []
    scores = [one for one in result.scores if one.question == question.name]
    if scores:
        labels = [
            f"{value} {label}" if isinstance(value, int) else label for value, label in question.options
        ]
        figure = answers_figure(
            scores,
            labels,
            ordered=isinstance(question, Likert | YesNo),
            # A scale begins at its low end, yes/no at yes, which is the high one.
            better=_first_colour(question),
        )
        parts.append(Picture(figure, "Answers to each method.", f"answers to {question.name}"))
        if isinstance(question, Scored):
            columns = ("method", "mean ± standard deviation over subjects", "subjects")
            means = [(one.method, _spread(one.mean, one.deviation), str(one.n_subjects)) for one in scores]
            parts.append(Rows(columns, means, frozenset(columns[1:])))
    if differences := [one for one in result.differences if one.question == question.name]:
        unit = "difference, share of yes" if isinstance(question, YesNo) else "difference, steps of the scale"
        picture = Picture(
            differences_figure(differences, f"{unit} (to the right the first is better)"),
            "Mean differences with 95 % intervals; broken lines are margins of non-inferiority, which is shown where "
            "the interval is blue.",
            f"differences in {question.name}",
        )
        rows = [difference_cells(one)[1:] for one in differences]
        parts += [
            picture,
            Text(_DIFFERENCES),
            Rows(DIFFERENCE_COLUMNS[1:], rows, frozenset(DIFFERENCE_COLUMNS[2:])),
        ]
    return parts


def _first_colour(question: AnyQuestion) -> str:
    if isinstance(question, YesNo):
        return "low" if question.better == "high" else "high"
    return question.better if isinstance(question, Likert) else "high"


def agreement_cells(one: Agreement) -> list[str]:
    """A row of `AGREEMENT_COLUMNS`."""
    icc = one.icc
    return [
        one.question,
        f"{one.reader}, twice" if one.reader else "between readers",
        _estimate(icc.single) if icc else "–",
        _estimate(icc.mean) if icc else "–",
        _estimate(one.kappa),
        "–" if one.same is None else f"{100 * one.same:.0f} %",
        str(one.n_targets),
        str(one.n_left_out),
    ]


def difference_cells(one: Difference) -> list[str]:
    """A row of `DIFFERENCE_COLUMNS`."""
    overall = one.overall
    verdict = {None: "–", True: "yes", False: "not shown"}[one.noninferior]
    return [
        one.question,
        f"{one.first} − {one.second}",
        f"{overall.mean:+.2f}",
        _interval(overall.low, overall.high),
        _interval(overall.boot_low, overall.boot_high),
        _p(one.p),
        "–" if one.margin is None else f"{one.margin:g}",
        _p(one.p_noninferior),
        verdict,
        str(overall.n_subjects),
        str(one.n_left_out),
    ]


def liking_cells(one: Liking) -> list[str]:
    """A row of `LIKING_COLUMNS`."""
    return [
        one.question,
        one.first,
        one.second,
        f"{one.votes_first} : {one.votes_second} ({one.votes_same} for neither)",
        f"{one.subjects_first} : {one.subjects_second} ({one.subjects_same} even)",
        _estimate(one.share),
        _p(one.p),
    ]


def _estimate(one: Estimate) -> str:
    if one.value is None:
        return "–"
    interval = "" if one.low is None else f" {_interval(one.low, one.high)}"
    return f"{one.value:.2f}{interval}"


def _interval(low: float | None, high: float | None) -> str:
    return "–" if low is None or high is None else f"[{low:.2f}, {high:.2f}]"


def _p(p: float | None) -> str:
    return "–" if p is None else "< 0.001" if p < 0.001 else f"{p:.3f}"


def _plain(value: float | None) -> object:
    return "" if value is None else value


def _spread(mean: float | None, deviation: float | None) -> str:
    if mean is None:
        return "–"
    return f"{mean:.2f}" if deviation is None else f"{mean:.2f} ± {deviation:.2f}"
