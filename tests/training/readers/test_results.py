"""Results of played readers: what they say is known."""

from __future__ import annotations

import csv
import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats
from tests.training.readers.conftest import LIKERT, METHODS, PREFERENCE, REMARK, YES_NO, form_of, read_all

from scanside_training.readers import read_results, write_results
from scanside_training.readers.agreement import intraclass
from scanside_training.readers.journal import ANSWERS
from scanside_training.readers.results import Answer
from scanside_training.readers.study import ReaderStudy

Make = Callable[..., ReaderStudy]
GOOD, PLAIN, BAD = METHODS


def steady(quality: dict[str, int], seed: int = 0, spread: int = 1) -> Callable[..., Any]:
    """Readers who see a method's quality, and add chance of their own."""
    lots = np.random.default_rng(seed)

    def answer(reader: str, trial: Any, question: str, pane: int | None) -> Any:
        if question == "better":
            left, right = (quality[name] for name in trial.methods)
            return "left" if left > right else "right" if right > left else "same"
        if question == "artefacts":
            return "no" if quality[trial.methods[pane or 0]] > 3 else "yes"
        if question == "remark":
            return "ringing" if trial.methods[pane or 0] == BAD else ""
        return int(np.clip(quality[trial.methods[pane or 0]] + lots.integers(-spread, spread + 1), 1, 5))

    return answer


def test_scores_and_differences_are_those_of_the_answers(make_study: Make) -> None:
    study = make_study(form_of(questions=[LIKERT, YES_NO], repeats=0.25), METHODS, n_cases=16)
    read_all(study, steady({GOOD: 4, PLAIN: 3, BAD: 2}))
    result = read_results(study)
    assert [(one.finished, one.total) for one in result.standings] == [(60, 60)] * 2
    assert result.standings[0].seconds == 2.0

    def mean(method: str, reader: str, case: str) -> float:
        values = [
            one.value
            for one in result.answers
            if (one.method, one.reader, one.case, one.question, one.again)
            == (method, reader, case, "quality", False)
        ]
        assert len(values) == 1
        return float(values[0])

    cases = list(study.document.cases)
    means = {name: [(mean(name, "anna", c) + mean(name, "ben", c)) / 2 for c in cases] for name in METHODS}
    scores = {one.method: one for one in result.scores if one.question == "quality"}
    for name in METHODS:
        assert scores[name].mean == pytest.approx(np.mean(means[name]))
        assert scores[name].deviation == pytest.approx(np.std(means[name], ddof=1))
        assert sum(scores[name].counts.values()) == 32  # second showings do not count
    found = {(one.first, one.second): one for one in result.differences if one.question == "quality"}
    ps = []
    for (first, second), one in found.items():
        differences = np.subtract(means[first], means[second])
        assert one.overall.mean == pytest.approx(differences.mean())
        assert (one.overall.n_readers, one.overall.n_subjects, one.n_left_out) == (2, 16, 0)
        ps.append(stats.wilcoxon(differences).pvalue)
    corrected = np.maximum.accumulate(np.sort(ps) * [3, 2, 1])
    assert sorted(one.p or 0 for one in found.values()) == pytest.approx(sorted(corrected))
    # Artefacts are better low: the method without them is ahead.
    artefacts = {(one.first, one.second): one for one in result.differences if one.question == "artefacts"}
    assert artefacts[GOOD, BAD].overall.mean == 1
    assert artefacts[PLAIN, BAD].overall.mean == 0


