"""Subjects, volumes, regions, differences and curves, as parts of a report and rows of CSV files."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from scanside.report.page import Messages, Part, Picture, Rows, Section, Text
from scanside_training.evaluation.comparisons import Comparison, NonInferiority
from scanside_training.evaluation.curves import CONDITIONS, Point, curve_figure
from scanside_training.evaluation.paired import LEAST_SUBJECTS
from scanside_training.evaluation.scores import ALL, Summary, region_measures, summaries

if TYPE_CHECKING:
    from scanside_training.evaluation.run import Evaluation

__all__ = [
    "DIFFERENCES",
    "VERDICTS",
    "curve_sections",
    "difference_cells",
    "difference_rows",
    "measure_title",
    "measure_value",
    "point_rows",
    "statistics_sections",
    "verdict_cells",
    "verdict_rows",
]

DIFFERENCES = (
    *("candidate", "measure", "difference", "95 % over subjects", "p (Holm)", "effect", "better", "subjects"),
    "compared",
)
"""Columns of differences, after those of the stratum."""
VERDICTS = ("candidate", "gain", "lies above", "subjects", "images", "verdict")

_TITLES = {
    "psnr": "PSNR, dB",
    "ssim": "SSIM",
    "nmse": "NMSE",
    "psnr_inside": "PSNR inside, dB",
    "ssim_inside": "SSIM inside",
    "nmse_inside": "NMSE inside",
    "sharpness": "sharpness",
    "contrast": "contrast kept",
    "cnr": "CNR",
    "mse": "MSE",
}
_FORMATS = {"psnr": "{:.2f}", "nmse": "{:.5f}", "cnr": "{:.2f}"}
_VOLUME = ("psnr", "ssim", "nmse", "psnr_inside", "ssim_inside", "nmse_inside", "sharpness")


def measure_title(name: str) -> str:
    """A measure in words, of a region with its name."""
    measure, sign, region = name.partition("@")
    title = _TITLES.get(measure, measure)
    return f"{title} ({region})" if sign else title


def measure_value(name: str, value: float, *, signed: bool = False) -> str:
    """A figure with as many digits as its measure has."""
    form = _FORMATS.get(name.partition("@")[0].removesuffix("_inside"), "{:.4f}")
    return (form.replace("{:", "{:+") if signed else form).format(value)


def difference_cells(one: Comparison) -> list[str]:
    """A comparison as text, in the order of `DIFFERENCES`."""
    people = one.people
    low, high = (
        None if end is None else measure_value(one.measure, end, signed=True)
        for end in (people.low, people.high)
    )
    return [
        one.candidate,
        measure_title(one.measure),
        measure_value(one.measure, people.mean, signed=True),
        f"{low} to {high}" if low and high else "too few subjects",
        "–" if one.p is None else f"{one.p:.2g}",
        f"{people.effect:+.2f}",
        f"{100 * one.share:.0f} %",
        str(people.n_subjects),
        str(people.n_images),
    ]


def difference_rows(found: Iterable[Comparison]) -> Iterator[list[object]]:
    """For CSV, in the order of the columns that the first row names."""
    yield [
        *("candidate", "against", "measure", "stratum", "value", "difference", "low_95", "high_95", "p_holm"),
        *("effect", "share_of_images", "subjects", "images"),
    ]
    for one in found:
        people = one.people
        ends = ("" if end is None else end for end in (people.low, people.high, one.p))
        yield [
            *(one.candidate, one.against, one.measure, one.stratum, one.value, people.mean, *ends),
            *(people.effect, one.share, people.n_subjects, people.n_images),
        ]


def verdict_cells(one: NonInferiority, measure: str) -> list[str]:
    """A verdict as text, in the order of `VERDICTS`."""
    return [
        one.candidate,
        measure_value(measure, one.mean, signed=True),
        "–" if one.bound is None else measure_value(measure, one.bound, signed=True),
        str(one.n_subjects),
        str(one.n_images),
        one.verdict,
    ]


def verdict_rows(result: Evaluation) -> Iterator[list[object]]:
    """For CSV, in the order of the columns that the first row names."""
    config = result.config.non_inferiority
    assert config is not None
    yield [
        "candidate",
        "against",
        "measure",
        "margin",
        "level",
        "gain",
        "bound",
        "subjects",
        "images",
        "verdict",
    ]
    for one in result.non_inferiority:
        settled = (config.against, config.measure, config.margin, config.level)
        bound = "" if one.bound is None else one.bound
        yield [one.candidate, *settled, one.mean, bound, one.n_subjects, one.n_images, one.verdict]


def point_rows(found: Iterable[Point]) -> Iterator[list[object]]:
    """For CSV, in the order of the columns that the first row names."""
    yield [
        *(
            "condition",
            "candidate",
            "measure",
            "first",
            "last",
            "at",
            "mean",
            "low_95",
            "high_95",
            "subjects",
        ),
        "images",
    ]
    for one in found:
        ends = ("" if end is None else end for end in (one.low, one.high))
        yield [
            *(one.condition, one.candidate, one.measure, one.first, one.last, one.at, one.mean, *ends),
            *(one.n_subjects, one.n_images),
        ]


def statistics_sections(result: Evaluation) -> list[Section]:
    """Tables over subjects, of volumes and regions, and of differences; those without rows are left out of pages."""
    made = []
    if "subject" in result.config.by:
        made.append(_table("Over subjects", "subjects", result.subjects, _VOLUME))
    if "volume" in result.config.by:
        rows = [one for one in summaries(result.volumes) if one.stratum == ALL]
        made.append(_table("Volumes", "volumes", rows, _VOLUME))
    if names := region_measures(result.counted):
        what = "volumes" if "volume" in result.config.by else "images"
        rows = [one for one in summaries(result.counted) if one.stratum == ALL]
        made.append(_table("Regions and contrast", what, rows, names))
    return [*made, *_differences(result), *_verdicts(result)]


def curve_sections(result: Evaluation) -> list[Section]:
    """A picture for each number of the scan."""
    conditions = list(dict.fromkeys(one.condition for one in result.points))
    parts: list[Part] = [
        Picture(
            curve_figure(result.points, name),
            "Means over the subjects of each group of scans; bands are 95 % intervals over subjects (BCa bootstrap), "
            f"and are missing where a group has fewer than {LEAST_SUBJECTS}.",
            f"Measures over {CONDITIONS.get(name, name)}",
        )
        for name in conditions
    ]
    return [Section("Robustness", parts)]


def _table(title: str, what: str, rows: Sequence[Summary], measures: Sequence[str]) -> Section:
    present = [name for name in measures if any(name in one.means for one in rows)]
    columns = ("candidate", what, *map(measure_title, present))
    cells = [(one.candidate, str(one.n), *(_cell(one, name) for name in present)) for one in rows]
    about = f"Mean ± standard deviation over the {what}."
    if what == "subjects":
        about = "Of each subject the mean over its images is taken first. " + about
    return Section(title, [Rows(columns, cells, frozenset(columns[1:])), Text(about)])


def _cell(one: Summary, name: str) -> str:
    if name not in one.means:
        return "–"
    mean = measure_value(name, one.means[name])
    return mean if one.n == 1 else f"{mean} ± {measure_value(name, one.deviations[name])}"


def _differences(result: Evaluation) -> list[Section]:
    reference = result.config.compared_with
    warned: list[Part] = [Messages([("warning", one) for one in result.remarks])] if result.remarks else []
    found = result.comparisons
    if reference is None or not found:
        return [Section("Differences", warned)]
    what = "volumes" if "volume" in result.config.by else "images"
    chosen = "the configuration names" if result.config.reference else "is the first that learned nothing"
    about = Text(
        f"Each candidate less {reference}, which {chosen}. The unit is the subject: the differences of a subject's "
        f"{what} are averaged first. Intervals: BCa bootstrap over subjects, of {LEAST_SUBJECTS} at least. p: "
        "Wilcoxon's signed-rank test over subjects, corrected by Holm's method over the candidates. Effect: "
        f"rank-biserial correlation, −1 to 1. Better: share of the {what} on which the candidate is better. "
        f"Compared: the {what} that both made. Of a trained candidate there is one seed: nothing tells of others."
    )
    rows = [difference_cells(one) for one in found if one.stratum == ALL]
    made = [
        Section(
            f"Differences to {reference}",
            [*warned, Rows(DIFFERENCES, rows, frozenset(DIFFERENCES[2:])), about],
        )
    ]
    columns = ("stratum", "value", *DIFFERENCES)
    rows = [[one.stratum, one.value, *difference_cells(one)] for one in found if one.stratum != ALL]
    if rows:
        made.append(
            Section(f"Differences to {reference}, by stratum", [Rows(columns, rows, frozenset(columns[4:]))])
        )
    return made


def _verdicts(result: Evaluation) -> list[Section]:
    config = result.config.non_inferiority
    if config is None or not result.non_inferiority:
        return []
    about = Text(
        f"Margin, settled in the configuration: {config.margin:g} of {measure_title(config.measure)}. Not inferior "
        f"to {config.against}: the lower bound of the one-sided {100 * config.level:g} % interval of the gain (BCa "
        "bootstrap over subjects; positive is better) lies above minus the margin. Not shown is no proof of the "
        "opposite. Each verdict stands for itself: nothing is corrected for their number."
    )
    rows = [verdict_cells(one, config.measure) for one in result.non_inferiority]
    return [Section("Non-inferiority", [Rows(VERDICTS, rows, frozenset(VERDICTS[1:5])), about])]
