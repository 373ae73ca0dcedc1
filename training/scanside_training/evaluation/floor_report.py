"""Learned images against the classical floor, as parts of a report."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from scanside.report.page import Part, Picture, Rows, Section, Text
from scanside_training.evaluation.floor import COMPARED, FloorConfig, Group, Verdict, grouped, verdicts
from scanside_training.evaluation.pictures import Shown, case_figure
from scanside_training.evaluation.scores import Score
from scanside_training.evaluation.self_checks import MATTERS_DB, decisions

__all__ = ["SHARES", "floor_json", "floor_sections", "share_cells"]

SHARES = ("scans", "worse", "told", "untold", "fallback")
"""Columns of what became of the scans."""

_TITLES = {"psnr": "PSNR, dB", "psnr_inside": "PSNR inside, dB", "ssim_inside": "SSIM inside"}
_FORMS = {"ssim_inside": "{:+.3f} ± {:.3f}"}


def share_cells(group: Group) -> list[str]:
    """How many scans, on how many the learned image is worse and if that is told, and how often it did not go out."""
    n, worse = len(group.verdicts), len(group.worse)
    share = f"{worse} ({100 * worse / n:.0f} %)"
    fallbacks = sum(one.is_fallback for one in group.verdicts)
    return [str(n), share, str(worse - group.untold), str(group.untold), str(fallbacks)]


def floor_json(scores: Sequence[Score], config: FloorConfig) -> dict[str, Any]:
    """Verdicts, and their means by group."""
    found = verdicts(scores, config)
    return {
        "groups": [
            {
                "learned": group.learned,
                "stratum": group.stratum,
                "value": group.value,
                "n": len(group.verdicts),
                "n_worse": len(group.worse),
                "n_untold": group.untold,
                "n_fallback": sum(one.is_fallback for one in group.verdicts),
                **{
                    f"{measure}_over_{rival}": group.difference(rival, measure)
                    for rival in _rivals(config)
                    for measure in COMPARED
                },
            }
            for group in grouped(found, scores)
        ],
        "verdicts": [asdict(one) | {"is_told": one.is_told} for one in found],
    }


def floor_sections(scores: Sequence[Score], config: FloorConfig, worst: Sequence[Shown]) -> list[Section]:
    """Tables over all scans and by level, a list of the worst, and their pictures."""
    found = verdicts(scores, config)
    if not found:
        return []
    groups = grouped(found, scores)
    differences = [
        f"{_TITLES[measure]}, over {_named(rival, config)}"
        for rival in _rivals(config)
        for measure in COMPARED
    ]
    columns = ("candidate", *SHARES, *differences)
    rows = [
        (group.learned, *share_cells(group), *_differences(group, config))
        for group in groups
        if not group.stratum
    ]
    about = Text(
        f"The floor is the best of {', '.join(config.classical)} on each scan. Worse: more than {config.margin:g} dB "
        "below it, PSNR over the whole image. Told: an operator could know, by the fallback, a note on fitness, or a "
        "warning that classical images do not have. Mean ± standard deviation of the differences over the scans."
    )
    made = [Section("Learned against classical", [about, Rows(columns, rows, frozenset(columns[1:]))])]
    columns = ("factor", "level", "candidate", *SHARES, *differences)
    rows = [
        (group.stratum, group.value, group.learned, *share_cells(group), *_differences(group, config))
        for group in groups
        if group.stratum
    ]
    made.append(Section("Learned against classical, by level", [Rows(columns, rows, frozenset(columns[3:]))]))
    below = sorted((one for one in found if one.is_worse), key=lambda one: one.over_classical["psnr"])
    columns = ("scan", "candidate", "PSNR, dB", "below the floor, dB", "floor", "told")
    rows = [_row(one) for one in below]
    made.append(Section("Below the floor", [Rows(columns, rows, frozenset(columns[2:4]))] if rows else []))
    made += _self_checks(scores, config)
    pictures: list[Part] = []
    for shown in worst:
        about_case = ", ".join(f"{name} {value}" for name, value in shown.case.strata.items())
        pictures.append(Picture(case_figure(shown), f"{shown.case.name} ({about_case})", shown.case.name))
    made.append(Section("The worst", pictures))
    return made


def _self_checks(scores: Sequence[Score], config: FloorConfig) -> list[Section]:
    """What checks without the truth say beside it; nothing where there were none whose images can be compared."""
    found = decisions(scores, config)
    if not found:
        return []
    about = Text(
        "Right: of the learned image and the classical one that it was checked against, the better one would go "
        f"out. Images that differ by less than {MATTERS_DB:g} dB do not count."
    )
    columns = ("candidate", "checked", "would not go out", "differ", "right", "wrong")
    rows = []
    for one in found:
        right = f"{one.n_right} ({100 * one.n_right / one.n_differ:.0f} %)" if one.n_differ else "–"
        counts = (str(one.n_checked), str(one.n_behind), str(one.n_differ))
        rows.append((one.learned, *counts, right, ", ".join(one.wrong) or "none"))
    return [Section("Self-check", [about, Rows(columns, rows, frozenset(columns[1:5]))])]


def _rivals(config: FloorConfig) -> tuple[str, ...]:
    return ("classical", "tuned") if config.tuned else ("classical",)


def _named(rival: str, config: FloorConfig) -> str:
    return "the floor" if rival == "classical" else str(config.tuned)


def _differences(group: Group, config: FloorConfig) -> list[str]:
    cells = []
    for rival in _rivals(config):
        for measure in COMPARED:
            found = group.difference(rival, measure)
            form = _FORMS.get(measure, "{:+.2f} ± {:.2f}")
            cells.append("–" if found is None else form.format(*found[:2]))
    return cells


def _row(one: Verdict) -> tuple[str, ...]:
    told = "; ".join(f"{kind}: {' '.join(texts)}" for kind, texts in one.told.items())
    return (
        one.case,
        one.learned,
        f"{one.psnr:.2f}",
        f"{-one.over_classical['psnr']:.2f}",
        one.classical,
        told or "nothing",
    )