def test_agreement_is_that_of_the_answers(make_study: Make) -> None:
    study = make_study(form_of(repeats=0.5), METHODS, n_cases=6)
    read_all(study, steady({GOOD: 4, PLAIN: 3, BAD: 2}, seed=2))
    result = read_results(study)
    between = {one.question: one for one in result.agreements if not one.reader}
    table: dict[tuple[str, ...], dict[str, float]] = {}
    for one in result.answers:
        if one.question == "quality" and not one.again:
            table.setdefault((one.case, one.method), {})[one.reader] = float(one.value)
    expected = intraclass(np.array([[row["anna"], row["ben"]] for row in table.values()]))
    assert between["quality"].icc == expected
    assert between["quality"].n_targets == 18
    assert between["artefacts"].kappa.value == pytest.approx(1)
    assert between["artefacts"].icc is not None
    assert between["artefacts"].icc.single.value == 1
    within = {(one.question, one.reader): one for one in result.agreements if one.reader}
    assert within["artefacts", "anna"].same == 1
    assert within["quality", "ben"].n_targets == 9
    assert within["quality", "ben"].kappa.low is not None


def test_noninferiority_is_shown_by_the_margin(make_study: Make) -> None:
    wanted = {"control": GOOD, "margin": 1}
    questions = [LIKERT | {"noninferiority": wanted}, YES_NO | {"noninferiority": wanted | {"margin": 0.3}}]
    study = make_study(form_of(readers=["a", "b", "c"], questions=questions), METHODS, n_cases=18)
    read_all(study, steady({GOOD: 4, PLAIN: 4, BAD: 2}, seed=3))
    found = {(one.question, one.first, one.second): one for one in read_results(study).differences}
    good, bad = found["quality", PLAIN, GOOD], found["quality", BAD, GOOD]
    assert (good.margin, good.noninferior, bad.noninferior) == (1, True, False)
    assert good.overall.low is not None
    assert good.overall.low > -1
    raw = good.overall.worse_by_less(1)
    assert raw is not None
    assert good.p_noninferior == pytest.approx(2 * raw)  # Holm, of two methods
    assert found["quality", PLAIN, BAD].margin is None
    # Better is low here, and the margin has the same sign.
    assert found["artefacts", PLAIN, GOOD].noninferior is True
    assert found["artefacts", BAD, GOOD].noninferior is False


def test_subjects_are_counted_and_not_cases(make_study: Make) -> None:
    subjects = {number: f"p{number // 4}" for number in range(12)}
    study = make_study(n_cases=12, subjects=subjects)
    read_all(study, steady({GOOD: 4, PLAIN: 3}))
    result = read_results(study)
    (one,) = [one for one in result.differences if one.question == "quality"]
    assert one.overall.n_subjects == 3
    assert one.p is None  # too few for Wilcoxon's test
    assert result.scores[0].n_subjects == 3


def test_preferences(make_study: Make) -> None:
    form = form_of(mode="side-by-side", questions=[PREFERENCE, LIKERT], repeats=0.5)
    study = make_study(form, METHODS, n_cases=10)
    quality = {GOOD: 5, PLAIN: 3, BAD: 3}

    def answer(reader: str, trial: Any, question: str, pane: int | None) -> Any:
        if question == "better" and trial.case in ("casus00", "casus01") and GOOD in trial.methods:
            return (
                "left" if trial.methods[1] == GOOD else "right"
            )  # two cases where the good one is not liked
        return steady(quality, spread=0)(reader, trial, question, pane)

    read_all(study, answer)
    result = read_results(study)
    found = {(one.first, one.second): one for one in result.likings}
    one = found[GOOD, PLAIN]
    assert (one.votes_first, one.votes_second, one.votes_same) == (16, 4, 0)
    assert (one.subjects_first, one.subjects_second) == (8, 2)
    # Wilson's interval of 8 of 10, and the sign test by hand: 2 (1 + 10 + 45) / 1024, of two comparisons.
    assert (one.share.value, one.share.low, one.share.high) == pytest.approx((0.8, 0.490, 0.943), abs=1e-3)
    assert one.p == pytest.approx(2 * 112 / 1024)
    same = found[PLAIN, BAD]
    assert (same.votes_same, same.share.value, same.p) == (20, None, None)
    # Sides are changed when something is shown again, and a steady reader still agrees with itself.
    within = [one for one in result.agreements if one.reader and one.question == "better"]
    assert [one.same for one in within] == [1.0, 1.0]
    assert within[0].kappa.value == pytest.approx(1)
    # In pairs a method is rated several times for each case.
    assert {one.method: sum(one.counts.values()) for one in result.scores} == dict.fromkeys(METHODS, 40)


