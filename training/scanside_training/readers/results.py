"""What a reader study says: agreement, scores, differences, non-inferiority and preferences.

Subjects are counted, not images: what is compared of a subject is averaged over its cases first.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from statistics import median

import numpy as np
from scipy import stats

from scanside_training.evaluation.paired import PairedDifference, holm, paired_difference
from scanside_training.readers.agreement import (
    Estimate,
    Icc,
    fleiss_kappa,
    intraclass,
    over_targets,
    weighted_kappa,
)
from scanside_training.readers.differences import LEVEL, MeanDifference, mean_difference
from scanside_training.readers.form import AnyQuestion, FreeText, Likert, Preference, Scored, Value
from scanside_training.readers.power import Power, estimate_power
from scanside_training.readers.readings import Readings
from scanside_training.readers.study import ReaderStudy

__all__ = [
    "Agreement",
    "Answer",
    "Difference",
    "Liking",
    "ReaderResults",
    "Score",
    "Standing",
    "read_results",
]


@dataclass(frozen=True)
class Answer:
    """One answer of a finished trial.

    Attributes:
        reader: whose.
        trial: number of the trial in the reader's order.
        again: whether it was shown before.
        case: which case.
        subject: whose case.
        methods: what was shown, from left to right.
        method: what the answer is about; empty of a pair.
        question: name of the question.
        value: the answer; of a preference the preferred method, or ``same``.
    """

    reader: str
    trial: int
    again: bool
    case: str
    subject: str
    methods: tuple[str, ...]
    method: str
    question: str
    value: Value

    @property
    def target(self) -> tuple[str, ...]:
        """What was judged, whichever side it was on."""
        return (self.case, *sorted(self.methods), self.method)


@dataclass(frozen=True)
class Standing:
    """How far a reader is: trials finished and in all, and the median seconds of one; None before the first."""

    reader: str
    finished: int
    total: int
    seconds: float | None


@dataclass(frozen=True)
class Score:
    """Answers on a method, or on a pair of them.

    Attributes:
        question: name of the question.
        method: what was judged.
        counts: by answer, in the order of the form.
        mean: of scored questions, over subjects of the means over readers; None of others.
        deviation: standard deviation over the subjects.
        n_subjects: subjects.
    """

    question: str
    method: str
    counts: Mapping[str, int]
    mean: float | None
    deviation: float | None
    n_subjects: int


@dataclass(frozen=True)
class Agreement:
    """Of readers with each other, or of one with itself where something was shown twice.

    Attributes:
        question: name of the question.
        reader: who is compared with itself; empty of all with each other.
        icc: of scored questions, between readers.
        kappa: Fleiss' kappa between readers; Cohen's of one reader, by squared distances on a scale.
        same: share of equal answers of one reader.
        n_targets: what was judged by all readers, or twice by one.
        n_left_out: what was not judged by all.
    """

    question: str
    reader: str
    icc: Icc | None
    kappa: Estimate
    same: float | None
    n_targets: int
    n_left_out: int = 0


@dataclass(frozen=True)
class Difference:
    """Two methods in a scored question; above 0 the first is better.

    Attributes:
        question: name of the question.
        first: a method.
        second: another, or the control.
        overall: mean with intervals, readers and subjects at random.
        tested: over subjects, of means over readers.
        p: of Wilcoxon's signed-rank test, corrected by Holm over the question's pairs.
        margin: of non-inferiority against the second as a control; None where that was not to be shown.
        p_noninferior: of its test, corrected by Holm over the methods.
        noninferior: whether it is shown; None where there are too few subjects.
        n_left_out: subjects that were not read with both methods by all readers.
    """

    question: str
    first: str
    second: str
    overall: MeanDifference
    tested: PairedDifference
    p: float | None = None
    margin: float | None = None
    p_noninferior: float | None = None
    noninferior: bool | None = None
    n_left_out: int = 0


@dataclass(frozen=True)
class Liking:
    """Which of two methods is preferred.

    Attributes:
        question: name of the question.
        first: a method.
        second: another.
        votes_first: answers for the first.
        votes_second: answers for the second.
        votes_same: answers for neither.
        subjects_first: subjects with more votes for the first.
        subjects_second: subjects with more votes for the second.
        subjects_same: subjects with as many for both.
        share: of subjects that prefer the first among those that prefer one, with Wilson's interval.
        p: of the sign test over subjects, corrected by Holm over the question's pairs; None where none prefers one.
    """

    question: str
    first: str
    second: str
    votes_first: int
    votes_second: int
    votes_same: int
    subjects_first: int
    subjects_second: int
    subjects_same: int
    share: Estimate
    p: float | None


@dataclass(frozen=True)
class ReaderResults:
    """What came out.

    Attributes:
        study: that was read.
        answers: all of finished trials.
        standings: of the readers.
        scores: by question and method.
        agreements: between readers, and of each with itself.
        differences: of scored questions.
        likings: of preferences.
        powers: that were estimated beforehand.
        n_open: answers of trials that are not finished, which do not count.
    """

    study: ReaderStudy
    answers: list[Answer]
    standings: list[Standing]
    scores: list[Score] = field(default_factory=list)
    agreements: list[Agreement] = field(default_factory=list)
    differences: list[Difference] = field(default_factory=list)
    likings: list[Liking] = field(default_factory=list)
    powers: list[Power] = field(default_factory=list)
    n_open: int = 0


def read_results(study: ReaderStudy) -> ReaderResults:
    """Count what is answered so far; the study may go on.

    Raises:
        FileFormatError: the journal is not one of this study.
    """
    readings = Readings(study, study.answers())
    answers, standings, n_open = [], [], 0
    for reader, those in readings.by_reader.items():
        finished = [one.seconds for one in those if one.seconds is not None]
        n_open += sum(len(one.answers) for one in those if one.seconds is None)
        standings.append(Standing(reader, len(finished), len(those), median(finished) if finished else None))
        answers += _answers_of(study, readings, reader)
    result = ReaderResults(study, answers, standings, powers=estimate_power(study), n_open=n_open)
    for question in study.form.questions:
        own = [one for one in answers if one.question == question.name]
        if not own or isinstance(question, FreeText):
            continue
        once = [one for one in own if not one.again]
        result.scores.extend(_scores(study, question, once))
        if between := _between(question, once):
            result.agreements.append(between)
        result.agreements.extend(_within(question, own))
        if isinstance(question, Scored) and question.of == "image":
            result.differences.extend(_differences(study, question, once))
        if isinstance(question, Preference):
            result.likings.extend(_likings(study, question, once))
    return result


def _answers_of(study: ReaderStudy, readings: Readings, reader: str) -> list[Answer]:
    found = []
    for number, (trial, reading) in enumerate(
        zip(study.trials(reader), readings.by_reader[reader], strict=True)
    ):
        if reading.seconds is None:
            continue
        for (question, pane), value in reading.answers.items():
            method = "" if pane is None else trial.methods[pane]
            if isinstance(study.form.question(question), Preference) and value != "same":
                value = trial.methods[value == "right"]
            subject = study.subject(trial.case)
            found.append(
                Answer(
                    reader, number, trial.again, trial.case, subject, trial.methods, method, question, value
                )
            )
    return found


def _scores(study: ReaderStudy, question: AnyQuestion, answers: Sequence[Answer]) -> list[Score]:
    if isinstance(question, Preference):
        return []
    groups: dict[str, list[Answer]] = {}
    for one in answers:
        groups.setdefault(
            one.method or " and ".join(sorted(one.methods, key=study.methods.index)), []
        ).append(one)
    order = {name: place for place, name in enumerate(study.methods)}
    found = []
    for method, own in sorted(groups.items(), key=lambda item: (order.get(item[0], len(order)), item[0])):
        counted = Counter(one.value for one in own)
        counts = {str(value): counted[value] for value, _ in question.options}
        means = _means(own, lambda one: one.subject, question.number) if isinstance(question, Scored) else {}
        mean = deviation = None
        if means:
            mean = float(np.mean(list(means.values())))
            deviation = float(np.std(list(means.values()), ddof=1)) if len(means) > 1 else None
        found.append(Score(question.name, method, counts, mean, deviation, len({one.subject for one in own})))
    return found


def _means(
    answers: Sequence[Answer], key: Callable[[Answer], str], number: Callable[[Value], float]
) -> dict[str, float]:
    groups: dict[str, list[float]] = {}
    for one in answers:
        groups.setdefault(key(one), []).append(number(one.value))
    return {name: float(np.mean(values)) for name, values in groups.items()}


def _between(question: AnyQuestion, answers: Sequence[Answer]) -> Agreement | None:
    """Of readers with each other, on what all have judged; None of one reader, or where nothing is common."""
    readers = list(dict.fromkeys(one.reader for one in answers))
    by_target: dict[tuple[str, ...], dict[str, Answer]] = {}
    for one in answers:
        by_target.setdefault(one.target, {})[one.reader] = one
    common = [judged for judged in by_target.values() if len(judged) == len(readers)]
    if len(readers) < 2 or not common:
        return None
    values = list(dict.fromkeys(one.value for one in answers))
    counts = np.array(
        [[sum(one.value == value for one in judged.values()) for value in values] for judged in common],
        np.int64,
    )
    subjects = [next(iter(judged.values())).subject for judged in common]
    kappa = over_targets(lambda chosen: fleiss_kappa(counts[list(chosen)]), subjects)
    icc = None
    if isinstance(question, Scored) and len(common) > 1:
        icc = intraclass(
            np.array([[question.number(judged[name].value) for name in readers] for judged in common])
        )
    return Agreement(question.name, "", icc, kappa, None, len(common), len(by_target) - len(common))


def _within(question: AnyQuestion, answers: Sequence[Answer]) -> list[Agreement]:
    """Of each reader with itself, on what was shown twice."""
    found = []
    for reader in dict.fromkeys(one.reader for one in answers):
        own = [one for one in answers if one.reader == reader]
        second = {one.target: one for one in own if one.again}
        first = {one.target: one for one in own if not one.again}
        twice = [target for target in second if target in first]
        if not twice:
            continue
        values = [value for value, _ in question.options]
        if isinstance(question, Preference):
            values = list(dict.fromkeys(one.value for one in own))
        a, b = ([values.index(judged[target].value) for target in twice] for judged in (first, second))

        def agreed(chosen: Sequence[int], a: Sequence[int] = a, b: Sequence[int] = b) -> float | None:
            return weighted_kappa(
                [a[i] for i in chosen], [b[i] for i in chosen], ordered=isinstance(question, Likert)
            )

        kappa = over_targets(agreed, [first[target].subject for target in twice])
        same = float(np.mean(np.array(a) == np.array(b)))
        found.append(Agreement(question.name, reader, None, kappa, same, len(twice)))
    return found


def _differences(study: ReaderStudy, question: Scored, answers: Sequence[Answer]) -> list[Difference]:
    """Of all pairs of methods; where one is the control, against it."""
    control = question.noninferiority.control if question.noninferiority else None
    sign = 1.0 if question.better == "high" else -1.0
    found = []
    for pair in combinations(study.methods, 2):
        first, second = pair[::-1] if pair[0] == control else pair
        one, other = (
            _by_reader_and_subject(question, [answer for answer in answers if answer.method == name])
            for name in (first, second)
        )
        both = {key: sign * (one[key] - other[key]) for key in one if key in other}
        readers = sorted({reader for reader, _ in both})
        subjects = sorted({subject for _, subject in both})
        whole = [subject for subject in subjects if all((reader, subject) in both for reader in readers)]
        if not whole:
            continue
        matrix = np.array([[both[reader, subject] for subject in whole] for reader in readers])
        tested = paired_difference({subject: matrix[:, i].tolist() for i, subject in enumerate(whole)})
        overall = mean_difference(matrix)
        n_left_out = len({answer.subject for answer in answers}) - len(whole)
        found.append(Difference(question.name, first, second, overall, tested, n_left_out=n_left_out))
    return _judged(question, found)


def _by_reader_and_subject(question: Scored, answers: Sequence[Answer]) -> dict[tuple[str, str], float]:
    groups: dict[tuple[str, str], list[float]] = {}
    for one in answers:
        groups.setdefault((one.reader, one.subject), []).append(question.number(one.value))
    return {key: float(np.mean(values)) for key, values in groups.items()}


def _judged(question: Scored, found: Sequence[Difference]) -> list[Difference]:
    """With p values, corrected, and what they say of non-inferiority."""
    ps = _corrected([one.tested.p for one in found])
    wanted = question.noninferiority
    held = [wanted is not None and one.second == wanted.control for one in found]
    against = [
        one.overall.worse_by_less(wanted.margin) if wanted and is_held else None
        for one, is_held in zip(found, held, strict=True)
    ]
    judged = []
    for one, p, is_held, p_worse in zip(found, ps, held, _corrected(against), strict=True):
        judged.append(
            Difference(
                one.question,
                one.first,
                one.second,
                one.overall,
                one.tested,
                p,
                margin=wanted.margin if wanted and is_held else None,
                p_noninferior=p_worse,
                noninferior=None if p_worse is None else p_worse <= LEVEL,
                n_left_out=one.n_left_out,
            )
        )
    return judged


def _corrected(ps: Sequence[float | None]) -> list[float | None]:
    """By Holm, over those that are there."""
    there = iter(holm([p for p in ps if p is not None]))
    return [None if p is None else next(there) for p in ps]


def _likings(study: ReaderStudy, question: Preference, answers: Sequence[Answer]) -> list[Liking]:
    found: list[tuple[Liking, float | None]] = []
    for first, second in combinations(study.methods, 2):
        own = [one for one in answers if set(one.methods) == {first, second}]
        if not own:
            continue
        votes: dict[str, int] = {}
        for one in own:
            votes[one.subject] = votes.get(one.subject, 0) + (one.value == first) - (one.value == second)
        ahead, behind = sum(n > 0 for n in votes.values()), sum(n < 0 for n in votes.values())
        share, p = Estimate(None), None
        if ahead + behind:
            test = stats.binomtest(ahead, ahead + behind)
            interval = test.proportion_ci(method="wilson")
            share = Estimate(ahead / (ahead + behind), float(interval.low), float(interval.high))
            p = float(test.pvalue)
        counted = Counter(one.value for one in own)
        liking = Liking(
            question.name,
            first,
            second,
            counted[first],
            counted[second],
            counted["same"],
            ahead,
            behind,
            len(votes) - ahead - behind,
            share,
            None,
        )
        found.append((liking, p))
    corrected = _corrected([p for _, p in found])
    return [Liking(**{**vars(one), "p": p}) for (one, _), p in zip(found, corrected, strict=True)]