def test_what_is_not_finished_does_not_count(make_study: Make, caplog: pytest.LogCaptureFixture) -> None:
    study = make_study(n_cases=6)
    read_all(study, steady({GOOD: 4, PLAIN: 3}), ("anna",))
    lines = (study.folder / ANSWERS).read_bytes().splitlines(keepends=True)
    (study.folder / ANSWERS).write_bytes(b"".join(lines[:-1]) + lines[-1][:20])
    with caplog.at_level(logging.WARNING):
        result = read_results(study)
    assert "is not whole" in caplog.text
    assert [(one.finished, one.total) for one in result.standings] == [(11, 12), (0, 12)]
    assert result.n_open == 2
    assert len(result.answers) == 22
    (quality, _) = result.differences
    # One subject lacks an answer: it is left out, and said to be.
    assert (quality.overall.n_readers, quality.overall.n_subjects, quality.n_left_out) == (1, 5, 1)
    assert not [one for one in result.agreements if not one.reader]


def test_nothing_read_yet(make_study: Make, tmp_path: Path) -> None:
    result = read_results(make_study())
    assert result.answers == result.differences == result.agreements == result.scores == []
    write_results(result, tmp_path / "out")
    assert "not everything is read yet: anna, ben" in (tmp_path / "out" / "report.html").read_text("utf-8")


def test_what_is_written(make_study: Make, tmp_path: Path) -> None:
    wanted = {"control": GOOD, "margin": 0.5, "power": {"sd": 0.7}}
    choice = {
        "name": "where",
        "kind": "choice",
        "text": "Where is it worst?",
        "choices": ["left", "right"],
        "of": "pair",
    }
    questions = [LIKERT | {"noninferiority": wanted}, YES_NO, PREFERENCE, choice, REMARK]
    study = make_study(form_of(mode="side-by-side", questions=questions, repeats=0.3), METHODS, n_cases=8)
    base = steady({GOOD: 4, PLAIN: 3, BAD: 2})
    read_all(study, lambda *asked: "right" if asked[2] == "where" else base(*asked))
    result = read_results(study)
    write_results(result, tmp_path / "out")
    document = json.loads((tmp_path / "out" / "results.json").read_text("utf-8"))
    assert document["form"]["questions"][0]["noninferiority"]["margin"] == 0.5
    assert document["notice"] == "Research use only"
    assert {one["question"] for one in document["agreements"]} == {"quality", "artefacts", "better", "where"}
    assert len(document["powers"]) == 1
    with (tmp_path / "out" / "answers.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(result.answers)
    # The preferred method is told, and not the side that it was on.
    assert {row["answer"] for row in rows if row["question"] == "better"} == {GOOD, PLAIN}
    with (tmp_path / "out" / "scores.csv").open(newline="", encoding="utf-8") as file:
        counted = sum(int(row["n"]) for row in csv.DictReader(file) if row["question"] == "quality")
    assert counted == 2 * 2 * 3 * 8
    html = (tmp_path / "out" / "report.html").read_text("utf-8")
    for text in (
        "Research use only",
        "ringing",
        "How good is the image?",
        "ICC(2,1)",
        "no worse",
        "% power to show",
    ):
        assert text in html, text
    assert html.count("<img") == 6


def test_target_does_not_depend_on_sides() -> None:
    one = Answer("a", 0, False, "c", "c", ("m", "n"), "m", "q", 1)
    other = Answer("a", 9, True, "c", "c", ("n", "m"), "m", "q", 1)
    assert one.target == other.target
